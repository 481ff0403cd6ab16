import { exitCodes, ReanchorError } from '../errors.ts'

/** Private key material that was found; never the material itself. */
export interface Finding {
  /** What it is: `PKCS#8 private key`, `age identity`, … */
  readonly kind: string
  /** How it is wrapped, from outside in: `base64 of PEM`. Empty where it stands as it is. */
  readonly encoding: string
  /** Byte offset of the outermost wrapping, as near as it can be told. */
  readonly offset: number
}

/**
 * Private key material in any encoding that a careless path could give it: PEM, DER (PKCS#8, PKCS#1, SEC1, encrypted PKCS#8),
 * JWK, age identities, Java key stores, PKCS#12; as they are, as hex, or as base64 (also wrapped, quoted or as a diff), up to two times nested.
 * `planted` are byte strings to find besides, such as the keys in use, each at least 8 bytes long.
 *
 * The last guard before anything leaves the process, not the first: it finds every well-formed key, and nothing in
 * certificates, public keys and sealed values.
 */
export function findPrivateKeys(content: string | Uint8Array, planted: readonly Uint8Array[] = []): readonly Finding[] {
  for (const bytes of planted)
    if (bytes.length < 8) throw new Error('a planted secret of less than 8 bytes is found by chance')
  const bytes =
    typeof content === 'string' ? Buffer.from(content) : Buffer.from(content.buffer, content.byteOffset, content.length)
  const findings = new Map<string, Finding>()
  scan(bytes, [], 0, { planted, ...runs(planted), scanned: new Set() }, findings)
  return [...findings.values()]
}

/** Throws an internal error where `content` holds private key material: then reanchor has a bug, and nothing may be written. */
export function assertNoPrivateKey(
  content: string | Uint8Array,
  where: string,
  planted: readonly Uint8Array[] = [],
): void {
  const [finding] = findPrivateKeys(content, planted)
  if (finding === undefined) return
  throw new ReanchorError({
    what: 'private key material was about to be written in the clear; nothing was written',
    where: { file: where },
    expected: 'public material and sealed values only',
    found: `${finding.kind}${finding.encoding === '' ? '' : ` (${finding.encoding})`} at byte ${finding.offset} (not shown)`,
    todo: 'report this as a bug, without the key',
    exit: exitCodes.internal,
  })
}

const deepest = 3

const publicBlock = /-----BEGIN (CERTIFICATE|CERTIFICATE REQUEST|PUBLIC KEY)-----\s([A-Za-z0-9+/=\s]*)-----END \1-----/g

