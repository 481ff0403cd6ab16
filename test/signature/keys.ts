import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { keyFingerprint, publicKeyOf } from '../../src/signature/public-key.ts'
import { keySigner, type Signer } from '../../src/signature/sshsig.ts'
import { string, uint32, unsigned } from '../../src/signature/wire.ts'

export const kinds = ['ed25519', 'P-256', 'P-384', 'P-521', 'rsa'] as const
export type Kind = (typeof kinds)[number]

export function newKey(kind: Kind): KeyObject {
  if (kind === 'ed25519') return generateKeyPairSync('ed25519').privateKey
  if (kind === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  return generateKeyPairSync('ec', { namedCurve: kind }).privateKey
}

export function signerOf(key: KeyObject): Signer {
  return keySigner(key, publicKeyOf(key))
}

/** A line of an allowed-signers file. */
export function signerLine(name: string, key: KeyObject, options = ''): string {
  return `${name} ${options === '' ? '' : `${options} `}${publicLine(key)}`
}

/** As ssh-keygen writes it into FILE.pub. */
export function publicLine(key: KeyObject): string {
  const { type, blob } = publicKeyOf(key)
  return `${type} ${blob.toString('base64')}`
}

export function fingerprintOf(key: KeyObject): string {
  return keyFingerprint(publicKeyOf(key).blob)
}

interface Written {
  readonly cipher?: string
  readonly checks?: readonly [number, number]
  /** The public half that the file announces, where it is another's. */
  readonly announced?: Buffer
  readonly padding?: Buffer
}

/** OpenSSH's own format of a private key (PROTOCOL.key of OpenSSH). */
export function openSshKey(
  key: KeyObject,
  { cipher = 'none', checks = [7, 7], announced, padding }: Written = {},
): string {
  const { type, blob } = publicKeyOf(key)
  const jwk = key.export({ format: 'jwk' })
  const part = (name: 'd' | 'n' | 'e' | 'p' | 'q' | 'qi' | 'x'): Buffer => Buffer.from(jwk[name] ?? '', 'base64url')
  const numbers = (...names: readonly Parameters<typeof part>[0][]) => names.map(name => unsigned(part(name)))
  const own =
    jwk.kty === 'OKP'
      ? [string(part('x')), string(Buffer.concat([part('d'), part('x')]))]
      : jwk.kty === 'RSA'
        ? numbers('n', 'e', 'd', 'qi', 'p', 'q')
        : // Type, curve and point stand as in the public half.
          [blob.subarray(4 + type.length), ...numbers('d')]
  const inner = Buffer.concat([...checks.map(uint32), string(type), ...own, string('a comment')])
  const short = (8 - (inner.length % 8)) % 8
  const data = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string(cipher),
    string(cipher === 'none' ? 'none' : 'bcrypt'),
    string(''),
    uint32(1),
    string(announced ?? blob),
    string(Buffer.concat([inner, padding ?? Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, short))])),
  ])
  const lines = data.toString('base64').match(/.{1,70}/g) ?? []
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join('\n')}\n-----END OPENSSH PRIVATE KEY-----\n`
}
