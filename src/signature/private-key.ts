import { createPrivateKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { ReanchorError } from '../errors.ts'
import {
  base64url,
  type Curve,
  curves,
  isKeyType,
  type KeyType,
  keyTypes,
  pointJwk,
  publicKeyOf,
} from './public-key.ts'
import { padded, WireError, type WireReader, wireReader } from './wire.ts'

/**
 * Reads a private key that signs: OpenSSH's own format (`openssh-key-v1`, PROTOCOL.key of OpenSSH), PKCS#8, PKCS#1 or SEC1, without a passphrase.
 * Throws a located ReanchorError otherwise. No error carries a byte of it, nor a cause that might.
 */
export function readSigningKey(text: string, where: { readonly file: string }): KeyObject {
  const refuse = (what: string, found: string, todo: string): ReanchorError =>
    new ReanchorError({
      what,
      where,
      expected: `an SSH private key without a passphrase: ${keyTypes.join(', ')}`,
      found,
      todo,
      example: 'ssh-keygen -t ed25519 -N "" -C reanchor -f reanchor-evidence',
    })
  const encrypted = (): ReanchorError =>
    refuse(
      'the signing key needs a passphrase',
      'an encrypted private key',
      'take it into an agent (ssh-add) and name its public half, FILE.pub, instead; or give the runner a key of its own that has no passphrase',
    )
  const label = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(text)?.[1]
  if (label === undefined || !label.endsWith('PRIVATE KEY')) {
    throw refuse(
      'no private key to sign with',
      label === undefined ? 'no PEM block' : `BEGIN ${label}`,
      'name the private key; a public key counts only where an agent holds its other half, and its file ends in .pub',
    )
  }
  if (label === 'ENCRYPTED PRIVATE KEY' || /^Proc-Type:\s*4,\s*ENCRYPTED/m.test(text)) throw encrypted()
  const block = new RegExp(`-----BEGIN ${label}-----([\\s\\S]*?)-----END ${label}-----`).exec(text)
  const unreadable = (why: string): ReanchorError =>
    refuse('the signing key cannot be read', why, 'make a new one, and put its public half under spec.evidence.signers')
  if (block === null) throw unreadable('a private key that is cut off')
  try {
    const key =
      label === 'OPENSSH PRIVATE KEY'
        ? readOpenSshKey(Buffer.from((block[1] ?? '').replaceAll(/\s/g, ''), 'base64'))
        : createPrivateKey({ key: block[0], format: 'pem' })
    if (key === null) throw encrypted()
    publicKeyOf(key)
    return key
  } catch (error) {
    if (error instanceof ReanchorError) throw error
    // Others' words could quote the key.
    throw unreadable(error instanceof WireError ? error.message : 'a private key of unknown form')
  }
}

const magic = 'openssh-key-v1\0'

/** Null: it is encrypted. */
function readOpenSshKey(data: Buffer): KeyObject | null {
  const reader = wireReader(data)
  if (reader.bytes(magic.length).toString('latin1') !== magic) throw new WireError('it is no openssh-key-v1')
  const [cipher, kdf] = [reader.text(), reader.text()]
  reader.string()
  if (cipher !== 'none' || kdf !== 'none') return null
  if (reader.uint32() !== 1) throw new WireError('it holds several keys')
  const announced = reader.string()
  const inner = wireReader(reader.string())
  reader.end()
  // Equal unless it was decrypted with a wrong passphrase, or damaged.
  const check = inner.uint32()
  if (inner.uint32() !== check) throw new WireError('it is damaged')
  const type = inner.text()
  if (!isKeyType(type)) throw new WireError('it is of a type that is not taken')
  const key = createPrivateKey({ key: privateJwk(type, inner), format: 'jwk' })
  inner.string()
  const padding = inner.rest()
  if (padding.some((byte, index) => byte !== index + 1)) throw new WireError('it is damaged')
  if (!publicKeyOf(key).blob.equals(announced)) throw new WireError('its two halves are not of one key')
  return key
}

function privateJwk(type: KeyType, reader: WireReader): JsonWebKey {
  if (type === 'ssh-ed25519') {
    const x = reader.string()
    const both = reader.string()
    if (both.length !== 64) throw new WireError('its key has a wrong length')
    return { kty: 'OKP', crv: 'Ed25519', x: base64url(x), d: base64url(both.subarray(0, 32)) }
  }
  if (type === 'ssh-rsa') {
    const [n, e, d, qi, p, q] = [1, 2, 3, 4, 5, 6].map(() => reader.unsigned()) as [
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
    ]
    // OpenSSH leaves out what can be worked out (RFC 8017 section 3.2).
    const [dp, dq] = [modulo(d, p), modulo(d, q)]
    const numbers = { n, e, d, p, q, dp, dq, qi }
    return {
      kty: 'RSA',
      ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, base64url(value)])),
    }
  }
  const curve = curves[type] as Curve
  if (reader.text() !== curve.ssh) throw new WireError('it names two different curves')
  return { ...pointJwk(curve, reader.string()), d: base64url(padded(reader.unsigned(), curve.size)) }
}

/** d mod (prime − 1). */
function modulo(d: Buffer, prime: Buffer): Buffer {
  const value = numberOf(d) % (numberOf(prime) - 1n)
  const hex = value.toString(16)
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
}

function numberOf(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex') || '0'}`)
}
