import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { padded, string, unsigned, WireError, wireReader } from './wire.ts'

/** A public key as SSH writes it (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4). */
export interface SshPublicKey {
  readonly type: KeyType
  /** What stands as base64 in a line of authorized_keys. */
  readonly blob: Buffer
  readonly key: KeyObject
}

export const keyTypes = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'ssh-rsa',
] as const
export type KeyType = (typeof keyTypes)[number]

export interface Curve {
  /** As SSH and as JOSE name it. */
  readonly ssh: string
  readonly jose: string
  /** Bytes of a coordinate. */
  readonly size: number
  /** RFC 5656 section 6.2.1. */
  readonly hash: string
}

export const curves: Readonly<Partial<Record<KeyType, Curve>>> = {
  'ecdsa-sha2-nistp256': { ssh: 'nistp256', jose: 'P-256', size: 32, hash: 'sha256' },
  'ecdsa-sha2-nistp384': { ssh: 'nistp384', jose: 'P-384', size: 48, hash: 'sha384' },
  'ecdsa-sha2-nistp521': { ssh: 'nistp521', jose: 'P-521', size: 66, hash: 'sha512' },
}

/** Shorter moduli can be factored by those who would forge evidence of a CA (NIST SP 800-57 part 1, table 2). */
const shortestModulus = 2048

export function isKeyType(text: string): text is KeyType {
  return keyTypes.some(type => type === text)
}

/** Throws WireError for what is no key, or one of a kind that is not taken. */
export function readPublicKey(blob: Buffer): SshPublicKey {
  const reader = wireReader(blob)
  const type = reader.text()
  if (!isKeyType(type))
    throw new WireError(`keys of type ${printable(type)} are not taken, only ${keyTypes.join(', ')}`)
  const jwk = publicJwk(type, reader)
  reader.end()
  const key = keyOf(jwk)
  if (type === 'ssh-rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < shortestModulus)
    throw new WireError(`RSA keys of less than ${shortestModulus} bits are not taken`)
  return { type, blob, key }
}

function publicJwk(type: KeyType, reader: ReturnType<typeof wireReader>): JsonWebKey {
  if (type === 'ssh-ed25519') return { kty: 'OKP', crv: 'Ed25519', x: base64url(reader.string()) }
  if (type === 'ssh-rsa') {
    const e = reader.unsigned()
    return { kty: 'RSA', e: base64url(e), n: base64url(reader.unsigned()) }
  }
  const curve = curves[type] as Curve
  if (reader.text() !== curve.ssh) throw new WireError('it names two different curves')
  return pointJwk(curve, reader.string())
}

/** An uncompressed point (SEC 1 section 2.3.3). */
export function pointJwk(curve: Curve, point: Buffer): JsonWebKey {
  if (point.length !== 1 + 2 * curve.size || point[0] !== 4) throw new WireError('its point is not an uncompressed one')
  return {
    kty: 'EC',
    crv: curve.jose,
    x: base64url(point.subarray(1, 1 + curve.size)),
    y: base64url(point.subarray(1 + curve.size)),
  }
}

function keyOf(jwk: JsonWebKey): KeyObject {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    throw new WireError('its numbers are those of no key')
  }
}

/** The public half of a key that node:crypto holds. Throws WireError for kinds that SSH signatures are not made with here. */
export function publicKeyOf(key: KeyObject): SshPublicKey {
  const half = key.type === 'private' ? createPublicKey(key) : key
  return readPublicKey(blobOf(half))
}

function blobOf(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === 'rsa-pss') throw new WireError('RSA-PSS keys are not taken')
  if (!['ed25519', 'rsa', 'ec'].includes(key.asymmetricKeyType ?? ''))
    throw new WireError(`keys of type ${key.asymmetricKeyType} are not taken`)
  const jwk = key.export({ format: 'jwk' })
  const part = (name: 'x' | 'y' | 'n' | 'e'): Buffer => Buffer.from(jwk[name] ?? '', 'base64url')
  if (jwk.kty === 'OKP') return Buffer.concat([string('ssh-ed25519'), string(part('x'))])
  if (jwk.kty === 'RSA') return Buffer.concat([string('ssh-rsa'), unsigned(part('e')), unsigned(part('n'))])
  const known = Object.entries(curves).find(([, curve]) => curve.jose === jwk.crv)
  if (known === undefined) throw new WireError(`keys of curve ${jwk.crv} are not taken`)
  const [type, curve] = known
  const point = Buffer.concat([Buffer.from([4]), padded(part('x'), curve.size), padded(part('y'), curve.size)])
  return Buffer.concat([string(type), string(curve.ssh), string(point)])
}

/** As `ssh-keygen -l` shows it. */
export function keyFingerprint(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replaceAll('=', '')}`
}

export function base64url(bytes: Buffer): string {
  return bytes.toString('base64url')
}

function printable(text: string): string {
  return JSON.stringify(text.slice(0, 60))
}
