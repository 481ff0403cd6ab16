import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { ReanchorError, type Where } from '../errors.ts'
import type { KeyAlgorithm } from '../rotation.ts'
import type { Certificate } from './certificate.ts'

/** `rsa-2048` only imitates what istiod makes for itself; the declaration does not offer it. */
export type AnyKeyAlgorithm = KeyAlgorithm | 'rsa-2048'

/** Where new private keys come from. Tests hand in fixed keys; commands hand in `systemKeys`. */
export interface KeySource {
  generate(algorithm: AnyKeyAlgorithm): Promise<KeyObject>
}

/**
 * Whether two public keys are one. node:crypto's own `equals` leaves an error behind in OpenSSL's queue where the types differ (seen with Node
 * 20.20), and the next key that is imported is refused for it: so types are compared first.
 */
export function isSameKey(one: KeyObject, other: KeyObject): boolean {
  return one.asymmetricKeyType === other.asymmetricKeyType && one.equals(other)
}

const generate = promisify(generateKeyPair)

/** Keys from the system's random generator. */
export const systemKeys: KeySource = {
  async generate(algorithm) {
    switch (algorithm) {
      case 'ecdsa-p256':
        return (await generate('ec', { namedCurve: 'P-256' })).privateKey
      case 'ecdsa-p384':
        return (await generate('ec', { namedCurve: 'P-384' })).privateKey
      case 'rsa-4096':
        return (await generate('rsa', { modulusLength: 4096, publicExponent: 0x10001 })).privateKey
      case 'rsa-2048':
        return (await generate('rsa', { modulusLength: 2048, publicExponent: 0x10001 })).privateKey
    }
  },
}

/** PKCS#8 in PEM. What it returns is secret: it goes to a custody or to the rehearsal, never to a log or an error. */
export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** DER of the SubjectPublicKeyInfo; takes a private or a public key. */
export function spkiOf(key: KeyObject): Buffer {
  return (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' })
}

/** Whether the private key is the one that the certificate's public key belongs to. */
export function keyMatches(certificate: Certificate, key: KeyObject): boolean {
  try {
    return certificate.x509.checkPrivateKey(key)
  } catch {
    // node:crypto throws for a public key that it cannot read: then nothing matches it.
    return false
  }
}

/**
 * Reads a private key in PEM: PKCS#8, PKCS#1 or SEC1. Throws a located ReanchorError for an encrypted key, for none or
 * several, and for what cannot be read. No error carries a byte of it, nor a cause that might.
 */
export function readPrivateKey(text: string, where: Where = {}): KeyObject {
  const labels = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----/g)].map(match => match[1]!)
  const keys = labels.filter(label => label.endsWith('PRIVATE KEY'))
  const fail = (what: string, found?: string, todo?: string): never => {
    throw new ReanchorError({
      what,
      where,
      expected: 'one private key in PEM, not encrypted: PKCS#8, PKCS#1 or SEC1',
      ...(found === undefined ? {} : { found }),
      ...(todo === undefined ? {} : { todo }),
      example: '-----BEGIN PRIVATE KEY-----',
    })
  }
  if (keys.length === 0)
    return fail('no private key in it', labels.length === 0 ? 'no PEM block' : `BEGIN ${labels[0]}`)
  if (keys.length > 1) return fail('more than one private key', `${keys.length} private keys`)
  if (keys[0] === 'ENCRYPTED PRIVATE KEY' || /^Proc-Type:\s*4,\s*ENCRYPTED/m.test(text)) {
    return fail(
      'an encrypted private key',
      'a key that needs a passphrase',
      'decrypt it where it is safe: `openssl pkcs8 -in key.pem -topk8 -nocrypt -out plain.pem`; keep that file out of the repository',
    )
  }
  if (keys[0] === 'OPENSSH PRIVATE KEY') return fail('an SSH key', 'BEGIN OPENSSH PRIVATE KEY')
  const block = new RegExp(`-----BEGIN ${keys[0]}-----[\\s\\S]*?-----END ${keys[0]}-----`).exec(text)?.[0]
  if (block === undefined) return fail('a private key that is cut off')
  try {
    return createPrivateKey({ key: block, format: 'pem' })
  } catch {
    return fail('a private key that cannot be read')
  }
}
