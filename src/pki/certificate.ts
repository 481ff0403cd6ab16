import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import { ReanchorError, type Where } from '../errors.ts'
import { Remembered } from '../remember.ts'
import type { CertificateFacts, Instant } from '../rotation.ts'
import {
  children,
  type Der,
  DerError,
  expectTag,
  readBits,
  readCount,
  readDer,
  readInteger,
  readOid,
  readTime,
  tags,
  wholeOf,
} from './der.ts'
import { type Extensions, readExtensions } from './extensions.ts'
import { type Name, nameText, readName } from './names.ts'
import { holdsPrivateKey, pemOf, printable, readPem } from './pem.ts'

/** A public key's kind, as the SubjectPublicKeyInfo tells it. */
export type PublicKeyKind =
  | { readonly kind: 'RSA'; readonly bits: number }
  /** `curve` is the OID of a named curve; null: explicit parameters. */
  | { readonly kind: 'ECDSA'; readonly curve: string | null }
  | { readonly kind: 'Ed25519' }
  | { readonly kind: 'other'; readonly oid: string }

/** The parts of a certificate that the path search needs and that plain facts leave out. */
export interface CertificateParts {
  readonly version: number
  readonly subject: Name
  readonly issuer: Name
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKey: PublicKeyKind
  /** The content of the subjectPublicKey BIT STRING: what RFC 5280 §4.2.1.2 hashes for a key identifier. */
  readonly publicKeyBits: Buffer
  /** OID of the signature algorithm. */
  readonly signatureAlgorithm: string
  /** OID of the hash of RSASSA-PSS, null for any other algorithm. */
  readonly pssHash: string | null
  readonly extensions: Extensions
  /** What is malformed, but leaves the certificate readable. */
  readonly problems: readonly string[]
}

export interface Certificate extends CertificateFacts {
  readonly der: Buffer
  readonly x509: X509Certificate
  readonly parts: CertificateParts
}

/**
 * Reads one certificate: PEM text with exactly one CERTIFICATE block, or DER bytes (or the bytes of such a PEM text).
 * Throws a ReanchorError, located by `where`, for anything else. An extension whose content is malformed does not make
 * the certificate unreadable: see `parts.problems`; the path search refuses it.
 */
export function readCertificate(input: string | Uint8Array, where: Where = {}): Certificate {
  if (typeof input === 'string') return fromPem(input, where)
  const bytes = Buffer.from(input)
  if (bytes.subarray(0, 64).toString('latin1').includes('-----BEGIN')) return fromPem(bytes.toString('latin1'), where)
  return fromDer(bytes, where)
}

/** The plain JSON of a certificate: nothing of node:crypto, nothing of the parser. */
export function certificateFacts(certificate: CertificateFacts): CertificateFacts {
  const { sha256, spki, subject, issuer, serial, notBefore, notAfter, key, ski, aki, ca, pathLength, pem } = certificate
  return { sha256, spki, subject, issuer, serial, notBefore, notAfter, key, ski, aki, ca, pathLength, pem }
}

/** RFC 5280 §6.1: subject and issuer are the same name. Says nothing of keys. */
export function isSelfIssued(certificate: Certificate): boolean {
  return certificate.parts.subject.der.equals(certificate.parts.issuer.der)
}

/** Self-issued, and the signature verifies with its own key. */
export function isSelfSigned(certificate: Certificate): boolean {
  return isSelfIssued(certificate) && isSignedBy(certificate, certificate)
}

/** Whether the issuer's key made the signature. Names, dates and extensions are not looked at. False for unusable keys. */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  const tried = signers.get(certificate) ?? new WeakMap<Certificate, boolean>()
  signers.set(certificate, tried)
  const known = tried.get(issuer)
  if (known !== undefined) return known
  const signed = verifies(certificate, issuer)
  tried.set(issuer, signed)
  return signed
}

/** Which keys were tried on a certificate's signature: a proof asks the same of the same few for every mix. */
const signers = new WeakMap<Certificate, WeakMap<Certificate, boolean>>()

