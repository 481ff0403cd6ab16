import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto'
import { Remembered } from '../remember.ts'
import type { Fingerprint } from '../rotation.ts'

/**
 * Certificates in the very shape in which istiod writes them, which differs from what reanchor issues on purpose: leaves with
 * an empty subject and a critical SAN, a self-signed root with nothing but an organisation (istio/istio security/pkg/pki/util/generate_cert.go).
 */
export interface Pair {
  readonly certificate: string
  readonly key: string
}

export interface Life {
  readonly notBefore: Date
  readonly notAfter: Date
}

export type RelativeName = readonly (readonly [oid: string, text: string])[]

const oids = {
  organization: '2.5.4.10',
  commonName: '2.5.4.3',
  locality: '2.5.4.7',
} as const

/** Istio's own CA: RSA 2048, subject `O=<trust domain>` alone, keyCertSign alone. */
export function selfSignedCa(trustDomain: string, life: Life): Pair {
  const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const name: RelativeName = [[oids.organization, trustDomain]]
  return ca({ name, keys, issuer: null, pathLength: null, life })
}

/** A root that a company keeps outside the mesh. */
export function companyRoot(commonName: string, life: Life): Pair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return ca({
    name: [
      [oids.organization, 'Example'],
      [oids.commonName, commonName],
    ],
    keys,
    issuer: null,
    pathLength: null,
    life,
  })
}

/** An issuing CA of one cluster, as istio/istio tools/certs makes it: the clusters differ by locality. */
export function issuingCa(root: Pair, cluster: string, life: Life): Pair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const name: RelativeName = [
    [oids.organization, 'Istio'],
    [oids.commonName, 'Intermediate CA'],
    [oids.locality, cluster],
  ]
  return ca({ name, keys, issuer: root, pathLength: 0, life })
}

export interface LeafRequest {
  /** SPIFFE id of a workload. */
  readonly uri?: string
  /** Names of istiod's own certificate. */
  readonly dns?: readonly string[]
  readonly life: Life
}

/** A leaf with a new P-256 key. Istio's default is RSA 2048; a rehearsal makes hundreds of leaves and would only wait. */
export function issueLeaf(issuer: Pair, request: LeafRequest): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const names = [
    ...(request.uri === undefined ? [] : [der(0x86, Buffer.from(request.uri))]),
    ...(request.dns ?? []).map(name => der(0x82, Buffer.from(name))),
  ]
  const certificate = build({
    subject: sequence(),
    publicKey,
    issuer,
    life: request.life,
    extensions: [
      extension('2.5.29.15', true, der(0x03, Buffer.from([5, 0xa0]))),
      extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))),
      extension('2.5.29.19', true, sequence()),
      authorityKeyId(issuer),
      extension('2.5.29.17', true, sequence(...names)),
    ],
  })
  return { certificate, key: pemOfKey(privateKey) }
}

export function fingerprintOf(certificate: string): Fingerprint {
  return createHash('sha256').update(derOf(certificate)).digest('hex')
}

/** Every CERTIFICATE block of a text, whatever stands between, each ending with one newline. Istio's pools read files so. */
export function certificatesIn(text: string): string[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  return blocks.map(block => `${block}\n`)
}

export function derOf(certificate: string): Buffer {
  return Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64')
}

interface CaRequest {
  readonly name: RelativeName
  readonly keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
  readonly issuer: Pair | null
  readonly pathLength: number | null
  readonly dns?: readonly string[]
  readonly life: Life
}

/** A CA as cert-manager asks for it: no path length, its names beside where it has any. */
export function certificateAuthority(request: {
  readonly name: RelativeName
  readonly key: KeyObject
  readonly issuer: Pair | null
  readonly dns: readonly string[]
  readonly life: Life
}): Pair {
  const { name, key, issuer, dns, life } = request
  return ca({ name, keys: { privateKey: key, publicKey: createPublicKey(key) }, issuer, pathLength: null, dns, life })
}

function ca(request: CaRequest): Pair {
  const { publicKey, privateKey } = request.keys
  const subject = nameOf(request.name)
  const key = pemOfKey(privateKey)
  const names = (request.dns ?? []).map(dns => der(0x82, Buffer.from(dns)))
  const constraints =
    request.pathLength === null ? [boolean(true)] : [boolean(true), der(0x02, Buffer.from([request.pathLength]))]
  const extensions = [
    extension('2.5.29.15', true, der(0x03, Buffer.from([2, 0x04]))),
    extension('2.5.29.19', true, sequence(...constraints)),
    extension('2.5.29.14', false, der(0x04, keyId(publicKey))),
    ...(request.issuer === null ? [] : [authorityKeyId(request.issuer)]),
    ...(names.length === 0 ? [] : [extension('2.5.29.17', false, sequence(...names))]),
  ]
  const issuer = request.issuer ?? { certificate: null, key }
  return { certificate: build({ subject, publicKey, issuer, life: request.life, extensions }), key }
}

