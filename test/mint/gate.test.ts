import { describe, expect, it } from 'vitest'
import type { Mint } from '../../src/mint/certificate.ts'
import { judgeKept, judgeMint } from '../../src/mint/gate.ts'
import type { MintSeen, SeenCertificate } from '../../src/mint/observe.ts'
import { readPins, writePins } from '../../src/mint/pin.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import type { Verdict } from '../../src/rotation.ts'
import { day, issued, leaf, oneMint, seen } from './fixture.ts'

const lasts = 30 * day
const wanted = { lasts, pinned: null }
const good = issued().certificate

interface Case {
  readonly title: string
  readonly verdict: Verdict
  readonly because: string
  readonly change?: Partial<SeenCertificate>
  /** Of its specification. */
  readonly edit?: Readonly<Record<string, unknown>>
  readonly more?: (mint: Mint) => Partial<MintSeen>
  readonly certificate?: Certificate
}

const request = (certificate: Certificate | null, revision = 1) => ({
  name: `x-${revision}`,
  revision,
  chain: certificate === null ? null : [certificate],
  root: null,
})

const cases: readonly Case[] = [
  {
    title: 'pending while Git has not brought it',
    verdict: 'pending',
    because: 'there is no Certificate cert-manager/reanchor-mesh-2026-eu-1 in the cluster of eu-1',
    more: () => ({ certificate: null, requests: [] }),
  },
  {
    title: 'pending while cert-manager has not looked',
    verdict: 'pending',
    because: 'has not looked at it yet',
    change: { ready: null, revision: null },
  },
  {
    title: 'pending with cert-manager’s own words while the issuer is not ready',
    verdict: 'pending',
    because: 'mesh-root-2026 is not ready',
    change: {
      ready: { status: 'False', observedGeneration: 1, message: 'mesh-root-2026 is not ready' },
      revision: null,
    },
  },
  {
    title: 'pending where the condition is of an older generation',
    verdict: 'pending',
    because: 'condition Ready is of generation 1, the object has 2',
    change: { generation: 2 },
  },
  {
    title: 'pending while it is issued for the first time',
    verdict: 'pending',
    because: 'is not issued',
    change: { issuing: { status: 'True', observedGeneration: 1, message: '' }, revision: null },
  },
  {
    title: 'violated while it is issued again (F16)',
    verdict: 'violated',
    because: 'is being issued again',
    change: { issuing: { status: 'True', observedGeneration: 1, message: 'Manually triggered' } },
  },
  {
    title: 'violated once it was renewed (F16)',
    verdict: 'violated',
    because: 'was issued 2 times',
    change: { revision: 2 },
    more: () => ({ requests: [request(good, 2)] }),
  },
  {
    title: 'violated where a second request is out already (F16)',
    verdict: 'violated',
    because: 'was issued 2 times',
    more: () => ({ requests: [request(good), request(null, 2)] }),
  },
  {
    title: 'violated where another writer changed it',
    verdict: 'violated',
    because: 'spec.secretName is not what clusters/eu-1/reanchor-mesh-2026-eu-1.yaml says',
    edit: { secretName: 'cacerts' },
  },
  {
    title: 'violated while it is being deleted',
    verdict: 'violated',
    because: 'is being deleted',
    change: { deleted: true },
  },
  {
    title: 'unknown where the request is gone',
    verdict: 'unknown',
    because: 'no CertificateRequest of revision 1',
    more: () => ({ requests: [] }),
  },
  {
    title: 'unknown where the request holds nothing that can be read',
    verdict: 'unknown',
    because: 'holds no certificate',
    more: () => ({ requests: [request(null)] }),
  },
  {
    title: 'unknown where the status is not of this certificate',
    verdict: 'unknown',
    because: 'while its certificate ends',
    change: { notAfter: '2027-01-01T00:00:00Z' },
  },
  {
    title: 'violated where the issuer made no CA of it',
    verdict: 'violated',
    because: 'is no CA',
    certificate: leaf(),
  },
  {
    title: 'violated where the key is another than was asked for',
    verdict: 'violated',
    because: 'has a key ECDSA P-384, not ECDSA P-256',
    certificate: issued(730, 'P-384').certificate,
  },
  {
    title: 'violated where it ends before the rotation can be over, with the date (F28)',
    verdict: 'violated',
    because: 'before the rotation and its leaves can be over, which may be 2026-12-30',
    certificate: issued(20).certificate,
  },
  {
    title: 'violated where cert-manager renews it in mid-rotation, with the date (F16)',
    verdict: 'violated',
    because: 'is renewed 2026-12-10T00:00:00Z, before the rotation can be over, which may be 2026-12-30',
    change: { renewalTime: '2026-12-10T00:00:00Z' },
  },
]

