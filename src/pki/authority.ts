import { createHash, createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import { ReanchorError, type Where } from '../errors.ts'
import { ipBytes } from './addresses.ts'
import { type Certificate, readCertificate } from './certificate.ts'
import { children, encode, encodeOid, expectTag, readBits, readDer, tags } from './der.ts'
import { extensionOids, type KeyUsage, purposeOids } from './extensions.ts'
import { spkiOf } from './keys.ts'
import { type Name, nameText, parseName, readName } from './names.ts'
import { pemOf } from './pem.ts'

export {
  type AnyKeyAlgorithm,
  type KeySource,
  keyMatches,
  privateKeyPem,
  readPrivateKey,
  systemKeys,
} from './keys.ts'

/** One extension as DER: every one that a certificate gets is set on purpose. */
export interface RawExtension {
  readonly oid: string
  readonly critical: boolean
  readonly value: Buffer
}

/** RFC 4514 text, or the name of another certificate, taken over byte for byte (RFC 5280 §4.1.2.4 compares encodings). */
export type Subject = string | Name

/** A CA that signs. */
export interface Signer {
  readonly certificate: Certificate
  readonly key: KeyObject
}

/** What a CA constrains its subordinates' names to; DNS names as domains, addresses as `10.0.0.0/8`. */
export interface NameLimits {
  readonly permitted?: NameList
  readonly excluded?: NameList
}

export interface NameList {
  readonly dns?: readonly string[]
  readonly uriHosts?: readonly string[]
  readonly emails?: readonly string[]
  readonly ips?: readonly string[]
  readonly directories?: readonly string[]
}

interface Dated {
  readonly notBefore: Date
  readonly notAfter: Date
  /** Hex of a positive number of at most 20 octets (RFC 5280 §4.1.2.2); see `serialFrom`. */
  readonly serial: string
}

export interface RootParts extends Dated {
  readonly subject: Subject
  readonly key: KeyObject
  readonly pathLength?: number | null
  readonly nameConstraints?: NameLimits
}

export interface IssuingParts extends Dated {
  readonly subject: Subject
  /** The subject's key: public, or private (then only its public half is used). */
  readonly key: KeyObject
  readonly issuer: Signer
  /** 0 unless said otherwise: it signs leaves only. Null: no limit. */
  readonly pathLength?: number | null
  readonly dns?: readonly string[]
  readonly nameConstraints?: NameLimits
}

export interface LeafParts extends Dated {
  /** Empty unless said otherwise; the subjectAltName is then critical (RFC 5280 §4.2.1.6), as in istiod's leaves. */
  readonly subject?: Subject
  readonly key: KeyObject
  readonly issuer: Signer
  readonly uris?: readonly string[]
  readonly dns?: readonly string[]
  readonly ips?: readonly string[]
  /** Both unless said otherwise: workloads of a mesh are clients and servers. */
  readonly purposes?: readonly ('server' | 'client')[]
}

/** A self-signed root: basicConstraints and keyUsage critical, keyCertSign and cRLSign, SKI. */
export async function createRoot(parts: RootParts): Promise<Certificate> {
  const keyId = keyIdOf(parts.key)
  return createCertificate({
    ...parts,
    publicKey: parts.key,
    signingKey: parts.key,
    issuer: parts.subject,
    extensions: [
      basicConstraints(parts.pathLength ?? null),
      keyUsage(['keyCertSign', 'cRLSign']),
      subjectKey(keyId),
      authorityKey(keyId),
      ...nameConstraints(parts.nameConstraints),
    ],
  })
}

/**
 * A subordinate CA, or with `pathLength: null` and the subject of another root a cross-certificate. Refused where it
 * would outlive its issuer: no verifier accepts a path that long.
 */
export async function createIssuing(parts: IssuingParts): Promise<Certificate> {
  refuseOutliving(parts, parts.issuer.certificate)
  return createCertificate({
    ...parts,
    publicKey: parts.key,
    signingKey: parts.issuer.key,
    issuer: parts.issuer.certificate.parts.subject,
    extensions: [
      basicConstraints(parts.pathLength === undefined ? 0 : parts.pathLength),
      keyUsage(['keyCertSign', 'cRLSign']),
      subjectKey(keyIdOf(parts.key)),
      authorityKey(issuerKeyId(parts.issuer)),
      ...(parts.dns === undefined || parts.dns.length === 0 ? [] : [alternativeNames({ dns: parts.dns }, false)]),
      ...nameConstraints(parts.nameConstraints),
    ],
  })
}

/** A leaf for TLS: keyEncipherment for RSA keys only (RFC 8446 and ECDHE need digitalSignature alone), EKU, SAN, AKI. */
export async function createLeaf(parts: LeafParts): Promise<Certificate> {
  const subject = parts.subject ?? ''
  const rsa = parts.key.asymmetricKeyType === 'rsa'
  const empty = nameDer(subject).length === 2
  return createCertificate({
    ...parts,
    subject,
    publicKey: parts.key,
    signingKey: parts.issuer.key,
    issuer: parts.issuer.certificate.parts.subject,
    extensions: [
      basicConstraints(false),
      keyUsage(rsa ? ['digitalSignature', 'keyEncipherment'] : ['digitalSignature']),
      extendedKeyUsage(parts.purposes ?? ['server', 'client']),
      subjectKey(keyIdOf(parts.key)),
      authorityKey(issuerKeyId(parts.issuer)),
      alternativeNames(parts, empty),
    ],
  })
}

/**
 * A root as istiod makes for itself (istio security/pkg/pki/util/generate_cert.go, GenCertKeyFromOptions with IsSelfSigned):
 * RSA 2048, subject O=<trust domain>, keyUsage keyCertSign alone, basicConstraints, SKI, no AKI. For fixtures and the rehearsal.
 */
export function istioSelfSigned(
  parts: Dated & { readonly trustDomain: string; readonly key: KeyObject },
): Promise<Certificate> {
  const subject = `O=${parts.trustDomain}`
  return createCertificate({
    ...parts,
    subject,
    issuer: subject,
    publicKey: parts.key,
    signingKey: parts.key,
    extensions: [keyUsage(['keyCertSign']), basicConstraints(null), subjectKey(keyIdOf(parts.key))],
  })
}

/** A serial number of 16 random bytes: positive, and not zero (RFC 5280 §4.1.2.2). */
export function serialFrom(random: (count: number) => Buffer): string {
  const bytes = Buffer.from(random(16))
  bytes[0] = (bytes[0]! & 0x3f) | 0x40
  return bytes.toString('hex')
}

export interface CertificateInput extends Dated {
  readonly subject: Subject
  readonly issuer: Subject
  readonly publicKey: KeyObject
  readonly signingKey: KeyObject
  readonly extensions: readonly RawExtension[]
}

/** Any certificate, exactly as told: what the others here are made of. The hash follows the signing key. */
export async function createCertificate(input: CertificateInput): Promise<Certificate> {
  checkSerial(input.serial)
  if (input.notAfter.getTime() <= input.notBefore.getTime()) {
    throw new ReanchorError({
      what: 'a certificate that ends before it begins',
      expected: 'notAfter later than notBefore',
      found: `${input.notBefore.toISOString()} to ${input.notAfter.toISOString()}`,
    })
  }
  const x509 = await loadX509()
  const created = await x509.X509CertificateGenerator.create(
    {
      serialNumber: input.serial,
      subject: new x509.Name(bytesOf(nameDer(input.subject))),
      issuer: new x509.Name(bytesOf(nameDer(input.issuer))),
      notBefore: input.notBefore,
      notAfter: input.notAfter,
      publicKey: bytesOf(spkiOf(input.publicKey)),
      signingKey: await webKey(input.signingKey),
      signingAlgorithm: signingAlgorithm(input.signingKey),
      extensions: input.extensions.map(({ oid, critical, value }) => new x509.Extension(oid, critical, bytesOf(value))),
    },
    provider(),
  )
  return readCertificate(Buffer.from(created.rawData))
}

/** A PKCS#10 request (RFC 2986) for an issuing CA: it asks for cA, the path length and key usage that `createIssuing` gives. */
export async function createRequest(parts: {
  readonly subject: Subject
  readonly key: KeyObject
  readonly pathLength?: number | null
  readonly dns?: readonly string[]
}): Promise<Request> {
  const x509 = await loadX509()
  const extensions = [
    basicConstraints(parts.pathLength === undefined ? 0 : parts.pathLength),
    keyUsage(['keyCertSign', 'cRLSign']),
    subjectKey(keyIdOf(parts.key)),
    ...(parts.dns === undefined || parts.dns.length === 0 ? [] : [alternativeNames({ dns: parts.dns }, false)]),
  ]
  const created = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: new x509.Name(bytesOf(nameDer(parts.subject))),
      keys: await webKeyPair(parts.key),
      signingAlgorithm: signingAlgorithm(parts.key),
      extensions: extensions.map(({ oid, critical, value }) => new x509.Extension(oid, critical, bytesOf(value))),
    },
    provider(),
  )
  return readRequest(pemOf('CERTIFICATE REQUEST', Buffer.from(created.rawData)))
}

