import { beforeAll, describe, expect, it } from 'vitest'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import type { Evidence, EvidenceGroup, GateResult, Plan } from '../../../src/rotation.ts'
import { gatesFor } from '../../../src/verify/gate.ts'

let plan: Plan
let old: { root: string; issuer: string }
let next: { root: string; issuer: string }

const now = new Date('2026-11-22T12:00:00Z')

beforeAll(async () => {
  const [fixture] = linkerdFixtures()
  if (fixture === undefined) throw new Error('no fixture')
  plan = (await planFixture(fixture)).plan
  old = { root: fixture.current.roots[0]?.sha256 ?? '', issuer: fixture.current.issuer.sha256 }
  next = { root: fixture.next.root.sha256, issuer: fixture.next.issuer.sha256 }
}, 60_000)

function proxy(name: string, trusts: readonly string[], issuer: string): EvidenceGroup {
  return {
    consumer: 'proxy',
    owner: `emojivoto/Deployment/${name}`,
    count: 1,
    members: '',
    trusts: [...trusts].sort(),
    presents: [issuer],
    bundleDigest: null,
    facts: {},
    leavesExpire: { first: '2026-11-23T03:00:00Z', last: '2026-11-23T03:00:00Z' },
  }
}

function evidenceAt(phase: number, groups: readonly EvidenceGroup[], more: Partial<Evidence> = {}): Evidence {
  const step = plan.phases[phase]?.steps.at(-1)
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: 'mesh-2026',
    site: 'eu-1',
    phase,
    step: step?.number ?? 0,
    treeDigest: step?.sites['eu-1']?.digest ?? '',
    cluster: { uid: 'u' },
    from: '2026-11-22T12:00:00Z',
    to: '2026-11-22T12:00:00Z',
    observation: '',
    agreesWith: null,
    lastChange: '2026-11-22T11:00:00Z',
    delivery: {} as Evidence['delivery'],
    objects: [],
    groups,
    exceptions: [],
    certificates: [],
    complete: true,
    ...more,
  }
}

function judged(id: string, evidence: Evidence): GateResult {
  const gate = gatesFor(plan, evidence.phase, evidence.step).find(each => each.id === id)
  if (gate === undefined) throw new Error(`no gate ${id}`)
  return gate.judge(evidence, { plan, now, attestations: [] })
}

describe('the gate before the old root goes (F1, linkerd2#4287, trap 13)', () => {
  it('waits while one proxy presents a leaf of the old issuer, names it, and says by when its leaf has ended', () => {
    const both = [old.root, next.root]
    const groups = [proxy('web', both, next.issuer), proxy('voting', both, old.issuer)]
    const result = judged('linkerd/leaves-issued', evidenceAt(2, groups))
    expect(result.verdict).toBe('pending')
    expect(result.because.join('\n')).toContain('emojivoto/Deployment/voting')
    expect(result.because.join('\n')).toContain('at the latest at 2026-11-23T03:00:00Z')
    expect(result.counted).toEqual({ of: 2, conform: 1 })
    // A day's leaf is renewed after 70 % of its life (here an hour's, as the plan has it, so it is due).
    expect(Date.parse(result.retryAt ?? '')).toBeGreaterThan(now.getTime())
  })

  it('holds once every proxy presents a leaf of the new issuer', () => {
    const both = [old.root, next.root]
    const groups = [proxy('web', both, next.issuer), proxy('voting', both, next.issuer)]
    expect(judged('linkerd/leaves-issued', evidenceAt(2, groups)).verdict).toBe('holds')
  })

  it('never takes an event for evidence: IssuerUpdated changes the hint and not the verdict (trap 15)', () => {
    const secret = {
      id: 'Secret/linkerd/linkerd-identity-issuer',
      present: true,
      keys: null,
      managers: {},
      facts: {},
      lastChange: '2026-11-22T11:00:00Z',
    }
    const objects = [
      secret,
      {
        id: 'Events',
        present: true,
        keys: null,
        managers: {},
        facts: { IssuerUpdateSkipped: '2026-11-22T11:30:00Z', 'IssuerUpdateSkipped message': 'Skipping issuer update' },
        lastChange: null,
      },
    ]
    const groups = [proxy('voting', [old.root, next.root], old.issuer)]
    const result = judged('linkerd/leaves-issued', evidenceAt(2, groups, { objects }))
    expect([result.verdict, result.hint]).toEqual(['pending', expect.stringContaining('IssuerUpdateSkipped')])
    const events = [secret, { ...objects[1], facts: { IssuerUpdated: '2026-11-22T11:30:00Z' } }] as Evidence['objects']
    const updated = judged('linkerd/leaves-issued', evidenceAt(2, groups, { objects: events }))
    expect([updated.verdict, updated.hint]).toEqual(['pending', expect.stringContaining('IssuerUpdated')])
  })

  it('takes no event of an earlier rotation: one from before the Secret was written hints at nothing (trap 15)', () => {
    const object = (id: string, facts: Readonly<Record<string, string>>, lastChange: string | null) => ({
      id,
      present: true,
      keys: null,
      managers: {},
      facts,
      lastChange,
    })
    const secret = object('Secret/linkerd/linkerd-identity-issuer', {}, '2026-11-22T11:00:00Z')
    const told = (facts: Readonly<Record<string, string>>) =>
      judged(
        'linkerd/leaves-issued',
        evidenceAt(2, [proxy('voting', [old.root, next.root], old.issuer)], {
          objects: [secret, object('Events', facts, null)],
        }),
      ).hint
    expect(told({ IssuerUpdated: '2026-11-22T11:00:40Z' })).toContain('IssuerUpdated at 2026-11-22T11:00:40Z')
    expect(told({ IssuerUpdated: '2026-11-22T10:59:40Z' })).not.toContain('IssuerUpdated')
    expect(told({ IssuerUpdateSkipped: '2026-11-22T10:59:40Z' })).not.toContain('IssuerUpdateSkipped')
    // Said at a request for a leaf, where the issuer that was read does not hold.
    expect(told({ IssuerValidationFailed: '2026-11-22T11:00:40Z' })).toContain('identity said IssuerValidationFailed')
  })

  it('is unknown where no proxy was seen at all, and unknown opens nothing', () => {
    expect(judged('linkerd/leaves-issued', evidenceAt(2, [])).verdict).toBe('unknown')
  })
})

