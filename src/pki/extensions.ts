import {
  children,
  contentOf,
  type Der,
  DerError,
  expectTag,
  oidText,
  readBits,
  readBoolean,
  readCount,
  readDer,
  readOid,
  tags,
} from './der.ts'
import { type Name, readName } from './names.ts'

export type KeyUsage =
  | 'digitalSignature'
  | 'nonRepudiation'
  | 'keyEncipherment'
  | 'dataEncipherment'
  | 'keyAgreement'
  | 'keyCertSign'
  | 'cRLSign'
  | 'encipherOnly'
  | 'decipherOnly'

/** RFC 5280 §4.2.1.3: bit 0 first. */
const keyUsageBits: readonly KeyUsage[] = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
]

/** RFC 5280 §4.2.1.6. `other` are the kinds that no check here can judge; `tag` is their number in the CHOICE. */
export type GeneralName =
  | { readonly kind: 'DNS' | 'URI' | 'email'; readonly value: string }
  | { readonly kind: 'IP'; readonly bytes: Buffer }
  | { readonly kind: 'directory'; readonly name: Name }
  | { readonly kind: 'other'; readonly tag: number }

export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

export interface AuthorityKey {
  /** Hex, or null. */
  readonly keyId: string | null
  /** The directory names of authorityCertIssuer, as DER; null where the field is absent. */
  readonly issuers: readonly Buffer[] | null
  /** Hex of authorityCertSerialNumber, or null. */
  readonly serial: string | null
}

/** What a certificate's extensions say. Null: the extension is absent, or could not be read (see `problems`). */
export interface Extensions {
  readonly basicConstraints: { readonly ca: boolean; readonly pathLength: number | null } | null
  readonly keyUsage: ReadonlySet<KeyUsage> | null
  /** OIDs. */
  readonly extendedKeyUsage: readonly string[] | null
  readonly names: readonly GeneralName[] | null
  readonly nameConstraints: NameConstraints | null
  readonly subjectKey: string | null
  readonly authorityKey: AuthorityKey | null
  /** OID → critical, of every extension. */
  readonly present: ReadonlyMap<string, boolean>
  /** What is malformed: an extension that does not parse, or that stands twice. */
  readonly problems: readonly string[]
}

export const extensionOids = {
  subjectKey: '2.5.29.14',
  keyUsage: '2.5.29.15',
  names: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  certificatePolicies: '2.5.29.32',
  policyMappings: '2.5.29.33',
  authorityKey: '2.5.29.35',
  policyConstraints: '2.5.29.36',
  extendedKeyUsage: '2.5.29.37',
  inhibitAnyPolicy: '2.5.29.54',
  authorityInformation: '1.3.6.1.5.5.7.1.1',
} as const

/** id-kp-serverAuth and id-kp-clientAuth (RFC 5280 §4.2.1.12). */
export const purposeOids = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const

