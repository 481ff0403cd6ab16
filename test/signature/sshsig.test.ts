import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readSignature, signatureHolds, signMessage } from '../../src/signature/sshsig.ts'
import { WireError } from '../../src/signature/wire.ts'
import { kinds, newKey, signerOf } from './keys.ts'

const signers = kinds.map(kind => ({ kind, signer: signerOf(newKey(kind)) }))

describe('a signature', () => {
  it.each(signers)('by $kind holds for its message and names its key, and for no other message', async ({ signer }) => {
    const armored = await signMessage(signer, 'seen', 'reanchor-evidence')
    const read = readSignature(armored)
    expect(read.publicKey.blob).toEqual(signer.publicKey.blob)
    expect(read.namespace).toBe('reanchor-evidence')
    expect(signatureHolds(read, 'seen')).toBe(true)
    expect(signatureHolds(read, 'seen\n')).toBe(false)
    expect(signatureHolds({ ...read, namespace: 'git' }, 'seen')).toBe(false)
  })

  it.each(signers)('by $kind does not hold under another key of the same kind', async ({ kind, signer }) => {
    const read = readSignature(await signMessage(signer, 'seen', 'n'))
    expect(signatureHolds({ ...read, publicKey: signerOf(newKey(kind)).publicKey }, 'seen')).toBe(false)
  })

  it.each(signers)(
    'by $kind that is damaged anywhere is refused or does not hold, and nothing else is thrown',
    async ({ signer }) => {
      const armored = await signMessage(signer, 'seen', 'n')
      const body = Buffer.from(armored.replaceAll(/-----.*-----|\s/g, ''), 'base64')
      fc.assert(
        fc.property(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }), fc.boolean(), (at, flip, cut) => {
          const damaged = Buffer.from(cut ? body.subarray(0, at) : body)
          if (!cut) damaged[at] = (damaged[at] ?? 0) ^ flip
          const text = `-----BEGIN SSH SIGNATURE-----\n${damaged.toString('base64')}\n-----END SSH SIGNATURE-----\n`
          try {
            expect(signatureHolds(readSignature(text), 'seen')).toBe(false)
          } catch (error) {
            if (!(error instanceof WireError)) throw error
          }
        }),
        { numRuns: 150 },
      )
    },
  )

  it.each([
    ['nothing', ''],
    ['other armor', '-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----\n'],
    ['no base64', '-----BEGIN SSH SIGNATURE-----\n???\n-----END SSH SIGNATURE-----\n'],
    ['text before it', 'x\n-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n'],
  ])('that is %s is refused', (_what, text) => {
    expect(() => readSignature(text)).toThrow(WireError)
  })
})
