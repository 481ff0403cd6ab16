import { createHash, type KeyObject, sign, verify } from 'node:crypto'
import { curves, readPublicKey, type SshPublicKey } from './public-key.ts'
import { padded, string, uint32, unsigned, WireError, wireReader } from './wire.ts'

/**
 * Signatures as `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify` takes them (PROTOCOL.sshsig of OpenSSH). A namespace keeps a signature that
 * was made for one purpose from being shown for another.
 */

const magic = Buffer.from('SSHSIG')
const begin = '-----BEGIN SSH SIGNATURE-----'
const end = '-----END SSH SIGNATURE-----'
/** What ssh-keygen takes by default, and the stronger of the two that the format has. */
const hashAlgorithm = 'sha512'

/** What signs: a key at hand, or an agent that keeps it. */
export interface Signer {
  readonly publicKey: SshPublicKey
  /** A signature in SSH's form (`string algorithm, string blob`) over exactly these bytes. */
  sign(data: Buffer): Promise<Buffer>
}

export async function signMessage(signer: Signer, message: string, namespace: string): Promise<string> {
  const data = toBeSigned(Buffer.from(message), namespace, hashAlgorithm)
  const signature = await signer.sign(data)
  const blob = Buffer.concat([
    magic,
    uint32(1),
    string(signer.publicKey.blob),
    string(namespace),
    string(''),
    string(hashAlgorithm),
    string(signature),
  ])
  // 70 characters a line, as ssh-keygen writes it.
  const lines = blob.toString('base64').match(/.{1,70}/g) ?? []
  return `${[begin, ...lines, end].join('\n')}\n`
}

export interface ReadSignature {
  readonly publicKey: SshPublicKey
  readonly namespace: string
  readonly hashAlgorithm: string
  readonly signature: Buffer
}

/** Throws WireError for what is no signature of this form. */
export function readSignature(armored: string): ReadSignature {
  const body = /^-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\s]+)-----END SSH SIGNATURE-----\s*$/.exec(armored)
  if (body === null) throw new WireError('it is no SSH signature')
  const reader = wireReader(Buffer.from((body[1] ?? '').replaceAll(/\s/g, ''), 'base64'))
  if (!reader.bytes(magic.length).equals(magic)) throw new WireError('it is no SSH signature')
  if (reader.uint32() !== 1) throw new WireError('it is of another version')
  const publicKey = readPublicKey(reader.string())
  const namespace = reader.text()
  // Reserved: to be ignored by who does not know it, and signed all the same; here nothing that is not known counts.
  if (reader.string().length > 0) throw new WireError('it has a reserved field that is not known')
  const hash = reader.text()
  if (hash !== 'sha256' && hash !== 'sha512') throw new WireError('its hash algorithm is not taken')
  const signature = reader.string()
  reader.end()
  return { publicKey, namespace, hashAlgorithm: hash, signature }
}

/** Whether the signature is one over this message, by the key that it names. Whose key that is, is another question. */
export function signatureHolds(read: ReadSignature, message: string): boolean {
  const data = toBeSigned(Buffer.from(message), read.namespace, read.hashAlgorithm)
  try {
    return holds(read.publicKey, data, read.signature)
  } catch (error) {
    if (error instanceof WireError) return false
    throw error
  }
}

function toBeSigned(message: Buffer, namespace: string, hash: string): Buffer {
  const digest = createHash(hash).update(message).digest()
  return Buffer.concat([magic, string(namespace), string(''), string(hash), string(digest)])
}

/** `ssh-rsa` is SHA-1 and refused (PROTOCOL.sshsig). */
const rsaHashes: Readonly<Record<string, string>> = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }

function holds({ type, key }: SshPublicKey, data: Buffer, signature: Buffer): boolean {
  const reader = wireReader(signature)
  const algorithm = reader.text()
  const blob = reader.string()
  reader.end()
  if (type === 'ssh-rsa') {
    const hash = rsaHashes[algorithm]
    return hash !== undefined && verify(hash, data, key, blob)
  }
  if (algorithm !== type) return false
  const curve = curves[type]
  if (curve === undefined) return blob.length === 64 && verify(null, data, key, blob)
  const numbers = wireReader(blob)
  const [r, s] = [numbers.unsigned(), numbers.unsigned()]
  numbers.end()
  const both = Buffer.concat([padded(r, curve.size), padded(s, curve.size)])
  return verify(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' }, both)
}

/** Signs with a key that is at hand. */
export function keySigner(key: KeyObject, publicKey: SshPublicKey): Signer {
  return { publicKey, sign: async data => signatureOf(key, publicKey, data) }
}

function signatureOf(key: KeyObject, { type }: SshPublicKey, data: Buffer): Buffer {
  if (type === 'ssh-ed25519') return Buffer.concat([string(type), string(sign(null, data, key))])
  if (type === 'ssh-rsa') return Buffer.concat([string('rsa-sha2-512'), string(sign('sha512', data, key))])
  const curve = curves[type]
  if (curve === undefined) throw new Error(`no way to sign with ${type}`)
  const both = sign(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' })
  const numbers = [both.subarray(0, curve.size), both.subarray(curve.size)].map(unsigned)
  return Buffer.concat([string(type), string(Buffer.concat(numbers))])
}