// Escaped line breaks with as many backslashes as texts nested in JSON four deep have; more would let hostile text be slow.
const lineBreak = /(?:\r?\n|\\{1,16}[rn])[ \t]*(?![\w-]*[.:])/g
// Quoted, commented or listed lines; then lines of a diff, whose one sign is a letter of base64 too, so that more must not go.
const quotedLineBreak = /["',]*(?:\r?\n|\\{1,16}[rn])[ \t]*(?:(?:[>#|*"',]|\/\/[ \t])[ \t]*)+/g
const diffLineBreak = /(?:\r?\n|\\{1,16}[rn])[-+ ][ \t]*/g

interface Wanted {
  readonly planted: readonly Uint8Array[]
  /** Printable text that is long enough to be looked into. */
  readonly text: RegExp
  readonly base64: RegExp
  readonly hex: RegExp
  /** Public blocks that were looked into already. */
  readonly scanned: Set<string>
}

/** Runs of letters that are long enough to hold what is looked for. */
function runs(planted: readonly Uint8Array[]): Omit<Wanted, 'planted' | 'scanned'> {
  // The shortest key is a SEC1 EC key without parameters: 39 bytes.
  const bytes = Math.min(39, ...planted.map(secret => secret.length))
  return {
    text: new RegExp(`[\\t\\n\\r -~]{${Math.floor((bytes * 4) / 3)},}`),
    base64: new RegExp(`[A-Za-z0-9+/_-]{${Math.floor((bytes * 4) / 3)},}`, 'g'),
    hex: new RegExp(`[0-9A-Fa-f]{${bytes * 2},}`, 'g'),
  }
}

function scan(
  bytes: Buffer,
  wrappings: readonly string[],
  origin: number,
  wanted: Wanted,
  findings: Map<string, Finding>,
): void {
  const whole = bytes.toString('latin1')
  const add = (kind: string, last: string, offset: number) => {
    const encoding = [...wrappings, ...(last === '' ? [] : [last])].join(' of ')
    const at = wrappings.length === 0 ? offset : origin
    findings.set(`${kind}\0${encoding}\0${at}`, { kind, encoding, offset: at })
  }
  for (const secret of wanted.planted) {
    const at = bytes.indexOf(secret)
    if (at >= 0) add('planted secret', '', at)
  }
  scanDer(bytes, add)
  for (const magic of ['\xfe\xed\xfe\xed\x00\x00\x00\x02', '\xce\xce\xce\xce\x00\x00\x00\x02']) {
    const at = whole.indexOf(magic)
    if (at >= 0) add('Java key store', '', at)
  }
  // What text holds needs a run of letters; nearly all that is decoded here is none, and is done with.
  if (wrappings.length > 0 && whole.search(wanted.text) < 0) return
  scanText(whole, add)
  if (wrappings.length === deepest) return

  // Well-formed public blocks, the bulk of all that is looked at, are decoded once instead of in every way that text can be.
  const text = whole.replaceAll(publicBlock, (block: string, _label: string, body: string, offset: number) => {
    const der = Buffer.from(body, 'base64')
    if (
      body.replaceAll(/\s/g, '').length !== Math.ceil(der.length / 3) * 4 ||
      element(der, 0, tag.sequence)?.end !== der.length
    )
      return block
    if (!wanted.scanned.has(body))
      scan(der, [...wrappings, 'PEM'], wrappings.length === 0 ? offset : origin, wanted, findings)
    wanted.scanned.add(body)
    return '\n'.repeat(block.length)
  })
  // Lines are joined, except where the next begins with a field's name; each variant is looked at once.
  const variants = new Set([lineBreak, quotedLineBreak, diffLineBreak].map(each => text.replaceAll(each, '')))
  variants.add(text)
  for (const variant of variants) {
    for (const run of variant.matchAll(wanted.base64)) {
      const at = wrappings.length === 0 ? run.index : origin
      // A run may begin with letters that do not belong to it, so all four alignments are looked at.
      for (let shift = 0; shift < 4; shift += 1) {
        scan(Buffer.from(run[0].slice(shift), 'base64'), [...wrappings, 'base64'], at + shift, wanted, findings)
      }
    }
  }
  const dense = text.replaceAll(/([0-9A-Fa-f]{2})(?:[\s:,-]|\\{1,16}[rn])+(?=[0-9A-Fa-f]{2})/g, '$1')
  for (const variant of new Set([text, text.replaceAll(lineBreak, ''), dense])) {
    for (const run of variant.matchAll(wanted.hex)) {
      const at = wrappings.length === 0 ? run.index : origin
      for (let shift = 0; shift < 2; shift += 1) {
        scan(Buffer.from(run[0].slice(shift), 'hex'), [...wrappings, 'hex'], at + shift, wanted, findings)
      }
    }
  }
}

function scanText(text: string, add: (kind: string, last: string, offset: number) => void): void {
  // A label without a body is how documentation and error messages speak of keys.
  const pem =
    /-----BEGIN ((?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?)-----(?:\s|\\{1,16}[rn]|[-+>#|*"',]|[A-Za-z][A-Za-z-]{2,30}: [^\n\\]{0,100}(?:\n|\\{1,16}n))*[A-Za-z0-9+/]{16}/g
  for (const match of text.matchAll(pem))
    add((match[1] ?? '').toLowerCase().replace('ec ', 'EC ').replace('rsa ', 'RSA '), 'PEM', match.index)
  for (const match of text.matchAll(/AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{40,}/gi))
    add('age identity', '', match.index)
  if (text.includes('"kty"')) {
    for (const match of text.matchAll(/"d"\s{0,20}:\s{0,20}"[A-Za-z0-9_-]{40,}/g))
      add('JSON Web Key with a private part', '', match.index)
  }
}

// ------------------------------------------------------------------------------------------------------- DER

const tag = { integer: 0x02, octets: 0x04, oid: 0x06, sequence: 0x30 }

/** OID 1.2.840.113549.1.5, under which all password-based encryption lies (RFC 8018 appendix A.4). */
const passwordBased = Buffer.from('2a864886f70d0105', 'hex')

/** OID 1.2.840.113549.1.7 (RFC 2315). */
const pkcs7 = Buffer.from('2a864886f70d0107', 'hex')

interface Element {
  readonly start: number
  /** Past the last byte; may lie past the end of a buffer that was cut off. */
  readonly end: number
}

function scanDer(bytes: Buffer, add: (kind: string, last: string, offset: number) => void): void {
  for (let at = bytes.indexOf(tag.sequence); at >= 0; at = bytes.indexOf(tag.sequence, at + 1)) {
    const kind = privateKeyAt(bytes, at)
    if (kind !== null) add(kind, 'DER', at)
  }
}

function privateKeyAt(bytes: Buffer, at: number): string | null {
  const outer = element(bytes, at, tag.sequence)
  if (outer === null) return null
  const first = element(bytes, outer.start, tag.integer)
  if (first === null) return encryptedKeyAt(bytes, outer) ? 'encrypted PKCS#8 private key' : null
  const version = bytes[first.start]
  if (first.end - first.start !== 1 || version === undefined) return null
  if (version === 3) return storeAt(bytes, first.end) ? 'PKCS#12 store' : null
  if (version > 1) return null

  // RFC 5208 and 5958: version, algorithm, key as an octet string.
  const algorithm = element(bytes, first.end, tag.sequence)
  if (algorithm !== null) {
    const oid = element(bytes, algorithm.start, tag.oid)
    const key = element(bytes, algorithm.end, tag.octets)
    const whole = oid !== null && oid.end <= algorithm.end && key !== null && key.end <= outer.end
    return whole && bytes.length - key.start >= 16 ? 'PKCS#8 private key' : null
  }
  // RFC 5915: version 1, the scalar as an octet string.
  const scalar = element(bytes, first.end, tag.octets)
  if (scalar !== null && version === 1) {
    const size = scalar.end - scalar.start
    return size >= 16 && size <= 66 && scalar.end <= Math.min(outer.end, bytes.length) ? 'SEC1 EC private key' : null
  }
  // RFC 8017 A.1.2: version, modulus, public exponent, private exponent, …
  const modulus = element(bytes, first.end, tag.integer)
  if (modulus === null || modulus.end - modulus.start < 64) return null
  const exponent = element(bytes, modulus.end, tag.integer)
  const secret = exponent === null ? null : element(bytes, exponent.end, tag.integer)
  return secret !== null && secret.end <= outer.end && bytes.length - secret.start >= 16
    ? 'PKCS#1 RSA private key'
    : null
}

/** RFC 7292 §4: after the version, contents of a kind of PKCS#7. What is in it cannot be told without its password, so any counts. */
function storeAt(bytes: Buffer, at: number): boolean {
  const content = element(bytes, at, tag.sequence)
  const oid = content === null ? null : element(bytes, content.start, tag.oid)
  return oid !== null && bytes.subarray(oid.start, oid.end).subarray(0, pkcs7.length).equals(pkcs7)
}

function encryptedKeyAt(bytes: Buffer, outer: Element): boolean {
  const algorithm = element(bytes, outer.start, tag.sequence)
  const oid = algorithm === null ? null : element(bytes, algorithm.start, tag.oid)
  if (algorithm === null || oid === null || oid.end > bytes.length) return false
  const known = bytes.subarray(oid.start, oid.end).subarray(0, passwordBased.length).equals(passwordBased)
  return known && element(bytes, algorithm.end, tag.octets)?.end === outer.end
}

/** The element with this tag at `at`, or null. Lengths in DER's shortest form, and in the longer ones that BER allows. */
function element(bytes: Buffer, at: number, wanted: number): Element | null {
  if (bytes[at] !== wanted) return null
  const length = bytes[at + 1]
  if (length === undefined || length === 0x80) return null
  if (length < 0x80) return { start: at + 2, end: at + 2 + length }
  const size = length & 0x7f
  if (size > 4 || at + 2 + size > bytes.length) return null
  const start = at + 2 + size
  return { start, end: start + bytes.readUIntBE(at + 2, size) }
}