/** A request whose own signature was checked. */
export interface Request {
  readonly pem: string
  readonly subject: string
  readonly name: Name
  readonly publicKey: KeyObject
  /** SHA-256 of the SubjectPublicKeyInfo. */
  readonly spki: string
}

/** Reads a PKCS#10 request in PEM and checks that its sender holds the key. Throws a located ReanchorError otherwise. */
export async function readRequest(text: string, where: Where = {}): Promise<Request> {
  const x509 = await loadX509()
  const body = /-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END/.exec(text)?.[1]
  const fail = (found: string): never => {
    throw new ReanchorError({
      what: 'a certificate request that cannot be used',
      where,
      expected: 'one CERTIFICATE REQUEST block in PEM, signed with its own key',
      found,
    })
  }
  if (body === undefined) return fail('no CERTIFICATE REQUEST block')
  const der = Buffer.from(body, 'base64')
  let verified = false
  try {
    verified = await new x509.Pkcs10CertificateRequest(bytesOf(der)).verify(provider())
  } catch {
    return fail('a broken request')
  }
  if (!verified) return fail('a signature that its key did not make')
  const info = children(children(readDer(der, tags.sequence))[0]!)
  const name = readName(expectTag(info[1], tags.sequence))
  const publicKey = createPublicKey({
    key: info[2]!.bytes.subarray(info[2]!.start, info[2]!.end),
    format: 'der',
    type: 'spki',
  })
  const spki = createHash('sha256').update(spkiOf(publicKey)).digest('hex')
  return { pem: pemOf('CERTIFICATE REQUEST', der), subject: nameText(name), name, publicKey, spki }
}

