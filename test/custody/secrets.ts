import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
} from 'node:crypto'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import type { PlainSecret } from '../../src/custody/custody.ts'

export const now = new Date('2026-03-01T12:00:00.250Z')
export const destination = 'trust/eu-1/cacerts.yaml'

/** Bytes that repeat from run to run: the same seed gives the same stream. */
export function seededRandom(seed: string): (size: number) => Buffer {
  let counter = 0
  return size => {
    const blocks: Buffer[] = []
    for (let length = 0; length < size; length += 32) {
      blocks.push(createHash('sha256').update(`${seed}:${counter}`).digest())
      counter += 1
    }
    return Buffer.concat(blocks).subarray(0, size)
  }
}

export async function ageKey(): Promise<{ readonly identity: string; readonly recipient: string }> {
  const identity = await generateX25519Identity()
  return { identity, recipient: await identityToRecipient(identity) }
}

export function cacerts(parts: Partial<PlainSecret> = {}): PlainSecret {
  return {
    name: 'cacerts',
    namespace: 'istio-system',
    type: 'Opaque',
    labels: { 'app.kubernetes.io/managed-by': 'reanchor' },
    annotations: {
      'kustomize.toolkit.fluxcd.io/prune': 'disabled',
      'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
    },
    data: {
      'ca-cert.pem': 'the certificate\n',
      'ca-key.pem': 'the private part\n',
      'cert-chain.pem': 'the chain\n',
      'root-cert.pem': 'old\n',
    },
    privateKeys: ['ca-key.pem'],
    ...parts,
  }
}

/**
 * A wrapping by age's format (https://age-encryption.org/v1) whose randomness is given, for tests that compare whole files.
 * One X25519 recipient, content of less than one chunk.
 */
export function wrapWith(random: (size: number) => Buffer): (key: Uint8Array, recipient: string) => Promise<string> {
  return async (key, recipient) => {
    const theirs = recipientBytes(recipient)
    const fileKey = random(16)
    const secret = x25519Private(random(32))
    const share = rawPublic(createPublicKey(secret))
    const shared = diffieHellman({ privateKey: secret, publicKey: x25519Public(theirs) })
    const wrapKey = hkdf(shared, Buffer.concat([share, theirs]), 'age-encryption.org/v1/X25519')
    const stanza = `-> X25519 ${unpadded(share)}\n${unpadded(chacha(wrapKey, Buffer.alloc(12), fileKey))}\n`
    const intro = `age-encryption.org/v1\n${stanza}---`
    const mac = createHmac('sha256', hkdf(fileKey, Buffer.alloc(0), 'header'))
      .update(intro)
      .digest()
    const nonce = random(16)
    const last = Buffer.from('000000000000000000000001', 'hex')
    const body = chacha(hkdf(fileKey, nonce, 'payload'), last, Buffer.from(key))
    const file = Buffer.concat([Buffer.from(`${intro} ${unpadded(mac)}\n`), nonce, body])
    const lines = file.toString('base64').match(/.{1,64}/g) ?? []
    return `-----BEGIN AGE ENCRYPTED FILE-----\n${lines.join('\n')}\n-----END AGE ENCRYPTED FILE-----\n`
  }
}

function hkdf(key: Buffer, salt: Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32))
}

function chacha(key: Buffer, nonce: Buffer, plain: Buffer): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '')
}

function x25519Private(raw: Buffer) {
  const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), raw])
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
}

function x25519Public(raw: Buffer) {
  const der = Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), raw])
  return createPublicKey({ key: der, format: 'der', type: 'spki' })
}

function rawPublic(key: ReturnType<typeof createPublicKey>): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(-32)
}

function recipientBytes(recipient: string): Buffer {
  const alphabet = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
  const bits = [...recipient.slice(4, -6)].map(letter => alphabet.indexOf(letter).toString(2).padStart(5, '0')).join('')
  return Buffer.from((bits.match(/.{8}/g) ?? []).slice(0, 32).map(byte => Number.parseInt(byte, 2)))
}
