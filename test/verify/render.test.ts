import { describe, expect, it } from 'vitest'
import type { GateResult } from '../../src/rotation.ts'
import { judge } from '../../src/verify/judge.ts'
import { exitOf, progressText, verifyText, verifyView } from '../../src/verify/render.ts'
import { authorities, lookTwice, meshAt, planOf, secretsDump } from './mesh.ts'

const plan = await planOf()

const gates: readonly GateResult[] = [
  gate({ id: 'delivery/applied', claim: 'the deliverer has applied this step' }),
  gate({
    id: 'istio/leaves-issued',
    claim: 'every proxy presents a leaf of the planned CA',
    verdict: 'pending',
    because: ['sidecar shop/cart-2: leaf is signed by 111111111111, expected 222222222222'],
    hint: 'a nudge makes every subscribed proxy renew at once',
    retryAt: '2026-11-22T12:00:30Z',
    counted: { of: 4, conform: 3 },
  }),
  gate({
    id: 'istio/webhooks',
    claim: 'every webhook is called with the planned roots',
    counted: { of: 2, conform: 2 },
  }),
  gate({
    id: 'istio/secret',
    claim: 'Secret cacerts has exactly the four keys',
    verdict: 'violated',
    because: ['key tls.crt is not ours'],
  }),
  gate({
    id: 'istio/canary',
    site: 'us-1',
    claim: 'the canary was unsealed',
    verdict: 'unknown',
    because: ['Secret \u001b[31mcould not be read'],
  }),
]

function gate(parts: Partial<GateResult> & Pick<GateResult, 'id' | 'claim'>): GateResult {
  return { site: 'eu-1', verdict: 'holds', because: [], hint: null, retryAt: null, counted: null, ...parts }
}

describe('what verify prints', () => {
  it('is a section per site, a line per claim, and below it why and what to do', () => {
    expect(verifyText(verifyView(gates, []))).toBe(`eu-1: phase 0, step 0
─────────────────────
✔ the deliverer has applied this step
… every proxy presents a leaf of the planned CA (3 of 4)
  sidecar shop/cart-2: leaf is signed by 111111111111, expected 222222222222
  look again at 2026-11-22T12:00:30Z
  hint: a nudge makes every subscribed proxy renew at once
✔ every webhook is called with the planned roots (2)
× Secret cacerts has exactly the four keys
  key tls.crt is not ours

us-1: phase 0, step 0
─────────────────────
‼ the canary was unsealed
  Secret ?[31mcould not be read

Verdict: violated. 2 of 5 gates hold. The next step stays shut; look again at 2026-11-22T12:00:30Z.
`)
  })

  it('has ASCII signs for terminals without others', () => {
    const text = verifyText(verifyView(gates, []), { unicode: false })
    expect(text).toContain('[ok] the deliverer has applied this step')
    expect(text).toContain('[no] Secret cacerts has exactly the four keys\n     key tls.crt is not ours')
    expect([...text].every(letter => letter.charCodeAt(0) < 128)).toBe(true)
  })

  it('says what was seen, and when, and under which digest', async () => {
    const { leaf, old, fresh } = await authorities()
    const mesh = await meshAt(plan, 3, 2)
    mesh.pods.get('shop/cart-2')!.http = {
      '15000/config_dump': secretsDump([old.certificate.pem + fresh.certificate.pem], [leaf.old]),
    }
    const evidence = await lookTwice(plan, mesh, { phase: 3, step: 2 })
    const view = verifyView(judge(plan, [evidence], mesh.now).gates, [evidence])
    const text = verifyText(view)
    expect(text).toContain('eu-1: phase 3, step 2')
    expect(text).toContain(
      `11 consumers seen, 1 exception, at 2026-11-22T12:01:00Z (observation ${evidence.observation.slice(0, 12)})`,
    )
    expect(text).toContain('sidecar shop/cart-2: leaf is signed by')
    expect(text.trim().split('\n').at(-1)).toMatch(
      /^Verdict: pending\. 20 of 21 gates hold\. The next step stays shut; look again at 2026-11-22T12:01:30Z\.$/,
    )
    expect(JSON.parse(JSON.stringify(view))).toEqual(view)
  })

  it('ends with the exit code that scripts hold on to', () => {
    expect([exitOf('holds'), exitOf('pending'), exitOf('violated'), exitOf('unknown')]).toEqual([0, 3, 4, 4])
  })

  it('tells on one line how far a look has come', () => {
    expect(progressText('eu-1', { stage: 'read proxies', done: 300, of: 1200 })).toBe('eu-1: read proxies, 300 of 1200')
    expect(progressText('eu-1', { stage: 'list pods', done: 500, of: null })).toBe('eu-1: list pods, 500 so far')
  })

  it('is unknown without a single gate', () => {
    expect(verifyView([], []).verdict).toBe('unknown')
  })
})
