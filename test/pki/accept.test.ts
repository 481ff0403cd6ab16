import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { acceptIssuing, acceptRoot, acceptSuccessor, weaknesses } from '../../src/pki/accept.ts'
import { basicConstraints } from '../../src/pki/authority.ts'
import { at, issuing, leaf, newKey, oddCa, root } from './family.ts'

function refusal(act: () => void): ReanchorError {
  try {
    act()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('acceptRoot', () => {
  it('accepts a root that is made here', async () => {
    const top = await root('CN=Root')
    expect(weaknesses(top.certificate, at)).toEqual([])
    acceptRoot(top.certificate, at)
  })

  it('refuses a leaf, a short key, an expired root and one that another has signed, and says what to do (F30)', async () => {
    const top = await root('CN=Root')
    const short: KeyObject = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey
    const dead = await oddCa('CN=Dead', null, same => same, { notAfter: new Date('2026-02-01T00:00:00Z') })
    const table = [
      [await leaf(top), /cA true is missing/, /a leaf is no root/],
      [(await root('CN=Short', { key: short })).certificate, /RSA 1024/, /2048/],
      [dead.certificate, /ended 2026-02-01/, /dates/],
      [(await issuing('CN=Issuing', top)).certificate, /issued by CN=Root/, /top of the chain/],
    ] as const
    for (const [certificate, found, todo] of table) {
      const error = refusal(() => acceptRoot(certificate, at, { file: 'new-root.pem' }))
      expect(error.found).toMatch(found)
      expect(error.todo).toMatch(todo)
      expect(error.where).toMatchObject({ file: 'new-root.pem' })
      expect(error.message).toContain(certificate.sha256)
      expect(error.exit).toBe(2)
    }
  })

  it('only remarks on what verifiers in use let pass', async () => {
    const top = await oddCa('CN=Root', null, all =>
      all.map(one => (one.oid === '2.5.29.19' ? { ...one, critical: false } : one)),
    )
    acceptRoot(top.certificate, at)
    expect(weaknesses(top.certificate, at)).toMatchObject([{ reason: 'profile', refused: false }])
  })
})

describe('acceptIssuing', () => {
  it('accepts an issuing CA with its key, and an intermediate without AKI', async () => {
    const top = await root('CN=Root')
    const ca = await issuing('CN=Issuing', top)
    acceptIssuing(ca.certificate, {
      root: top.certificate,
      chain: [ca.certificate, top.certificate],
      key: ca.key,
      now: at,
    })
    const old = await oddCa('CN=Makefile', top, all => all.filter(({ oid }) => oid !== '2.5.29.35'))
    acceptIssuing(old.certificate, { root: top.certificate, now: at })
    expect(weaknesses(old.certificate, at).map(({ refused }) => refused)).toEqual([false])
    acceptIssuing(top.certificate, { root: top.certificate, key: top.key, now: at })
  })

  it('refuses a foreign key, a foreign root, a missing link, no room for leaves, and an end after the root (F28)', async () => {
    const top = await root('CN=Root')
    const other = await root('CN=Other')
    const policy = await issuing('CN=Policy', top, { pathLength: 0 })
    const wide = await issuing('CN=Wide', top, { pathLength: 1 })
    const deep = await issuing('CN=Deep', wide)
    const ca = await issuing('CN=Issuing', policy)
    const early = await oddCa('CN=Early', null, same => same, { notAfter: new Date('2027-01-01T00:00:00Z') })
    const late = await oddCa('CN=Late', early, same => same)
    const root0 = top.certificate
    expect(
      refusal(() => acceptIssuing(deep.certificate, { root: root0, chain: [wide.certificate], key: top.key, now: at }))
        .found,
    ).toMatch(/public keys differ/)
    expect(
      refusal(() => acceptIssuing(deep.certificate, { root: other.certificate, chain: [wide.certificate], now: at }))
        .found,
    ).toMatch(/^untrusted/)
    expect(refusal(() => acceptIssuing(deep.certificate, { root: root0, now: at })).todo).toMatch(
      /chain from the issuing CA/,
    )
    expect(
      refusal(() => acceptIssuing(ca.certificate, { root: root0, chain: [policy.certificate], now: at })).found,
    ).toMatch(/no room for leaves/)
    expect(refusal(() => acceptIssuing(late.certificate, { root: early.certificate, now: at })).what).toMatch(
      /outlives/,
    )
    acceptIssuing(deep.certificate, { root: root0, chain: [wide.certificate], key: deep.key, now: at })
  })

  it('refuses a leaf as issuing CA', async () => {
    const top = await root('CN=Root')
    const ca = await oddCa('CN=Issuing', top, all =>
      all.map(one => (one.oid === '2.5.29.19' ? basicConstraints(false) : one)),
    )
    expect(refusal(() => acceptIssuing(ca.certificate, { root: top.certificate, now: at })).found).toMatch(
      /cA true is missing/,
    )
  })
})

describe('acceptSuccessor', () => {
  it('refuses one subject with two keys, which consumers cannot tell apart (F8)', async () => {
    const old = await root('O=cluster.local')
    const twin = await root('O=cluster.local', { key: await newKey() })
    const error = refusal(() => acceptSuccessor(old.certificate, twin.certificate))
    expect(error.exit).toBe(5)
    expect(error.found).toContain(twin.certificate.sha256)
    acceptSuccessor(old.certificate, (await root('O=cluster.local', { key: old.key })).certificate)
    acceptSuccessor(old.certificate, (await root('CN=Root,O=Example')).certificate)
  })
})
