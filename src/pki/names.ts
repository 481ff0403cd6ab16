import { ReanchorError } from '../errors.ts'
import { children, contentOf, type Der, DerError, encode, encodeOid, expectTag, readOid, tags, wholeOf } from './der.ts'

/** One AttributeTypeAndValue. */
export interface Attribute {
  readonly oid: string
  /** Null where the value is not a string of a kind that RFC 5280 §4.1.2.4 lists. */
  readonly text: string | null
  /** DER of the value. */
  readonly value: Buffer
}

/** A distinguished name: RDNs in the order of the certificate, each a set of attributes. */
export interface Name {
  readonly rdns: readonly (readonly Attribute[])[]
  readonly der: Buffer
}

/** RFC 4514 §3, and the others that CAs use; an OID that is not here is written dotted. */
const shortNames: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.4': 'SN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'STREET',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.12': 'title',
  '2.5.4.42': 'GN',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
}

export const commonName = '2.5.4.3'
export const emailAddress = '1.2.840.113549.1.9.1'

export function readName(element: Der): Name {
  const rdns = children(expectTag(element, tags.sequence)).map(rdn => {
    const attributes = children(expectTag(rdn, tags.set)).map(readAttribute)
    if (attributes.length === 0) throw new DerError('an empty relative distinguished name')
    return attributes
  })
  return { rdns, der: wholeOf(element) }
}

/** RFC 4514 text: the last RDN first. For people, never compared. */
export function nameText(name: Name): string {
  return [...name.rdns]
    .reverse()
    .map(rdn => rdn.map(attributeText).join('+'))
    .join(',')
}

/**
 * One RDN in the form that RFC 5280 §7.1 compares: case and inner white space do not count, the string's type neither.
 */
export function comparableRdn(rdn: readonly Attribute[]): string {
  return rdn
    .map(({ oid, text, value }) => `${oid}=${text === null ? `#${value.toString('hex')}` : folded(text)}`)
    .sort()
    .join('+')
}

export function attributeTexts(name: Name, oid: string): string[] {
  return name.rdns
    .flat()
    .flatMap(attribute => (attribute.oid === oid && attribute.text !== null ? [attribute.text] : []))
}

function folded(text: string): string {
  return text.normalize('NFKC').trim().replace(/\s+/g, ' ').toLowerCase()
}

function readAttribute(element: Der): Attribute {
  const [type, value, ...rest] = children(expectTag(element, tags.sequence))
  if (type === undefined || value === undefined || rest.length > 0) throw new DerError('a broken attribute of a name')
  return { oid: readOid(type), text: stringText(value), value: wholeOf(value) }
}

/** Null where it is no string. */
function stringText(value: Der): string | null {
  const content = contentOf(value)
  switch (value.tag) {
    case tags.utf8String:
      return content.toString('utf8')
    case tags.printableString:
    case tags.ia5String:
    case tags.teletexString:
      return content.toString('latin1')
    case tags.bmpString:
      return content.length % 2 === 0 ? Buffer.from(content).swap16().toString('utf16le') : null
    default:
      return null
  }
}

function attributeText({ oid, text, value }: Attribute): string {
  const type = shortNames[oid] ?? oid
  if (text === null || shortNames[oid] === undefined) return `${type}=#${value.toString('hex')}`
  return `${type}=${escaped(text)}`
}

/** RFC 4514 §2.4. Control characters too, so that a hostile name cannot drive a terminal or break a line. */
function escaped(text: string): string {
  const inner = [...text]
    .map(character => {
      if ('"+,;<>\\'.includes(character)) return `\\${character}`
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to be found
      if (!/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/.test(character)) return character
      return [...Buffer.from(character)].map(byte => `\\${byte.toString(16).padStart(2, '0')}`).join('')
    })
    .join('')
  return inner.replace(/^([ #])/, '\\$1').replace(/ $/, '\\ ')
}

/**
 * The DER of a name written as RFC 4514 text: `CN=Root CA,O=Example`, the last RDN first. Throws a ReanchorError that
 * names `field` for text that is none. An empty text is the empty name.
 */
export function parseName(text: string, field = 'subject'): Buffer {
  const rdns = text.trim() === '' ? [] : splitUnescaped(text, ',').map(rdn => splitUnescaped(rdn, '+'))
  const encoded = rdns.map(attributes => {
    const values = attributes.map(attribute => encodeAttribute(attribute, text, field))
    // X.690 §11.6: the elements of a SET OF stand in the order of their encodings.
    return encode(tags.set, ...values.sort(Buffer.compare))
  })
  return encode(tags.sequence, ...encoded.reverse())
}

function encodeAttribute(attribute: string, text: string, field: string): Buffer {
  const equals = attribute.indexOf('=')
  const type = attribute.slice(0, equals).trim()
  const oid = Object.entries(shortNames).find(([, name]) => name.toLowerCase() === type.toLowerCase())?.[0]
  const value = unescaped(attribute.slice(equals + 1))
  if (equals < 1 || oid === undefined || value === null || value === '') {
    throw new ReanchorError({
      what: 'a name that cannot be read',
      where: { field },
      expected: 'RFC 4514 text: attributes as TYPE=value with commas between, a comma inside a value written `\\,`',
      found: JSON.stringify(text),
      example: 'CN=Mesh Root CA,O=Example',
    })
  }
  return encode(tags.sequence, encodeOid(oid), encodeString(oid, value))
}

/** PrintableString where the text allows it, as Go (and so istiod) writes names; otherwise UTF8String (RFC 5280 §4.1.2.4). */
function encodeString(oid: string, value: string): Buffer {
  if (oid === emailAddress || oid === '0.9.2342.19200300.100.1.25')
    return encode(tags.ia5String, Buffer.from(value, 'latin1'))
  const simple = /^[A-Za-z0-9 '()+,./:=?-]*$/.test(value)
  return encode(simple ? tags.printableString : tags.utf8String, Buffer.from(value, 'utf8'))
}

function splitUnescaped(text: string, separator: string): string[] {
  const parts = ['']
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!
    if (character === '\\') {
      parts[parts.length - 1] += text.slice(at, at + 2)
      at += 1
    } else if (character === separator) parts.push('')
    else parts[parts.length - 1] += character
  }
  return parts
}

/** Null for a broken escape. */
function unescaped(raw: string): string | null {
  const text = raw.replace(/^\s+/, '').replace(/(?<!\\)\s+$/, '')
  const bytes: Buffer[] = []
  for (let at = 0; at < text.length; ) {
    if (text[at] !== '\\') {
      const character = String.fromCodePoint(text.codePointAt(at)!)
      bytes.push(Buffer.from(character))
      at += character.length
      continue
    }
    const pair = /^\\([0-9A-Fa-f]{2})/.exec(text.slice(at, at + 3))
    if (pair !== null) {
      bytes.push(Buffer.from(pair[1]!, 'hex'))
      at += 3
      continue
    }
    if (at + 1 >= text.length) return null
    bytes.push(Buffer.from(text[at + 1]!))
    at += 2
  }
  return Buffer.concat(bytes).toString('utf8')
}
