import type { CertificateFacts, Instant, Strategy } from '../rotation.ts'
import { listed, visible } from './escape.ts'
import { noPaint, wrapped } from './paint.ts'
import { daysText, type TextOptions } from './status.ts'

/** An anchor or issuer that was found, and who uses it. */
export interface InspectedCertificate
  extends Pick<CertificateFacts, 'sha256' | 'subject' | 'key' | 'notBefore' | 'notAfter'> {
  readonly use: 'anchor' | 'issuer' | 'anchor and issuer'
  /** Where it was found: `Secret istio-system/cacerts: root-cert.pem`, files. */
  readonly places: readonly string[]
  /** Who trusts or presents it: `412 sidecars`, `istiod`. */
  readonly usedBy: readonly string[]
  /** The last day on which a rotation can start and be over in time, or null where that is past all doubt. */
  readonly startBy: Instant | null
  readonly remarks: readonly string[]
}

export interface InspectView {
  readonly now: Instant
  /** Milliseconds of `--within`; null: not asked. */
  readonly within: number | null
  readonly certificates: readonly InspectedCertificate[]
  readonly strategies: readonly { readonly strategy: Strategy; readonly fits: boolean; readonly why: string }[]
  /** What could not be looked at, and objects that other managers own: one sentence each. */
  readonly remarks: readonly string[]
}

/** The certificates that end within the time that was asked for: these make the command exit with 4. */
export function endingWithin(view: InspectView): readonly InspectedCertificate[] {
  const { within } = view
  if (within === null) return []
  return view.certificates.filter(certificate => Date.parse(certificate.notAfter) <= Date.parse(view.now) + within)
}

export function inspectText(view: InspectView, options: TextOptions = {}): string {
  const paint = options.paint ?? noPaint
  const width = options.width ?? 100
  const lines: string[] = []
  const ending = new Set(endingWithin(view).map(certificate => certificate.sha256))
  if (view.certificates.length === 0) lines.push('no anchor and no issuer was found')
  for (const certificate of view.certificates) {
    const ended = Date.parse(certificate.notAfter) < Date.parse(view.now)
    const end = `ends ${certificate.notAfter} (${daysText(certificate.notAfter, view.now)})`
    lines.push(`${paint.strong(visible(certificate.subject))}  ${certificate.use}, ${visible(certificate.key)}`)
    lines.push(`  SHA-256   ${certificate.sha256}`)
    lines.push(
      `  validity  from ${certificate.notBefore}, ${ended || ending.has(certificate.sha256) ? paint.bad(end) : end}`,
    )
    if (certificate.startBy !== null)
      lines.push(`  start by  ${certificate.startBy.slice(0, 10)} (${daysText(certificate.startBy, view.now)})`)
    if (certificate.places.length > 0)
      lines.push(wrapped(`  found in  ${listed(certificate.places.map(visible), 6)}`, width, '            '))
    if (certificate.usedBy.length > 0)
      lines.push(wrapped(`  used by   ${listed(certificate.usedBy.map(visible), 8)}`, width, '            '))
    for (const remark of certificate.remarks)
      lines.push(paint.wait(wrapped(`  !         ${visible(remark)}`, width, '            ')))
    lines.push('')
  }
  if (view.strategies.length > 0) {
    lines.push(paint.strong('strategies'))
    for (const { strategy, fits, why } of view.strategies) {
      const text = wrapped(`  ${fits ? '√' : '×'} ${strategy.padEnd(9)} ${visible(why)}`, width, '              ')
      lines.push(fits ? paint.good(text) : paint.faint(text))
    }
    lines.push('')
  }
  for (const remark of view.remarks) lines.push(wrapped(`! ${visible(remark)}`, width, '  '))
  return `${lines.join('\n').trimEnd()}\n`
}
