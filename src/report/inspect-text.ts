import type { TimeLeft } from '../plan/time-left.ts'
import type { CertificateFacts, Instant, Strategy } from '../rotation.ts'
import { listed, plural, visible } from './escape.ts'
import { noPaint, wrapped } from './paint.ts'
import { spanText } from './span.ts'
import { daysText, type TextOptions } from './status.ts'

/** An anchor or issuer that was found, and who uses it. */
export interface InspectedCertificate
  extends Pick<CertificateFacts, 'sha256' | 'subject' | 'key' | 'notBefore' | 'notAfter'> {
  readonly use: 'anchor' | 'issuer' | 'anchor and issuer'
  /** Where it was found: `Secret istio-system/cacerts: root-cert.pem`, files. */
  readonly places: readonly string[]
  /** Who trusts or presents it: `412 sidecars`, `istiod`. */
  readonly usedBy: readonly string[]
  /**
   * The last instants at which a graceful rotation can start and be over before it ends: with the usual time for people and renewals, and with none. Past
   * ones are given too. Null: the system has no graceful rotation.
   */
  readonly startBy: Instant | null
  readonly lastStart: Instant | null
  /** Whole days until `startBy`, below 0 once it is past. */
  readonly daysLeft: number | null
  readonly remarks: readonly string[]
}

export interface InspectedStrategy {
  readonly strategy: Strategy
  readonly fits: boolean
  readonly why: string
  /** What it takes and until when it can start, held against the certificate that ends first; null: it does not exist for this system. */
  readonly time: TimeLeft | null
}

export interface InspectView {
  readonly now: Instant
  /** Milliseconds of `--within`; null: not asked. */
  readonly within: number | null
  /** Milliseconds of `--start-within`; null: not asked. */
  readonly startWithin: number | null
  readonly certificates: readonly InspectedCertificate[]
  /** What falls within the times that were asked for; not empty: the command exits with 4. */
  readonly due: readonly { readonly sha256: string; readonly what: 'ends' | 'start-by'; readonly at: Instant }[]
  readonly strategies: readonly InspectedStrategy[]
  /** What could not be looked at, and objects that other managers own: one sentence each. */
  readonly remarks: readonly string[]
}

export function inspectText(view: InspectView, options: TextOptions = {}): string {
  const paint = options.paint ?? noPaint
  const width = options.width ?? 100
  const lines: string[] = []
  const ending = new Set(view.due.map(({ sha256 }) => sha256))
  if (view.certificates.length === 0) lines.push('no anchor and no issuer was found')
  for (const certificate of view.certificates) {
    const ended = Date.parse(certificate.notAfter) < Date.parse(view.now)
    const end = `ends ${certificate.notAfter} (${daysText(certificate.notAfter, view.now)})`
    lines.push(`${paint.strong(visible(certificate.subject))}  ${certificate.use}, ${visible(certificate.key)}`)
    lines.push(`  SHA-256   ${certificate.sha256}`)
    lines.push(
      `  validity  from ${certificate.notBefore}, ${ended || ending.has(certificate.sha256) ? paint.bad(end) : end}`,
    )
    const start = startText(certificate, view.now)
    if (start !== null) {
      const text = wrapped(`  start by  ${start.text}`, width, '            ')
      lines.push(start.late ? paint.bad(text) : text)
    }
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
    for (const { strategy, fits, why, time } of view.strategies) {
      const takes = !fits || time === null ? '' : takesText(time)
      const text = wrapped(
        `  ${fits ? '√' : '×'} ${strategy.padEnd(9)} ${visible(why)}${takes}`,
        width,
        '              ',
      )
      lines.push(fits ? paint.good(text) : paint.faint(text))
    }
    lines.push('')
  }
  for (const remark of view.remarks) lines.push(wrapped(`! ${visible(remark)}`, width, '  '))
  return `${lines.join('\n').trimEnd()}\n`
}

/** What is due and nothing else, for mail from a scheduled job; empty where nothing is. */
export function dueText(view: InspectView): string {
  return view.due
    .map(({ sha256, what, at }) => {
      const found = view.certificates.find(certificate => certificate.sha256 === sha256)
      const name = `${visible(found?.subject ?? '')} ${sha256.slice(0, 12)}`
      const when = `${at} (${daysText(at, view.now)})`
      return what === 'ends' ? `${name} ends ${when}` : `${name}: start a graceful rotation by ${when}`
    })
    .join('\n')
}

function startText(
  { startBy, lastStart, daysLeft }: InspectedCertificate,
  now: Instant,
): { readonly text: string; readonly late: boolean } | null {
  if (startBy === null || lastStart === null || daysLeft === null) return null
  const by = `${startBy.slice(0, 10)} (${daysText(startBy, now)})`
  if (Date.parse(now) <= Date.parse(startBy)) return { text: by, late: false }
  if (Date.parse(now) <= Date.parse(lastStart))
    return {
      text: `${by}: start now, and in haste; the latest start is ${lastStart} (${daysText(lastStart, now)})`,
      late: true,
    }
  return { text: `${by}: too late for a graceful rotation since ${lastStart}`, late: true }
}

function takesText({ least, usual, requests }: TimeLeft): string {
  if (requests === 0) return ''
  return `; ${plural(requests, 'pull request')}, ${spanText(least)} at the least until the old CA is not needed, usually ${spanText(usual)}`
}