function verifies(certificate: Certificate, issuer: Certificate): boolean {
  const key = publicKeyOf(issuer)
  if (key === null) return false
  try {
    return certificate.x509.verify(key)
  } catch {
    // node:crypto throws where key and algorithm do not fit; that is not a signature by this key.
    return false
  }
}

/** Null where node:crypto cannot use the key. */
export function publicKeyOf(certificate: Certificate): KeyObject | null {
  try {
    return certificate.x509.publicKey
  } catch {
    return null
  }
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function instantOf(date: Date): Instant {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z')
}

function fromPem(text: string, where: Where): Certificate {
  if (!holdsPrivateKey(text) && !text.includes('-----BEGIN')) {
    throw new ReanchorError({
      what: 'no certificate in it',
      where,
      expected: 'one CERTIFICATE block in PEM',
      example: '-----BEGIN CERTIFICATE-----',
    })
  }
  const { blocks } = readPem(text, { file: where.file, object: where.object, strict: false })
  const [block, ...more] = blocks
  if (block === undefined || more.length > 0) {
    throw new ReanchorError({
      what: block === undefined ? 'no certificate in it' : 'more than one PEM block where one certificate belongs',
      where,
      expected: 'exactly one CERTIFICATE block',
      found: `${blocks.length} blocks`,
    })
  }
  const place = { ...where, line: (where.line ?? 1) + block.line - 1 }
  if (block.label !== 'CERTIFICATE') {
    throw new ReanchorError({
      what: 'a PEM block that is no certificate',
      where: place,
      expected: 'BEGIN CERTIFICATE',
      found: `BEGIN ${printable(block.label)}`,
    })
  }
  return fromDer(block.der, place)
}

/** Those that were read last: a proof, and each look at a site, read the same certificates many times. */
const lately = new Remembered<Certificate>(1024)

function fromDer(der: Buffer, where: Where): Certificate {
  try {
    return lately.get(der.toString('latin1'), () => readParts(der))
  } catch (error) {
    const detail = error instanceof DerError ? error.message : 'the bytes are no X.509 certificate'
    throw new ReanchorError({
      what: 'a certificate that cannot be read',
      where,
      expected: 'the DER of one X.509 certificate (RFC 5280 §4.1)',
      found: detail,
      todo: 'take the certificate from its source again',
      cause: error,
    })
  }
}

function readParts(der: Buffer): Certificate {
  const [tbs, outerAlgorithm, signature, ...rest] = children(readDer(der, tags.sequence))
  if (rest.length > 0) throw new DerError('fields follow the signature')
  readBits(expectTag(signature, tags.bitString))
  const fields = children(expectTag(tbs, tags.sequence))
  const version = fields[0]?.tag === 0xa0 ? 1 + readCount(expectTag(children(fields.shift()!)[0], tags.integer)) : 1
  const [serial, innerAlgorithm, issuerField, validity, subjectField, spki, ...optional] = fields
  const extensionField = optional.find(field => field.tag === 0xa3) ?? null
  // RFC 5280 §4.1: the unique identifiers, then the extensions, each at most once and in this order.
  const order = optional.map(field => field.tag & 0x1f)
  if (
    optional.some(field => ![0x81, 0x82, 0xa1, 0xa2, 0xa3].includes(field.tag)) ||
    order.some((tag, at) => at > 0 && tag <= order[at - 1]!)
  ) {
    throw new DerError('an unknown field')
  }

  const problems: string[] = []
  const algorithm = expectTag(outerAlgorithm, tags.sequence)
  if (!wholeOf(algorithm).equals(wholeOf(expectTag(innerAlgorithm, tags.sequence)))) {
    problems.push('the two signature algorithms differ (RFC 5280 §4.1.1.2)')
  }
  if (version < 1 || version > 3) problems.push(`version ${version} does not exist`)
  if (extensionField !== null && version !== 3) problems.push(`extensions in a certificate of version ${version}`)

  const serialBytes = readInteger(expectTag(serial, tags.integer))
  const [notBeforeField, notAfterField, ...moreTimes] = children(expectTag(validity, tags.sequence))
  if (notBeforeField === undefined || notAfterField === undefined || moreTimes.length > 0)
    throw new DerError('a broken validity')
  const notBefore = readTime(notBeforeField)
  const notAfter = readTime(notAfterField)
  const issuer = readName(expectTag(issuerField, tags.sequence))
  const subject = readName(expectTag(subjectField, tags.sequence))
  const [keyAlgorithm, keyBits] = children(expectTag(spki, tags.sequence))
  const publicKeyBits = readBits(expectTag(keyBits, tags.bitString)).bytes
  const publicKey = readKeyKind(expectTag(keyAlgorithm, tags.sequence), publicKeyBits, problems)
  const [signatureOid, signatureParameters] = children(algorithm)
  const signatureAlgorithm = readOid(expectTag(signatureOid, tags.oid))
  const extensions = readExtensions(extensionField)

  return {
    sha256: sha256Hex(der),
    spki: sha256Hex(wholeOf(spki!)),
    subject: nameText(subject),
    issuer: nameText(issuer),
    serial: serialBytes.toString('hex'),
    notBefore: instantOf(notBefore),
    notAfter: instantOf(notAfter),
    key: keyText(publicKey),
    ski: extensions.subjectKey,
    aki: extensions.authorityKey?.keyId ?? null,
    ca: extensions.basicConstraints?.ca ?? false,
    pathLength: extensions.basicConstraints?.pathLength ?? null,
    pem: pemOf('CERTIFICATE', der),
    der,
    x509: new X509Certificate(der),
    parts: {
      version,
      subject,
      issuer,
      notBefore,
      notAfter,
      publicKey,
      publicKeyBits,
      signatureAlgorithm,
      pssHash: signatureAlgorithm === '1.2.840.113549.1.1.10' ? readPssHash(signatureParameters) : null,
      extensions,
      problems: [...problems, ...extensions.problems],
    },
  }
}

function readKeyKind(algorithm: Der, bits: Buffer, problems: string[]): PublicKeyKind {
  const [type, parameters] = children(algorithm)
  const oid = readOid(expectTag(type, tags.oid))
  if (oid === '1.3.101.112') return { kind: 'Ed25519' }
  if (oid === '1.2.840.10045.2.1')
    return { kind: 'ECDSA', curve: parameters?.tag === tags.oid ? readOid(parameters) : null }
  // rsaEncryption, and id-RSASSA-PSS as a key type (RFC 4055 §1.2).
  if (oid !== '1.2.840.113549.1.1.1' && oid !== '1.2.840.113549.1.1.10') return { kind: 'other', oid }
  try {
    const [modulus] = children(readDer(bits, tags.sequence))
    const content = readInteger(expectTag(modulus, tags.integer))
    const bytes = content[0] === 0 ? content.subarray(1) : content
    return { kind: 'RSA', bits: bytes.length === 0 ? 0 : bytes.length * 8 - Math.clz32(bytes[0]!) + 24 }
  } catch (error) {
    if (!(error instanceof DerError)) throw error
    problems.push(`public key: ${error.message}`)
    return { kind: 'RSA', bits: 0 }
  }
}

/** RFC 4055 §3.1: SHA-1 where the parameters leave the hash out. */
function readPssHash(parameters: Der | undefined): string {
  const hash = parameters === undefined ? undefined : children(parameters).find(field => field.tag === 0xa0)
  if (hash === undefined) return '1.3.14.3.2.26'
  return readOid(expectTag(children(expectTag(children(hash)[0], tags.sequence))[0], tags.oid))
}

const curveNames: Readonly<Record<string, string>> = {
  '1.2.840.10045.3.1.1': 'P-192',
  '1.3.132.0.33': 'P-224',
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
  '1.3.132.0.35': 'P-521',
}

function keyText(key: PublicKeyKind): string {
  switch (key.kind) {
    case 'RSA':
      return `RSA ${key.bits}`
    case 'ECDSA':
      return key.curve === null ? 'ECDSA with explicit parameters' : `ECDSA ${curveNames[key.curve] ?? key.curve}`
    case 'Ed25519':
      return 'Ed25519'
    case 'other':
      return `key type ${key.oid}`
  }
}
