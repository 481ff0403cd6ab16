import { ReanchorError, type Where } from '../errors.ts'

/** One PEM block (RFC 7468) and the line of its BEGIN. */
export interface PemBlock {
  readonly label: string
  readonly der: Buffer
  /** 1-based. */
  readonly line: number
}

export interface PemText {
  readonly blocks: readonly PemBlock[]
  /** What is unusual but harmless, one sentence each; always empty where `strict` was asked for. */
  readonly remarks: readonly string[]
}

export interface PemOptions {
  readonly file?: string | undefined
  readonly object?: string | undefined
  /** Whether CRLF, a missing final newline and text outside blocks are errors (a user's file) or remarks (live content). */
  readonly strict: boolean
}

const keyMarker = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/

/** What every PEM of a certificate is written as: 64 columns, one newline at the end. */
export function pemOf(label: string, der: Uint8Array): string {
  const body =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...body, `-----END ${label}-----`, ''].join('\n')
}

/** Joins PEM texts so that no END ever stands on one line with the next BEGIN: each part ends with exactly one newline. */
export function joinPem(...pems: readonly string[]): string {
  return pems
    .map(pem => pem.replace(/\r\n/g, '\n').replace(/\s+$/, ''))
    .filter(pem => pem !== '')
    .map(pem => `${pem}\n`)
    .join('')
}

/** Whether a text holds a private key in PEM, whole or cut off. */
export function holdsPrivateKey(text: string): boolean {
  return keyMarker.test(text)
}

/**
 * Reads certificates' PEM. A private key is refused by name wherever it stands, and no error ever quotes the text of a
 * line: it might be part of one.
 */
export function readPem(text: string, options: PemOptions): PemText {
  const where = (line?: number): Where => ({
    ...(options.file === undefined ? {} : { file: options.file }),
    ...(line === undefined ? {} : { line }),
    ...(options.object === undefined ? {} : { object: options.object }),
  })
  const lines = text.split('\n')
  refusePrivateKey(lines, where)

  const remarks: string[] = []
  const unusual = (what: string, line: number, todo: string) => {
    if (options.strict)
      throw new ReanchorError({ what, where: where(line), expected: 'PEM as openssl writes it', todo })
    remarks.push(`${what} (line ${line})`)
  }

  const crlf = lines.findIndex(line => line.endsWith('\r'))
  if (crlf >= 0)
    unusual('lines end with CRLF', crlf + 1, "write the file with plain newlines: `tr -d '\\r' < old.pem > new.pem`")

  const blocks: PemBlock[] = []
  let open: { label: string; line: number; body: string[] } | null = null
  let outside = 0
  for (const [index, raw] of lines.entries()) {
    const number = index + 1
    const line = raw.trimEnd()
    if (/-----END [^-]*-----.*-----BEGIN /.test(line)) {
      throw new ReanchorError({
        what: 'an END line and the next BEGIN are glued together',
        where: where(number),
        expected: 'each on a line of its own',
        todo: 'break the line after the END marker; it comes from joining files of which one has no newline at its end',
      })
    }
    const begin = /^-----BEGIN ([^-]*)-----$/.exec(line)
    if (begin !== null) {
      if (open !== null) throw truncated(open, where)
      open = { label: begin[1]!, line: number, body: [] }
      continue
    }
    const end = /^-----END ([^-]*)-----$/.exec(line)
    if (end !== null) {
      if (open === null) {
        throw new ReanchorError({
          what: 'an END line without its BEGIN',
          where: where(number),
          todo: 'take the whole block, from BEGIN to END, from its source',
        })
      }
      if (end[1] !== open.label) throw truncated(open, where)
      blocks.push({ label: open.label, der: decode(open, where), line: open.line })
      open = null
      continue
    }
    if (line.includes('-----')) {
      throw new ReanchorError({
        what: 'a broken BEGIN or END line',
        where: where(number),
        expected: 'five dashes, BEGIN or END, the label, five dashes, and nothing else on the line',
        example: '-----BEGIN CERTIFICATE-----',
      })
    }
    if (open === null) {
      if (line.trim() === '') continue
      if (outside === 0)
        unusual(
          'text outside a block',
          number,
          'leave only the blocks, without comments or `openssl x509 -text` output',
        )
      outside += 1
      continue
    }
    if (line.includes(':')) {
      throw new ReanchorError({
        what: 'a PEM header inside a block',
        where: where(number),
        expected: 'base64 lines only (RFC 7468 has no headers)',
        todo: 'convert it: `openssl x509 -in old.pem -out new.pem`',
      })
    }
    open.body.push(line)
  }
  if (open !== null) throw truncated(open, where)
  if (text !== '' && !text.endsWith('\n')) {
    unusual('the last line has no newline', lines.length, 'add one: what is appended would be glued to the END line')
  }
  return { blocks, remarks }
}

function refusePrivateKey(lines: readonly string[], where: (line: number) => Where): void {
  const at = lines.findIndex(line => keyMarker.test(line))
  if (at < 0) return
  throw new ReanchorError({
    what: 'a private key among certificates',
    where: where(at + 1),
    expected: 'CERTIFICATE blocks only',
    found: 'a PRIVATE KEY block',
    todo: 'take the key out; if this text was ever shared or committed, treat the key as compromised',
  })
}

function truncated(
  open: { readonly label: string; readonly line: number },
  where: (line: number) => Where,
): ReanchorError {
  return new ReanchorError({
    what: 'a block that does not end',
    where: where(open.line),
    expected: `-----END ${printable(open.label)}----- after the base64 lines`,
    todo: 'take the whole block from its source again',
  })
}

function decode(
  open: { readonly line: number; readonly body: readonly string[] },
  where: (line: number) => Where,
): Buffer {
  const text = open.body.join('')
  const der = Buffer.from(text, 'base64')
  // Buffer skips what is not base64; only a text that comes back the same was read whole.
  if (text !== '' && der.toString('base64') === text) return der
  const odd = open.body.findIndex(line => !/^[A-Za-z0-9+/]+={0,2}$/.test(line))
  throw new ReanchorError({
    what: 'a block whose content is not base64',
    where: where(odd < 0 ? open.line : open.line + 1 + odd),
    expected: 'lines of base64, padded at the end only',
    todo: 'take the whole block from its source again',
  })
}

/** A label from outside, fit to be shown. */
export function printable(label: string): string {
  return label.replace(/[^ -~]/g, '?').slice(0, 60)
}
