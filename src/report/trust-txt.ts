import { ReanchorError } from '../errors.ts'
import type { CertificateFacts, Digest, Fingerprint, Instant } from '../rotation.ts'
import { visible } from './escape.ts'

/** What line 1 of trust.txt says: it makes the tree digest of every step, undo and nudge differ. */
export interface TrustHeader {
  readonly rotation: string
  readonly phase: number
  readonly phaseName: string
  readonly step: number
  readonly stepName: string
  readonly variant: 'step' | 'undo' | 'nudge'
  readonly site: string
}

/** The certificates of one place (a key of an object, or a file) in their order, repeats kept. */
export interface TrustPlace {
  /** `cacerts.yaml:root-cert.pem`, or the name of a file. */
  readonly place: string
  /** What the place is for: `trusted`, `issuer`, `chain`. */
  readonly role: string
  readonly certificates: readonly Pick<CertificateFacts, 'subject' | 'sha256' | 'key' | 'notAfter'>[]
}

export interface TrustText {
  readonly header: string
  readonly places: readonly TrustPlace[]
}

export interface TrustLine {
  readonly place: string
  readonly role: string
  readonly subject: string
  readonly sha256: Fingerprint
  readonly key: string
  readonly notAfter: Instant
}

/** Line 1 of trust.txt, without its newline. */
export function trustHeader(header: TrustHeader): string {
  const variant = header.variant === 'step' ? '' : ` ${header.variant}`
  return `reanchor ${header.rotation} ${header.phase}-${header.phaseName}/${header.step}-${header.stepName}${variant} ${header.site}`
}

const headerLine = /^reanchor (\S+) (\d+)-([^/\s]+)\/(\d+)-(\S+?)(?: (undo|nudge))? (\S+)$/

/** The header's parts, or null where the line is not one of ours. */
export function readTrustHeader(line: string): TrustHeader | null {
  const found = headerLine.exec(line)
  if (found === null) return null
  const [, rotation = '', phase = '', phaseName = '', step = '', stepName = '', variant, site = ''] = found
  return {
    rotation,
    phase: Number(phase),
    phaseName,
    step: Number(step),
    stepName,
    variant: variant === 'undo' || variant === 'nudge' ? variant : 'step',
    site,
  }
}

// Fixed widths: a width taken from the content would re-indent every line when one certificate is added, and the diff
// of two steps would show lines that did not change.
const widths = { place: 30, role: 8, subject: 44, key: 12 } as const

/**
 * trust.txt: the header, then one line per certificate of each place: place, role, subject (as a JSON string), SHA-256,
 * key, not after. Equal input gives equal bytes. It ends with a newline.
 */
export function trustText(text: TrustText): string {
  const lines = [oneLine(text.header)]
  for (const place of text.places) {
    for (const certificate of place.certificates) {
      lines.push(
        [
          word(place.place).padEnd(widths.place),
          word(place.role).padEnd(widths.role),
          quoted(certificate.subject).padEnd(widths.subject),
          certificate.sha256,
          oneLine(certificate.key).padEnd(widths.key),
          certificate.notAfter,
        ].join(' '),
      )
    }
  }
  return `${lines.join('\n')}\n`
}

const certificateLine =
  /^([^\s"]+|"(?:[^"\\]|\\.)*") +([^\s"]+|"(?:[^"\\]|\\.)*") +("(?:[^"\\]|\\.)*") +([0-9a-f]{64}) +(\S.*?) +(\d{4,}-\S+Z)$/

/** Reads what `trustText` wrote. Throws a located error for a line that is not of the form. */
export function readTrustText(
  text: string,
  file = 'trust.txt',
): { header: string; certificates: readonly TrustLine[] } {
  const [header = '', ...lines] = text.split('\n')
  if (!header.startsWith('reanchor ')) {
    throw new ReanchorError({
      what: 'not a trust.txt of reanchor',
      where: { file, line: 1 },
      expected: 'a first line such as `reanchor mesh-2026 2-trust-both/1-data eu-1`',
      found: JSON.stringify(header.slice(0, 80)),
      todo: 'restore the file from the step that the site is at; it is generated and never edited',
    })
  }
  const certificates: TrustLine[] = []
  for (const [index, line] of lines.entries()) {
    if (line === '' && index === lines.length - 1) continue
    const found = certificateLine.exec(line)
    if (found === null) {
      throw new ReanchorError({
        what: 'a line of trust.txt that cannot be read',
        where: { file, line: index + 2 },
        expected: 'place, role, "subject", SHA-256, key, not after',
        found: JSON.stringify(line.slice(0, 120)),
        todo: 'restore the file from the step that the site is at; it is generated and never edited',
      })
    }
    const [, place = '', role = '', subject = '""', sha256 = '', key = '', notAfter = ''] = found
    certificates.push({
      place: unword(place, file, index + 2),
      role: unword(role, file, index + 2),
      subject: unquoted(subject, file, index + 2),
      sha256,
      key,
      notAfter,
    })
  }
  return { header, certificates }
}

/** Per place, the fingerprints that a trust.txt lists, in order: what a check holds equal to the manifests. */
export function fingerprintsByPlace(certificates: readonly TrustLine[]): ReadonlyMap<string, readonly Digest[]> {
  const byPlace = new Map<string, Digest[]>()
  for (const certificate of certificates) {
    const list = byPlace.get(certificate.place)
    if (list === undefined) byPlace.set(certificate.place, [certificate.sha256])
    else list.push(certificate.sha256)
  }
  return byPlace
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

/** As it is, or as a JSON string where a space or a quote would make two words of it. */
function word(text: string): string {
  return /^[^\s"]+$/.test(text) && visible(text) === text ? text : quoted(text)
}

function unword(text: string, file: string, line: number): string {
  return text.startsWith('"') ? unquoted(text, file, line) : text
}

/** A JSON string whose every character shows: a subject is chosen by whoever made the certificate, and must not fake a line or reorder it. */
function quoted(text: string): string {
  return visible(JSON.stringify(text))
}

function unquoted(text: string, file: string, line: number): string {
  try {
    return String(JSON.parse(text))
  } catch (cause) {
    throw new ReanchorError({
      what: 'a subject in trust.txt that is not a JSON string',
      where: { file, line },
      found: text.slice(0, 120),
      todo: 'restore the file from the step that the site is at; it is generated and never edited',
      cause,
    })
  }
}