/** Of CAs, which sign many leaves. */
const keys = new Remembered<KeyObject>(64)

interface Parts {
  readonly subject: Buffer
  readonly publicKey: KeyObject
  readonly issuer: { readonly certificate: string | null; readonly key: string }
  readonly life: Life
  readonly extensions: readonly Buffer[]
}

function build(parts: Parts): string {
  const signer = keys.get(parts.issuer.key, () => createPrivateKey(parts.issuer.key))
  const algorithm =
    signer.asymmetricKeyType === 'rsa'
      ? sequence(oid('1.2.840.113549.1.1.11'), der(0x05, Buffer.alloc(0)))
      : sequence(oid('1.2.840.10045.4.3.2'))
  const issuer = parts.issuer.certificate === null ? parts.subject : subjectOf(parts.issuer.certificate)
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x7f) | 0x40
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    issuer,
    sequence(time(parts.life.notBefore), time(parts.life.notAfter)),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...parts.extensions)),
  )
  const signature = sign('sha256', body, signer)
  const certificate = sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

// SHA-1 of the public key's bits (RFC 5280 §4.2.1.2, method 1). The SPKI is SEQUENCE { algorithm, BIT STRING }.
function keyId(key: KeyObject): Buffer {
  const spki = key.export({ type: 'spki', format: 'der' })
  const outer = contentAt(spki, 0)
  const algorithm = contentAt(spki, outer.start)
  const bits = contentAt(spki, algorithm.end)
  return createHash('sha1')
    .update(spki.subarray(bits.start + 1, bits.end))
    .digest()
}

function authorityKeyId(issuer: Pair): Buffer {
  return extension('2.5.29.35', false, sequence(der(0x80, subjectKeyId(issuer.certificate))))
}

// A CA given by a user may carry another SKI than method 1; what it carries is what counts.
function subjectKeyId(certificate: string): Buffer {
  const bytes = derOf(certificate)
  const marker = Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04])
  const found = bytes.indexOf(marker)
  if (found < 0) return keyId(createPublicKey(certificate))
  const outer = contentAt(bytes, found + 5)
  const inner = contentAt(bytes, outer.start)
  return bytes.subarray(inner.start, inner.end)
}

function subjectOf(certificate: string): Buffer {
  const bytes = derOf(certificate)
  const body = contentAt(bytes, contentAt(bytes, 0).start)
  let position = body.start
  // version, serial, algorithm, issuer, validity come before the subject.
  for (let index = 0; index < 5; index += 1) position = contentAt(bytes, position).end
  return bytes.subarray(position, contentAt(bytes, position).end)
}

function contentAt(bytes: Buffer, position: number): { readonly start: number; readonly end: number } {
  const first = bytes[position + 1]!
  if (first < 0x80) return { start: position + 2, end: position + 2 + first }
  const count = first & 0x7f
  const start = position + 2 + count
  return { start, end: start + bytes.readUIntBE(position + 2, count) }
}

function nameOf(name: RelativeName): Buffer {
  return sequence(...name.map(([type, text]) => der(0x31, sequence(oid(type), der(0x0c, Buffer.from(text))))))
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), der(0x04, value))
}

function boolean(value: boolean): Buffer {
  return der(0x01, Buffer.from([value ? 0xff : 0]))
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function der(tag: number, content: Buffer): Buffer {
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content])
  const length = content.length < 0x100 ? [0x81, content.length] : [0x82, content.length >> 8, content.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

function oid(text: string): Buffer {
  const [first, second, ...rest] = text.split('.').map(Number)
  const bytes = [first! * 40 + second!]
  for (const arc of rest) {
    const groups = [arc & 0x7f]
    for (let value = arc >>> 7; value > 0; value >>>= 7) groups.unshift((value & 0x7f) | 0x80)
    bytes.push(...groups)
  }
  return der(0x06, Buffer.from(bytes))
}

// UTCTime to 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '')
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}

function pemOfKey(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** When a certificate ends, in milliseconds. */
export function endOf(certificate: string): number {
  return Date.parse(new X509Certificate(certificate).validTo)
}
