import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readAllowedSigner } from '../../src/signature/allowed-signers.ts'
import { publicKeyOf } from '../../src/signature/public-key.ts'
import { kinds, newKey, openSshKey, publicLine, signerLine } from './keys.ts'

const key = newKey('ed25519')

describe('a line of allowed signers', () => {
  it.each(kinds)('with a key of kind %s is read', kind => {
    const own = newKey(kind)
    expect(readAllowedSigner(`${signerLine('ci', own)} made on monday`)).toMatchObject({
      name: 'ci',
      publicKey: { blob: publicKeyOf(own).blob },
      namespaces: null,
      validAfter: null,
      validBefore: null,
    })
  })

  it('has its options read, as ssh-keygen(1) writes them', () => {
    const options = 'namespaces="git,reanchor-evidence",valid-after="20260101Z",valid-before="202702031530Z"'
    expect(readAllowedSigner(signerLine('ci@acme.example', key, options))).toMatchObject({
      namespaces: ['git', 'reanchor-evidence'],
      validAfter: '2026-01-01T00:00:00Z',
      validBefore: '2027-02-03T15:30:00Z',
    })
  })

  it.each([
    ['without a name', publicLine(key), 'names nobody'],
    ['without a key', 'ci', 'no key'],
    ['with a pattern for a name', signerLine('*@acme.example', key), 'plain name'],
    ['with two names', signerLine('a,b', key), 'plain name'],
    ['of a certificate authority', signerLine('ci', key, 'cert-authority'), 'certificate authority'],
    ['with a time without a zone', signerLine('ci', key, 'valid-after="20260101"'), 'valid-after'],
    ['with a day that does not exist', signerLine('ci', key, 'valid-before="20260231Z"'), 'valid-before'],
    ['with an option that nobody knows', signerLine('ci', key, 'touch-required'), 'not known'],
    ['with another type than its key', signerLine('ci', key).replace('ssh-ed25519', 'ssh-rsa'), 'another type'],
    ['with half a key', signerLine('ci', key).slice(0, -20), 'broken'],
    ['with a key of a token', 'ci sk-ssh-ed25519@openssh.com AAAA', 'no key of a type'],
    ['that is a private key', `ci ${openSshKey(key).replaceAll('\n', ' ')}`, 'private key'],
    ['with a key that is too short', `ci ssh-rsa ${shortRsa()}`, '2048'],
  ])('%s is refused', (_what, line, expected) => {
    const read = readAllowedSigner(line)
    expect('problem' in read ? read.problem : 'none').toContain(expected)
  })

  it('of any text is read or refused, and nothing is thrown', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map(text => `ci ssh-ed25519 ${text}`),
        ),
        line => {
          const read = readAllowedSigner(line)
          expect('problem' in read || read.name !== '').toBe(true)
        },
      ),
    )
  })
})

function shortRsa(): string {
  const { n = '', e = '' } = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })
  const part = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return Buffer.concat([length, bytes])
  }
  const number = (text: string): Buffer => part(Buffer.concat([Buffer.from([0]), Buffer.from(text, 'base64url')]))
  return Buffer.concat([part(Buffer.from('ssh-rsa')), number(e), number(n)]).toString('base64')
}