describe('the gate of a minted CA is', () => {
  it.each(cases)('$title', async ({ verdict, because, change, edit = {}, more, certificate = good }) => {
    const mint = await oneMint()
    const spec = { ...mint.manifest.spec, ...edit }
    const { gate, pin } = judgeMint(mint, seen(mint, certificate, { spec, ...change }, more?.(mint)), wanted)
    expect([gate.verdict, pin]).toEqual([verdict, null])
    expect(gate.because.join()).toContain(because)
    expect(gate.hint).not.toBeNull()
    expect(gate.retryAt === null).toBe(verdict !== 'pending')
  })

  it('unknown where nothing was seen, with the reason', async () => {
    const { gate, pin } = judgeMint(await oneMint(), null, wanted, 'get certificates: 403')
    expect([gate.verdict, pin]).toEqual(['unknown', null])
    expect(gate.because.join()).toContain('403')
  })

  it('good where it was issued once and lasts, and tells the fingerprint', async () => {
    const mint = await oneMint()
    const { gate, pin } = judgeMint(mint, seen(mint, good), wanted)
    expect(gate).toMatchObject({ verdict: 'holds', because: [], site: 'eu-1' })
    expect(pin).toMatchObject({ site: 'eu-1', sha256: good.sha256, cluster: 'uid-eu-1' })
    const again = judgeMint(mint, seen(mint, good), { lasts, pinned: pin })
    expect(again.gate.verdict).toBe('holds')
  })

  it('violated where a second look finds another certificate than is pinned, though it is the first of its Certificate (F16)', async () => {
    const mint = await oneMint()
    const { pin } = judgeMint(mint, seen(mint, good), wanted)
    const other = issued().certificate
    const { gate } = judgeMint(mint, seen(mint, other), { lasts, pinned: pin })
    expect(gate.verdict).toBe('violated')
    expect(gate.because.join()).toContain(other.sha256)
    expect(gate.because.join()).toContain(good.sha256)
  })
})

describe('what status says of a minted CA after the plan', () => {
  async function kept(change: Partial<SeenCertificate>, more: Partial<MintSeen> = {}) {
    const mint = await oneMint()
    const { pin } = judgeMint(mint, seen(mint, good), wanted)
    if (pin === null) throw new Error('no pin')
    return judgeKept(mint, seen(mint, good, change, more), pin)
  }

  it('is that it was left alone, or cleaned up', async () => {
    expect((await kept({})).verdict).toBe('holds')
    expect((await kept({}, { certificate: null, requests: [] })).verdict).toBe('holds')
  })

  it('is who holds what instead, where cert-manager renewed it early (F16)', async () => {
    const other = issued().certificate
    const gate = await kept({ revision: 2 }, { requests: [request(other, 2)] })
    expect(gate.verdict).toBe('violated')
    expect(gate.because.join()).toContain(other.sha256)
    const anew = await kept({}, { requests: [request(other)] })
    expect(anew.verdict).toBe('violated')
  })

  it('is unknown where it was not seen', async () => {
    const mint = await oneMint()
    const { pin } = judgeMint(mint, seen(mint, good), wanted)
    if (pin === null) throw new Error('no pin')
    expect(judgeKept(mint, null, pin, '403').verdict).toBe('unknown')
  })
})

describe('the record of pins', () => {
  it('is read back as it was written, and refused where it is none of this rotation', async () => {
    const mint = await oneMint()
    const { pin } = judgeMint(mint, seen(mint, good), wanted)
    if (pin === null) throw new Error('no pin')
    const text = writePins('mesh-2026', [pin])
    expect(readPins(text, 'mesh-2026', 'minted.yaml')).toEqual([pin])
    for (const [wrong, rotation] of [
      [text, 'mesh-2027'],
      ['', 'mesh-2026'],
      ['{', 'mesh-2026'],
      [text.replace(pin.sha256, 'abc'), 'mesh-2026'],
    ] as const)
      expect(() => readPins(wrong, rotation, 'minted.yaml')).toThrowError(/cannot be read/)
  })
})