/** SHA-1 of the subjectPublicKey bits: RFC 5280 §4.2.1.2 (1). A name for the key, not a protection. */
export function keyIdOf(key: KeyObject): string {
  const bits = readBits(expectTag(children(readDer(spkiOf(key)))[1], tags.bitString)).bytes
  return createHash('sha1').update(bits).digest('hex')
}

// ------------------------------------------------------------------------------------------------- extensions

/** `false`: not a CA. A number or null: a CA with that path length or without a limit. */
export function basicConstraints(ca: false | number | null): RawExtension {
  const fields: Buffer[] = []
  if (ca !== false) fields.push(encode(tags.boolean, Buffer.from([0xff])))
  if (typeof ca === 'number') fields.push(encode(tags.integer, Buffer.from([ca])))
  return { oid: extensionOids.basicConstraints, critical: true, value: encode(tags.sequence, ...fields) }
}

const usageBits: Readonly<Partial<Record<KeyUsage, number>>> = {
  digitalSignature: 0x80,
  nonRepudiation: 0x40,
  keyEncipherment: 0x20,
  dataEncipherment: 0x10,
  keyAgreement: 0x08,
  keyCertSign: 0x04,
  cRLSign: 0x02,
}

export function keyUsage(usages: readonly KeyUsage[]): RawExtension {
  const byte = usages.reduce((bits, usage) => bits | (usageBits[usage] ?? 0), 0)
  // X.690 §11.2.2: a named bit list ends at its last one bit.
  const unused = byte === 0 ? 0 : 31 - Math.clz32(byte & -byte)
  const value = encode(tags.bitString, Buffer.from(byte === 0 ? [0] : [unused, byte]))
  return { oid: extensionOids.keyUsage, critical: true, value }
}

export function extendedKeyUsage(purposes: readonly ('server' | 'client')[]): RawExtension {
  const value = encode(tags.sequence, ...purposes.map(purpose => encodeOid(purposeOids[purpose])))
  return { oid: extensionOids.extendedKeyUsage, critical: false, value }
}

export function subjectKey(keyId: string): RawExtension {
  return { oid: extensionOids.subjectKey, critical: false, value: encode(tags.octetString, Buffer.from(keyId, 'hex')) }
}

export function authorityKey(keyId: string): RawExtension {
  return {
    oid: extensionOids.authorityKey,
    critical: false,
    value: encode(tags.sequence, encode(0x80, Buffer.from(keyId, 'hex'))),
  }
}

function alternativeNames(
  names: { readonly uris?: readonly string[]; readonly dns?: readonly string[]; readonly ips?: readonly string[] },
  critical: boolean,
): RawExtension {
  const value = encode(
    tags.sequence,
    ...(names.uris ?? []).map(uri => encode(0x86, Buffer.from(uri, 'latin1'))),
    ...(names.dns ?? []).map(dns => encode(0x82, Buffer.from(dns, 'latin1'))),
    ...(names.ips ?? []).map(ip => encode(0x87, addressBytes(ip))),
  )
  return { oid: extensionOids.names, critical, value }
}