/** Reads [3] Extensions; null: the certificate has none. Never throws for what stands inside one extension. */
export function readExtensions(field: Der | null): Extensions {
  const problems: string[] = []
  const present = new Map<string, boolean>()
  const values = new Map<string, Buffer>()
  for (const element of field === null ? [] : extensionList(field)) {
    const [type, ...rest] = children(expectTag(element, tags.sequence))
    const oid = readOid(expectTag(type, tags.oid))
    const critical = rest[0]?.tag === tags.boolean ? readBoolean(rest[0]) : false
    const value = rest[0]?.tag === tags.boolean ? rest.slice(1) : rest
    if (value.length !== 1) throw new DerError('a broken extension')
    if (present.has(oid)) problems.push(`extension ${oid} stands twice (RFC 5280 §4.2)`)
    present.set(oid, critical)
    values.set(oid, contentOf(expectTag(value[0], tags.octetString)))
  }

  function read<T>(oid: string, name: string, parse: (value: Der) => T): T | null {
    const value = values.get(oid)
    if (value === undefined) return null
    try {
      return parse(readDer(value))
    } catch (error) {
      if (!(error instanceof DerError)) throw error
      problems.push(`${name}: ${error.message}`)
      return null
    }
  }

  const extensions = {
    basicConstraints: read(extensionOids.basicConstraints, 'basicConstraints', readBasicConstraints),
    keyUsage: read(extensionOids.keyUsage, 'keyUsage', readKeyUsage),
    extendedKeyUsage: read(extensionOids.extendedKeyUsage, 'extendedKeyUsage', readExtendedKeyUsage),
    names: read(extensionOids.names, 'subjectAltName', readGeneralNames),
    nameConstraints: read(extensionOids.nameConstraints, 'nameConstraints', readNameConstraints),
    subjectKey: read(extensionOids.subjectKey, 'subjectKeyIdentifier', readSubjectKey),
    authorityKey: read(extensionOids.authorityKey, 'authorityKeyIdentifier', readAuthorityKey),
  }
  read(extensionOids.authorityInformation, 'authorityInfoAccess', checkAuthorityInformation)
  return { ...extensions, present, problems }
}

function extensionList(field: Der): Der[] {
  const [list, ...rest] = children(field)
  const found = children(expectTag(list, tags.sequence))
  if (rest.length > 0 || found.length === 0) throw new DerError('broken extensions')
  return found
}

function readBasicConstraints(value: Der) {
  const parts = children(expectTag(value, tags.sequence))
  const hasCa = parts[0]?.tag === tags.boolean
  const ca = hasCa ? readBoolean(parts[0]!) : false
  const rest = hasCa ? parts.slice(1) : parts
  if (rest.length > 1) throw new DerError('too many fields')
  const pathLength = rest[0] === undefined ? null : readCount(rest[0])
  if (pathLength !== null && !ca) throw new DerError('a path length without cA (RFC 5280 §4.2.1.9)')
  return { ca, pathLength }
}

