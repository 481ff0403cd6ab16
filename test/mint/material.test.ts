import { describe, expect, it } from 'vitest'
import { judgeMint } from '../../src/mint/gate.ts'
import { asFiles, isOlder, mintedCa } from '../../src/mint/material.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { issued, type MintedPair, oneMint, root, secretOf, seen } from './fixture.ts'

async function pinned(minted: MintedPair) {
  const mint = await oneMint()
  const { pin } = judgeMint(mint, seen(mint, minted.certificate), { lasts: 0, pinned: null })
  if (pin === null) throw new Error('the gate does not hold')
  return { mint, pin }
}

const parts = ({ pair }: MintedPair) => ({
  'tls.crt': pair.certificate,
  'tls.key': pair.key,
  'ca.crt': root.certificate,
})

describe('what is taken out of a minted Secret', () => {
  it('is the pinned certificate, its key, and the root that the gate has seen', async () => {
    const minted = issued()
    const { mint, pin } = await pinned(minted)
    const taken = mintedCa(mint, secretOf(mint, parts(minted)), pin, null)
    expect(taken.issuer.sha256).toBe(minted.certificate.sha256)
    expect(taken.root.sha256).toBe(readCertificate(root.certificate).sha256)
    const { source, read } = asFiles([taken])
    expect(Object.keys(source.issuing)).toEqual(['*'])
    expect(read(source.issuing['*']?.key ?? '')).toBe(minted.pair.key)
  })

  const good = issued()
  const other = issued()
  it.each([
    ['another certificate than is pinned (F16)', parts(other), 'does not hold the CA that the gate has seen'],
    ['the key of another certificate', { ...parts(good), 'tls.key': other.pair.key }, 'do not belong together'],
    ['no root', { 'tls.crt': good.pair.certificate, 'tls.key': good.pair.key }, 'does not tell the root'],
    [
      'another root than the gate has seen, as after a renewal of the issuer (F16)',
      { ...parts(good), 'ca.crt': issued().pair.certificate },
      'does not tell the root',
    ],
  ])('is refused with %s, and no error holds a byte of a key', async (_, held, what) => {
    const { mint, pin } = await pinned(good)
    try {
      mintedCa(mint, secretOf(mint, held), pin, null)
      expect.unreachable()
    } catch (error) {
      const text = String(error)
      expect(text).toContain(what)
      for (const line of `${good.pair.key}${other.pair.key}`.split('\n').filter(each => each.length > 20))
        if (!line.startsWith('-----')) expect(text).not.toContain(line)
    }
  })

  it('is refused where the Secret is gone', async () => {
    const { mint, pin } = await pinned(good)
    expect(() => mintedCa(mint, null, pin, null)).toThrowError(/is gone/)
  })

  it('goes with a root that the declaration names, where the issuer tells none', async () => {
    const { mint, pin } = await pinned(good)
    const held = secretOf(mint, { 'tls.crt': good.pair.certificate, 'tls.key': good.pair.key })
    const given = readCertificate(root.certificate)
    expect(mintedCa(mint, held, pin, given).root.sha256).toBe(given.sha256)
  })

  it('is an old key where the Secret was there before its Certificate (F16)', async () => {
    const mint = await oneMint()
    const made = '2026-11-30T08:59:00Z'
    expect(isOlder(secretOf(mint, {}, '2026-11-01T00:00:00Z'), made)).toBe(true)
    expect(isOlder(secretOf(mint, {}, made), made)).toBe(false)
  })
})