/** None, or the one extension, critical as RFC 5280 §4.2.1.10 demands. */
function nameConstraints(limits: NameLimits | undefined): RawExtension[] {
  if (limits === undefined) return []
  const permitted = subtrees(limits.permitted)
  const excluded = subtrees(limits.excluded)
  const value = encode(
    tags.sequence,
    ...(permitted.length === 0 ? [] : [encode(0xa0, ...permitted)]),
    ...(excluded.length === 0 ? [] : [encode(0xa1, ...excluded)]),
  )
  return [{ oid: extensionOids.nameConstraints, critical: true, value }]
}

function subtrees(list: NameList = {}): Buffer[] {
  return [
    ...(list.dns ?? []).map(domain => encode(0x82, Buffer.from(domain, 'latin1'))),
    ...(list.uriHosts ?? []).map(host => encode(0x86, Buffer.from(host, 'latin1'))),
    ...(list.emails ?? []).map(email => encode(0x81, Buffer.from(email, 'latin1'))),
    ...(list.ips ?? []).map(range => encode(0x87, rangeBytes(range))),
    ...(list.directories ?? []).map(name => encode(0xa4, parseName(name))),
  ].map(base => encode(tags.sequence, base))
}

/** 4 or 16 bytes of an address. */
function addressBytes(ip: string): Buffer {
  const bytes = ipBytes(ip)
  if (bytes === null)
    throw new ReanchorError({
      what: 'an address that cannot be read',
      expected: 'IPv4 or IPv6',
      found: JSON.stringify(ip),
      example: '10.0.0.1',
    })
  return bytes
}

function rangeBytes(range: string): Buffer {
  const [ip = '', prefix = ''] = range.split('/')
  const address = addressBytes(ip)
  const length = Number(prefix)
  const mask = Buffer.from(address.map((_, index) => 0xff & ~(0xff >> Math.min(8, Math.max(0, length - index * 8)))))
  return Buffer.concat([address.map((byte, index) => byte & mask[index]!), mask])
}

// ------------------------------------------------------------------------------------------------------ pieces

function refuseOutliving(parts: Dated, issuer: Certificate): void {
  // A certificate's times are whole seconds (RFC 5280, 4.1.2.5): what stands behind them is cut off.
  if (Math.floor(parts.notAfter.getTime() / 1000) <= Math.floor(issuer.parts.notAfter.getTime() / 1000)) return
  throw new ReanchorError({
    what: 'an issuing CA that would outlive its issuer',
    expected: `an end not later than ${issuer.notAfter}, where ${issuer.subject} ends`,
    found: parts.notAfter.toISOString(),
    todo: 'give the issuing CA a shorter validity, or the root a longer one',
  })
}

function checkSerial(serial: string): void {
  const fits = /^([0-9a-f]{2}){1,20}$/.test(serial) && !/^0+$/.test(serial) && !/^[89a-f]/.test(serial)
  if (fits) return
  throw new ReanchorError({
    what: 'a serial number that no certificate may have',
    expected: 'lower-case hex of a positive number, at most 20 octets, the first below 80 (RFC 5280 §4.1.2.2)',
    found: JSON.stringify(serial),
  })
}

function issuerKeyId(issuer: Signer): string {
  return issuer.certificate.ski ?? keyIdOf(issuer.key)
}

function nameDer(subject: Subject): Buffer {
  return typeof subject === 'string' ? parseName(subject) : subject.der
}

/** tsyringe inside @peculiar/x509 throws at import unless reflect-metadata was there first. */
async function loadX509() {
  await import('reflect-metadata')
  return import('@peculiar/x509')
}

/** Handed to each call: a global provider would be shared with whatever else the process loads. */
function provider(): webcrypto.Crypto {
  return webcrypto
}

function signingAlgorithm(key: KeyObject): { name: string; hash: string } {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
  return { name: 'ECDSA', hash: curveOf(key) === 'P-384' ? 'SHA-384' : 'SHA-256' }
}

function curveOf(key: KeyObject): string {
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'P-384' : 'P-256'
}

function importAlgorithm(key: KeyObject) {
  if (key.asymmetricKeyType === 'rsa') return signingAlgorithm(key)
  return { name: 'ECDSA', namedCurve: curveOf(key) }
}

async function webKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const der = key.export({ type: 'pkcs8', format: 'der' })
  return webcrypto.subtle.importKey('pkcs8', bytesOf(der), importAlgorithm(key), false, ['sign'])
}

async function webKeyPair(key: KeyObject): Promise<webcrypto.CryptoKeyPair> {
  const publicKey = await webcrypto.subtle.importKey('spki', bytesOf(spkiOf(key)), importAlgorithm(key), true, [
    'verify',
  ])
  return { privateKey: await webKey(key), publicKey }
}

/** A copy with a buffer of its own: a slice of Node's pool would hand over its neighbours. */
function bytesOf(buffer: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer)
}