describe('the gate before the new issuer signs (F2, F14)', () => {
  it('waits while one proxy lacks the new root, whatever its workload’s annotation says (F3)', () => {
    const groups = [proxy('web', [old.root, next.root], old.issuer), proxy('voting', [old.root], old.issuer)]
    const result = judged('linkerd/proxies-trust', evidenceAt(1, groups))
    expect(result.verdict).toBe('pending')
    expect(result.because.join('\n')).toContain('voting')
  })

  it('is violated by a root that no plan knows', () => {
    const groups = [proxy('web', [old.root, 'f'.repeat(64)], old.issuer)]
    expect(judged('linkerd/proxies-trust', evidenceAt(1, groups)).verdict).toBe('violated')
  })

  it('does not take the order of a bundle for a difference', () => {
    const groups = [proxy('web', [next.root, old.root], old.issuer), proxy('voting', [old.root, next.root], old.issuer)]
    expect(judged('linkerd/proxies-trust', evidenceAt(1, groups)).verdict).toBe('holds')
  })
})

describe('the links to the control plane (F12)', () => {
  const plane = (trusts: readonly string[], issuer: string): EvidenceGroup => ({
    ...proxy('x', trusts, issuer),
    consumer: 'control-plane',
    owner: 'linkerd/Deployment/linkerd-identity',
  })

  it('hold where each end verifies the other by the roots that it was seen with', () => {
    const both = [old.root, next.root]
    const groups = [plane(both, next.issuer), proxy('web', both, old.issuer)]
    expect(judged('linkerd/control-links', evidenceAt(2, groups)).verdict).toBe('holds')
  })

  it('are violated where a proxy refuses identity, or identity a proxy, though workloads reach each other', () => {
    const both = [old.root, next.root]
    const refuses = (groups: readonly EvidenceGroup[]) => judged('linkerd/control-links', evidenceAt(2, groups))
    expect(refuses([plane(both, next.issuer), proxy('web', [old.root], old.issuer)])).toMatchObject({
      verdict: 'violated',
      because: ['emojivoto/Deployment/web refuses the leaf of linkerd/Deployment/linkerd-identity'],
    })
    expect(refuses([plane([next.root], next.issuer), proxy('web', both, old.issuer)])).toMatchObject({
      verdict: 'violated',
      because: ['linkerd/Deployment/linkerd-identity refuses the leaf of emojivoto/Deployment/web'],
    })
  })
})

describe('the gate on what the control plane trusts', () => {
  it('does not hold where identity alone was seen, or nothing but the proxies beside it (F12, F27)', () => {
    const both = [old.root, next.root]
    const identity: EvidenceGroup = { ...proxy('identity', both, old.issuer), consumer: 'identity' }
    const beside: EvidenceGroup = { ...proxy('identity', both, old.issuer), consumer: 'control-plane' }
    const verdict = (groups: readonly EvidenceGroup[]) => judged('linkerd/control-plane-trusts', evidenceAt(1, groups))
    expect(verdict([identity])).toMatchObject({ verdict: 'unknown', because: ['no control-plane was seen'] })
    expect(verdict([beside])).toMatchObject({ verdict: 'unknown', because: ['no identity was seen'] })
  })
})

describe('machines outside the cluster (F20)', () => {
  it('block until they are declared', () => {
    const exceptions = [
      { consumer: 'external', name: 'shop/till', reason: 'needs-attestation', detail: '', verdict: 'unknown' },
    ] as const
    expect(judged('linkerd/machines-declared', evidenceAt(1, [], { exceptions })).verdict).toBe('violated')
  })
})

describe('the identity checks as a gate', () => {
  it('stop a step for an error, and let a warning pass (trap 14)', () => {
    const anchors = (roots: readonly string[]): EvidenceGroup => ({
      ...proxy('x', roots, old.issuer),
      consumer: 'configmap',
      presents: null,
    })
    const stale = [anchors([old.root, next.root]), proxy('web', [old.root], old.issuer)]
    expect(judged('linkerd/identity-checks', evidenceAt(1, stale)).verdict).toBe('holds')
    const wrong = judged('linkerd/identity-checks', evidenceAt(2, [anchors([old.root])]))
    expect(wrong.verdict).toBe('violated')
    expect(wrong.because[0]).toContain('× issuer cert is issued by the trust anchor')
    expect(wrong.hint).toContain('https://linkerd.io/checks/#l5d-identity-issuer-cert-issued-by-trust-anchor')
  })
})
