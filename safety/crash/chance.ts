import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, KeyObject, webcrypto } from 'node:crypto'
import { type WrapDataKey, wrapDataKey } from '../../src/custody/age.ts'
import type { AnyKeyAlgorithm, KeySource } from '../../src/pki/keys.ts'
import { randomFrom } from '../random.ts'

/**
 * All that would differ between two runs of the same command, given: numbers, keys, and what signing and age draw for themselves. Plain data, so that
 * another process draws the same.
 */
export interface Chance {
  readonly seed: number
  /** PKCS#8 by algorithm, in the order in which a command asks. */
  readonly keys: Map<AnyKeyAlgorithm, string[]>
  /** Data keys as they were sealed: age takes no randomness from outside. */
  readonly wrapped: Map<string, string>
  /** By key and message: ECDSA draws a number for each signature. */
  readonly signatures: Map<string, Uint8Array>
}

export function chanceOf(seed: number): Chance {
  return { seed, keys: new Map(), wrapped: new Map(), signatures: new Map() }
}

export function randomOf(chance: Chance): (size: number) => Buffer {
  const random = randomFrom(chance.seed)
  return size => random.bytes(size)
}

/** The same keys at each call. RSA ones are short: what is tried is what is written, not what is signed with. */
export function keysOf({ keys }: Chance): KeySource {
  const asked = new Map<AnyKeyAlgorithm, number>()
  return {
    async generate(algorithm) {
      const count = asked.get(algorithm) ?? 0
      asked.set(algorithm, count + 1)
      const made = keys.get(algorithm) ?? []
      keys.set(algorithm, made)
      made[count] ??= newKey(algorithm).export({ type: 'pkcs8', format: 'pem' }).toString()
      return createPrivateKey(made[count])
    },
  }
}

function newKey(algorithm: AnyKeyAlgorithm): KeyObject {
  if (algorithm.startsWith('rsa')) return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  return generateKeyPairSync('ec', { namedCurve: algorithm === 'ecdsa-p384' ? 'P-384' : 'P-256' }).privateKey
}

export function wrapOf({ wrapped }: Chance): WrapDataKey {
  return async (key, recipient) => {
    const question = `${recipient} ${Buffer.from(key).toString('hex')}`
    const known = wrapped.get(question)
    if (known !== undefined) return known
    const made = await wrapDataKey(key, recipient)
    wrapped.set(question, made)
    return made
  }
}

/** From now on each key signs each message once and for all, until what comes back is called. */
export function rememberSignatures({ signatures }: Chance): () => void {
  const { subtle } = webcrypto
  const real = subtle.sign.bind(subtle)
  subtle.sign = async (algorithm, key, data) => {
    const bytes = ArrayBuffer.isView(data)
      ? Buffer.from(data.buffer, data.byteOffset, data.byteLength)
      : Buffer.from(data)
    const signer = createPublicKey(KeyObject.from(key)).export({ type: 'spki', format: 'der' })
    const question = createHash('sha256').update(signer).update(bytes).digest('hex')
    const known = signatures.get(question)
    if (known !== undefined) return new Uint8Array(known).buffer
    const made = await real(algorithm, key, data)
    signatures.set(question, new Uint8Array(made))
    return made
  }
  return () => {
    subtle.sign = real
  }
}
