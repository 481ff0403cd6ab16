import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { ReanchorError } from '../../src/errors.ts'
import { publicKeyOf } from '../../src/signature/public-key.ts'
import { openSigner } from '../../src/signature/signing-key.ts'
import { readSignature, signatureHolds, signMessage } from '../../src/signature/sshsig.ts'
import { kinds, newKey, openSshKey, publicLine } from './keys.ts'

const keys = kinds.map(kind => ({ kind, key: newKey(kind) }))
const ed25519 = newKey('ed25519')

function refused(text: string, socket: string | null = null): ReanchorError {
  try {
    openSigner({ text, from: 'key' }, socket)
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('was not refused')
}

describe('a signing key', () => {
  it.each(keys)('of kind $kind is read in the format of OpenSSH, and signs', async ({ key }) => {
    const signer = openSigner({ text: openSshKey(key), from: 'key' }, null)
    expect(signer.publicKey.blob).toEqual(publicKeyOf(key).blob)
    expect(signatureHolds(readSignature(await signMessage(signer, 'm', 'n')), 'm')).toBe(true)
  })

  it.each(keys)('of kind $kind is read as PKCS#8 too', ({ key }) => {
    const text = key.export({ type: 'pkcs8', format: 'pem' }).toString()
    expect(openSigner({ text, from: 'key' }, null).publicKey.blob).toEqual(publicKeyOf(key).blob)
  })

  it.each([
    ['of OpenSSH', openSshKey(ed25519, { cipher: 'aes256-ctr' })],
    ['in PKCS#8', ed25519.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString()],
    [
      'in PKCS#1',
      newKey('rsa').export({ type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString(),
    ],
  ])('%s that needs a passphrase is refused, with what to do', (_what, text) => {
    const error = refused(text)
    expect(error.exit).toBe(2)
    expect(error.what).toContain('passphrase')
    expect(error.todo).toContain('ssh-add')
  })

  it.each([
    ['an agent’s public key without an agent', publicLine(ed25519), 'SSH_AUTH_SOCK'],
    ['nothing', '', 'no PEM block'],
    ['a certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'BEGIN CERTIFICATE'],
    ['one that is cut off', openSshKey(ed25519).split('\n').slice(0, 3).join('\n'), 'cut off'],
    ['one whose check numbers differ', openSshKey(ed25519, { checks: [1, 2] }), 'damaged'],
    ['one with other padding', openSshKey(newKey('P-256'), { padding: Buffer.from([9]) }), 'damaged'],
    [
      'two halves of different keys',
      openSshKey(ed25519, { announced: publicKeyOf(newKey('ed25519')).blob }),
      'two halves',
    ],
    [
      'a short RSA key',
      generateKeyPairSync('rsa', { modulusLength: 1024 })
        .privateKey.export({ type: 'pkcs8', format: 'pem' })
        .toString(),
      '2048',
    ],
    [
      'a key that only agrees on secrets',
      generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      'x25519',
    ],
  ])('that is %s is refused', (_what, text, expected) => {
    const error = refused(text)
    expect(error.where.file).toBe('key')
    expect(`${error.found} ${error.expected}`).toContain(expected)
  })

  it('is never repeated in an error, however it is damaged (F29)', () => {
    const text = openSshKey(ed25519)
    const seed = Buffer.from(ed25519.export({ format: 'jwk' }).d ?? '', 'base64url')
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom('', 'A', '-', '\n', '\0'), (at, put) => {
        const damaged = text.slice(0, at) + put + text.slice(at + 1)
        try {
          openSigner({ text: damaged, from: 'key' }, null)
        } catch (error) {
          if (!(error instanceof ReanchorError)) throw error
          const whole = `${error.message}\n${error.stack}\n${JSON.stringify(error)}\n${String(error.cause)}`
          expect(findPrivateKeys(whole, [seed])).toEqual([])
          expect(whole).not.toContain(text.split('\n')[2])
          expect(error.cause).toBeUndefined()
        }
      }),
      { numRuns: 200 },
    )
  })

  it('would be seen, should it ever stand in what is written (F29)', () => {
    expect(findPrivateKeys(`x: |\n  ${openSshKey(ed25519).replaceAll('\n', '\n  ')}`)).not.toEqual([])
  })
})