function readKeyUsage(value: Der): ReadonlySet<KeyUsage> {
  const { bytes } = readBits(value)
  return new Set(keyUsageBits.filter((_, bit) => ((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0))
}

function readExtendedKeyUsage(value: Der): readonly string[] {
  const oids = children(expectTag(value, tags.sequence)).map(readOid)
  if (oids.length === 0) throw new DerError('no usage listed (RFC 5280 §4.2.1.12)')
  return oids
}

function readSubjectKey(value: Der): string {
  const content = contentOf(expectTag(value, tags.octetString))
  if (content.length === 0) throw new DerError('empty')
  return content.toString('hex')
}

function readAuthorityKey(value: Der): AuthorityKey {
  let keyId: string | null = null
  let issuers: Buffer[] | null = null
  let serial: string | null = null
  let last = -1
  for (const part of children(expectTag(value, tags.sequence))) {
    if (part.tag <= last) throw new DerError('fields out of order')
    last = part.tag
    if (part.tag === 0x80) keyId = contentOf(part).toString('hex')
    else if (part.tag === 0xa1) {
      issuers = children(part)
        .map(readGeneralName)
        .flatMap(name => (name.kind === 'directory' ? [name.name.der] : []))
    } else if (part.tag === 0x82) serial = contentOf(part).toString('hex')
    else throw new DerError('an unknown field')
  }
  return { keyId, issuers, serial }
}

function readGeneralNames(value: Der): readonly GeneralName[] {
  const names = children(expectTag(value, tags.sequence)).map(readGeneralName)
  if (names.length === 0) throw new DerError('no name listed (RFC 5280 §4.2.1.6)')
  for (const name of names) {
    if ('value' in name && name.value === '') throw new DerError('an empty name')
    if (name.kind === 'IP' && name.bytes.length !== 4 && name.bytes.length !== 16)
      throw new DerError('an address of neither 4 nor 16 bytes')
  }
  return names
}

function readGeneralName(element: Der): GeneralName {
  switch (element.tag) {
    case 0x81:
      return { kind: 'email', value: ia5(element) }
    case 0x82:
      return { kind: 'DNS', value: ia5(element) }
    case 0x86:
      return { kind: 'URI', value: ia5(element) }
    case 0x87:
      return { kind: 'IP', bytes: contentOf(element) }
    case 0xa4: {
      const [name, ...rest] = children(element)
      if (name === undefined || rest.length > 0) throw new DerError('a broken directory name')
      return { kind: 'directory', name: readName(name) }
    }
    case 0xa0:
    case 0xa3:
    case 0xa5:
      return { kind: 'other', tag: element.tag & 0x1f }
    case 0x88:
      oidText(contentOf(element))
      return { kind: 'other', tag: 8 }
    default:
      throw new DerError('a name of an unknown kind')
  }
}

function readNameConstraints(value: Der): NameConstraints {
  let permitted: GeneralName[] | null = null
  let excluded: GeneralName[] | null = null
  for (const part of children(expectTag(value, tags.sequence))) {
    if (part.tag === 0xa0 && permitted === null && excluded === null) permitted = readSubtrees(part)
    else if (part.tag === 0xa1 && excluded === null) excluded = readSubtrees(part)
    else throw new DerError('an unknown field')
  }
  if (permitted === null && excluded === null)
    throw new DerError('neither permitted nor excluded names (RFC 5280 §4.2.1.10)')
  return { permitted: permitted ?? [], excluded: excluded ?? [] }
}

function readSubtrees(part: Der): GeneralName[] {
  const subtrees = children(part).map(subtree => {
    const [base, ...rest] = children(expectTag(subtree, tags.sequence))
    if (base === undefined) throw new DerError('a subtree without a base')
    // RFC 5280 §4.2.1.10: minimum MUST be zero (and is then left out, being the default), maximum MUST be absent.
    if (rest.length > 0) throw new DerError('a subtree with a minimum or maximum')
    const name = readGeneralName(base)
    checkConstraint(name)
    return name
  })
  if (subtrees.length === 0) throw new DerError('an empty list of subtrees')
  return subtrees
}

/** RFC 5280 §4.2.1.10 for each kind of base. A constraint that cannot be understood must not be passed over. */
function checkConstraint(name: GeneralName): void {
  if (name.kind === 'IP') {
    if (name.bytes.length !== 8 && name.bytes.length !== 32)
      throw new DerError('an address range of neither 8 nor 32 bytes')
    const mask = name.bytes.subarray(name.bytes.length / 2)
    const bits = [...mask].map(byte => byte.toString(2).padStart(8, '0')).join('')
    if (bits.includes('01')) throw new DerError('an address mask with a hole')
  }
  if (name.kind === 'DNS' && (name.value.includes('*') || /\s|\.\.|\.$/.test(name.value))) {
    throw new DerError('a DNS constraint that is no domain')
  }
  if (name.kind === 'email' && (name.value.split('@').length > 2 || /\s|^@|@$/.test(name.value))) {
    throw new DerError('an email constraint that is neither mailbox, host nor domain')
  }
}

/** RFC 5280 §4.2.2.1: one or more AccessDescriptions. */
function checkAuthorityInformation(value: Der): void {
  const descriptions = children(expectTag(value, tags.sequence))
  if (descriptions.length === 0) throw new DerError('no access description')
  for (const description of descriptions) {
    const [method, location, ...rest] = children(expectTag(description, tags.sequence))
    if (method === undefined || location === undefined || rest.length > 0)
      throw new DerError('a broken access description')
    readOid(method)
    readGeneralName(location)
  }
}

function ia5(element: Der): string {
  const content = contentOf(element)
  if (content.some(byte => byte > 0x7f)) throw new DerError('a name with bytes outside ASCII')
  return content.toString('latin1')
}
