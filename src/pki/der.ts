/** One DER element (X.690 §8, §10): where its tag, content and end lie in `bytes`. */
export interface Der {
  readonly bytes: Buffer
  /** The identifier octet: class, constructed bit and number. Numbers above 30 are refused: X.509 has none. */
  readonly tag: number
  readonly start: number
  readonly content: number
  readonly end: number
}

/** Thrown for bytes that are not DER. Callers turn it into a located error or a reason; it never reaches a user as it is. */
export class DerError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DerError'
  }
}

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  sequence: 0x30,
  set: 0x31,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
} as const

/** The one element that fills `bytes`: what follows it is an error (X.509 signatures cover exact bytes). */
export function readDer(bytes: Buffer, tag?: number): Der {
  const element = readElement(bytes, 0, bytes.length)
  if (element.end !== bytes.length) throw new DerError('bytes follow the outermost element')
  return tag === undefined ? element : expectTag(element, tag)
}

/** The elements inside a constructed element, in order. */
export function children(parent: Der): Der[] {
  if ((parent.tag & 0x20) === 0) throw new DerError('a constructed element was expected')
  const found: Der[] = []
  for (let at = parent.content; at < parent.end; ) {
    const element = readElement(parent.bytes, at, parent.end)
    found.push(element)
    at = element.end
  }
  return found
}

export function expectTag(element: Der | undefined, tag: number): Der {
  if (element === undefined) throw new DerError('an element is missing')
  if (element.tag !== tag) throw new DerError(`tag 0x${hex(tag)} was expected, 0x${hex(element.tag)} found`)
  return element
}

/** The content octets. */
export function contentOf(element: Der): Buffer {
  return element.bytes.subarray(element.content, element.end)
}

/** Identifier, length and content octets. */
export function wholeOf(element: Der): Buffer {
  return element.bytes.subarray(element.start, element.end)
}

/** Dotted decimal. */
export function readOid(element: Der): string {
  return oidText(contentOf(expectTag(element, tags.oid)))
}

export function oidText(content: Buffer): string {
  if (content.length === 0 || (content[content.length - 1]! & 0x80) !== 0)
    throw new DerError('a broken object identifier')
  const arcs: bigint[] = []
  let value = 0n
  let fresh = true
  for (const byte of content) {
    if (fresh && byte === 0x80) throw new DerError('an object identifier with a padded arc')
    value = (value << 7n) | BigInt(byte & 0x7f)
    fresh = (byte & 0x80) === 0
    if (!fresh) continue
    arcs.push(value)
    value = 0n
  }
  const first = arcs[0]!
  const top = first < 40n ? 0n : first < 80n ? 1n : 2n
  return [top, first - top * 40n, ...arcs.slice(1)].join('.')
}

/** The content octets of an INTEGER in its shortest form. */
export function readInteger(element: Der): Buffer {
  const content = contentOf(expectTag(element, tags.integer))
  if (content.length === 0) throw new DerError('an integer without content')
  if (content.length > 1) {
    const padded = (content[0] === 0 && content[1]! < 0x80) || (content[0] === 0xff && content[1]! >= 0x80)
    if (padded) throw new DerError('an integer that is not in its shortest form')
  }
  return content
}

/** A small non-negative INTEGER. */
export function readCount(element: Der): number {
  const content = readInteger(element)
  if (content[0]! >= 0x80 || content.length > 5) throw new DerError('a small non-negative integer was expected')
  return content.readUIntBE(0, content.length)
}

export function readBoolean(element: Der): boolean {
  const content = contentOf(expectTag(element, tags.boolean))
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('a broken boolean')
  return content[0] === 0xff
}

/** The bits of a BIT STRING as bytes, and how many of the last byte are unused. */
export function readBits(
  element: Der,
  tag: number = tags.bitString,
): { readonly bytes: Buffer; readonly unused: number } {
  const content = contentOf(expectTag(element, tag))
  const unused = content[0]
  if (unused === undefined || unused > 7 || (unused > 0 && content.length === 1))
    throw new DerError('a broken bit string')
  const bytes = content.subarray(1)
  if (unused > 0 && (bytes[bytes.length - 1]! & ((1 << unused) - 1)) !== 0)
    throw new DerError('unused bits are not zero')
  return { bytes, unused }
}

/** UTCTime or GeneralizedTime in the one form of RFC 5280 §4.1.2.5: seconds, and Z. */
export function readTime(element: Der): Date {
  const text = contentOf(element).toString('latin1')
  const short = element.tag === tags.utcTime
  if (!short && element.tag !== tags.generalizedTime) throw new DerError('a time was expected')
  const match = (short ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(
    text,
  )
  if (match === null) throw new DerError('a time that is not in the form of RFC 5280 §4.1.2.5')
  const parts = match.slice(1).map(Number) as [number, number, number, number, number, number]
  const year = short ? (parts[0] < 50 ? 2000 + parts[0] : 1900 + parts[0]) : parts[0]
  const date = new Date(0)
  date.setUTCFullYear(year, parts[1] - 1, parts[2])
  date.setUTCHours(parts[3], parts[4], parts[5], 0)
  const same =
    date.getUTCMonth() === parts[1] - 1 &&
    date.getUTCDate() === parts[2] &&
    date.getUTCHours() === parts[3] &&
    date.getUTCMinutes() === parts[4] &&
    date.getUTCSeconds() === parts[5]
  if (!same) throw new DerError('a time that no calendar has')
  return date
}

function readElement(bytes: Buffer, start: number, limit: number): Der {
  const tag = bytes[start]
  const first = bytes[start + 1]
  if (tag === undefined || first === undefined || start + 2 > limit) throw new DerError('an element is cut off')
  if ((tag & 0x1f) === 0x1f) throw new DerError('a tag number above 30')
  if (first < 0x80) return within(bytes, tag, start, start + 2, first, limit)
  const octets = first & 0x7f
  if (octets === 0) throw new DerError('an indefinite length')
  if (octets > 4 || start + 2 + octets > limit) throw new DerError('a length is cut off or too long')
  const length = bytes.readUIntBE(start + 2, octets)
  if (length < 0x80 || length < 2 ** (8 * (octets - 1))) throw new DerError('a length that is not in its shortest form')
  return within(bytes, tag, start, start + 2 + octets, length, limit)
}

function within(bytes: Buffer, tag: number, start: number, content: number, length: number, limit: number): Der {
  if (content + length > limit) throw new DerError('an element is cut off')
  return { bytes, tag, start, content, end: content + length }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}

/** Encodes one element from its content. */
export function encode(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  const short = length.subarray(length.findIndex(byte => byte !== 0))
  return Buffer.concat([Buffer.from([tag, 0x80 | short.length]), short, body])
}

export function encodeOid(oid: string): Buffer {
  const [top, second, ...rest] = oid.split('.').map(BigInt)
  if (top === undefined || second === undefined) throw new DerError('an object identifier needs two arcs')
  return encode(tags.oid, ...[top * 40n + second, ...rest].map(encodeArc))
}

function encodeArc(arc: bigint): Buffer {
  const septets = [Number(arc & 0x7fn)]
  for (let left = arc >> 7n; left > 0n; left >>= 7n) septets.unshift(Number(left & 0x7fn) | 0x80)
  return Buffer.from(septets)
}
