import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Evidence, EvidenceGroup, Plan } from '../../src/rotation.ts'
import { gatesFor } from '../../src/verify/gate.ts'
import { judge } from '../../src/verify/judge.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import { authorities, lookTwice, type Mesh, meshAt, planOf, site } from './mesh.ts'

const plan = await planOf()
const { old, fresh, foreign } = await authorities()

async function holdingAt(phase: number, step: number): Promise<{ evidence: Evidence; mesh: Mesh }> {
  const mesh = await meshAt(plan, phase, step)
  return { evidence: await lookTwice(plan, mesh, { phase, step }), mesh }
}

/** As if it had been seen so: the digests fit. */
function seenAs(evidence: Evidence, change: Partial<Evidence>): Evidence {
  const changed = { ...evidence, ...change }
  const observation = observationDigest(changed)
  const agreesWith = changed.agreesWith === null ? null : { ...changed.agreesWith, observation }
  return { ...changed, observation, agreesWith }
}

describe('the gates of a step', () => {
  const ids = (phase: number, step: number) => gatesFor(plan, phase, step).map(gate => gate.id)

  it('ask for the baseline at adopt', () => {
    expect(ids(0, 1)).toEqual([
      'delivery/applied',
      'istio/canary',
      'istio/wiring',
      'istio/secret',
      'istio/control-plane',
      'istio/consumers-seen',
      'istio/machines-declared',
      'istio/istiod-serves',
      'istio/root-configmaps',
      'istio/webhooks',
      'istio/roots-trusted',
      'istio/leaves-issued',
    ])
  })

  it('ask a data step only for what the restart after it needs', () => {
    expect(ids(2, 1)).toEqual([
      'delivery/applied',
      'istio/canary',
      'istio/secret',
      'istio/control-plane',
      'istio/workloads-restarted',
      'istio/consumers-seen',
      'istio/machines-declared',
      'istio/istiod-rolled',
    ])
  })

  it('ask for subscription from the step on that sets the flag', () => {
    expect(ids(0, 1)).not.toContain('istio/proxies-subscribed')
    expect(ids(1, 2)).toContain('istio/proxies-subscribed')
    expect(ids(4, 2)).toContain('istio/proxies-subscribed')
  })

  it('are none for a step that is not planned, and such a step never opens the next', async () => {
    expect(gatesFor({ ...plan, phases: [] }, 0, 1)).toEqual([])
    expect(judge({ ...plan, phases: [] }, [], new Date()).verdict).toBe('unknown')
  })
})

describe('evidence', () => {
  it.each([
    ['is stale', (now: Date) => new Date(now.getTime() + plan.gates.fresh + 61_000), 'evidence/fresh unknown'],
    ['is from the future (F27)', (now: Date) => new Date(now.getTime() - 120_000), 'evidence/fresh unknown'],
  ])('that %s is unknown', async (_what, at, expected) => {
    const { evidence, mesh } = await holdingAt(2, 2)
    const result = judge(plan, [evidence], at(mesh.now))
    expect(result.verdict).toBe('unknown')
    expect(result.gates.map(gate => `${gate.id} ${gate.verdict}`)).toContain(expected)
  })

  it.each([2, -2])(
    'that was seen a moment ago and is %i hours away tells of a clock, not of age (F27)',
    async hours => {
      const { evidence, mesh } = await holdingAt(2, 2)
      const now = new Date(mesh.now.getTime() + hours * 3_600_000)
      const fresh = judge(plan, [evidence], now, { live: true }).gates.find(({ id }) => id === 'evidence/fresh')
      expect(fresh).toMatchObject({ verdict: 'unknown', hint: expect.stringContaining('set the clocks') })
    },
  )

  it.each<[string, (evidence: Evidence) => Partial<Evidence>]>([
    ['was edited', evidence => ({ exceptions: [], groups: evidence.groups.slice(1) })],
    ['has a wrong digest', () => ({ observation: 'f'.repeat(64) })],
    ['is half a list', () => ({ complete: false })],
    ['is of another rotation', () => ({ rotation: 'mesh-2027' })],
    ['is of a tree that is not planned', () => ({ treeDigest: 'f'.repeat(64) })],
    ['has a last change in the future', () => ({ lastChange: '2027-01-01T00:00:00Z' })],
    ['ends before it begins', evidence => ({ from: evidence.to, to: evidence.from, lastChange: null })],
    ['names no cluster', () => ({ cluster: { uid: '' } })],
  ])('that %s is unknown', async (_what, change) => {
    const { evidence, mesh } = await holdingAt(2, 2)
    const later = { ...evidence, to: new Date(mesh.now.getTime() + 1000).toISOString() }
    const changed = { ...later, ...change(later) }
    expect(judge(plan, [later], mesh.now).verdict).toBe('holds')
    expect(judge(plan, [changed], mesh.now, { phase: 2, step: 2 }).verdict).toBe('unknown')
  })

  it('that is half a list is unknown, though no exception says so', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    expect(judge(plan, [seenAs(evidence, { complete: false })], mesh.now).verdict).toBe('unknown')
  })

  it('of another cluster than before is unknown, and so are two sites that show the same one (F27)', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    expect(judge(plan, [evidence], mesh.now, { clusters: { [site]: evidence.cluster.uid } }).verdict).toBe('holds')
    expect(judge(plan, [evidence], mesh.now, { clusters: { [site]: 'another' } }).verdict).toBe('unknown')
    const planned = (uid: string): Plan => ({ ...plan, sites: plan.sites.map(each => ({ ...each, cluster: uid })) })
    expect(judge(planned(evidence.cluster.uid), [evidence], mesh.now).verdict).toBe('holds')
    const elsewhere = judge(planned('another'), [evidence], mesh.now)
    expect(elsewhere.verdict).toBe('unknown')
    expect(elsewhere.gates.find(gate => gate.id === 'evidence/cluster')?.because).toEqual([
      `cluster ${evidence.cluster.uid}, but the plan replaces the CA of another`,
    ])
    const us = {
      ...plan.phases[2]!.steps[1]!,
      sites: { [site]: plan.phases[2]!.steps[1]!.sites[site]!, 'us-1': plan.phases[2]!.steps[1]!.sites[site]! },
    }
    const two = {
      ...plan,
      sites: [...plan.sites, { name: 'us-1', path: 'trust/us-1' }],
      phases: plan.phases.map(phase => (phase.number === 2 ? { ...phase, steps: [phase.steps[0]!, us] } : phase)),
    }
    const twins = judge(two, [evidence, { ...evidence, site: 'us-1' }], mesh.now).gates
    expect(twins.filter(gate => gate.id === 'evidence/cluster').map(gate => gate.verdict)).toEqual([
      'unknown',
      'unknown',
    ])
  })

  it('must be there for every site of the step', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    expect(judge(plan, [], mesh.now, { phase: 2, step: 2 }).verdict).toBe('unknown')
    expect(judge(plan, [evidence], mesh.now, { sites: [site, 'us-1'] }).verdict).toBe('unknown')
    expect(judge(plan, [evidence, evidence], mesh.now).verdict).toBe('unknown')
  })

  it('of one step says nothing about another (F2)', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    expect(judge(plan, [evidence], mesh.now, { phase: 3, step: 1 }).verdict).not.toBe('holds')
    expect(judge(plan, [evidence], mesh.now, { variant: 'undo' }).verdict).not.toBe('holds')
  })

  it('waits until the last change lies back, and says from when on (F24)', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    const recent = { ...evidence, lastChange: '2026-11-22T11:55:00Z' }
    const result = judge(plan, [recent], mesh.now)
    expect(result).toMatchObject({ verdict: 'pending', retryAt: '2026-11-22T12:05:00Z' })
    const later = { ...recent, to: '2026-11-22T12:05:00Z' }
    expect(judge(plan, [later], new Date('2026-11-22T12:05:00Z')).verdict).toBe('holds')
  })

  it('waits for a second look that agrees, far enough from the first', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    expect(judge(plan, [{ ...evidence, agreesWith: null }], mesh.now).verdict).toBe('pending')
    const close = { ...evidence, agreesWith: { at: evidence.from, observation: evidence.observation } }
    expect(judge(plan, [close], mesh.now).verdict).toBe('pending')
    const other = { ...evidence, agreesWith: { ...evidence.agreesWith!, observation: 'f'.repeat(64) } }
    expect(judge(plan, [other], mesh.now).verdict).toBe('unknown')
  })

  it('with the digest of before a step was sealed again still counts', async () => {
    const { evidence, mesh } = await holdingAt(2, 2)
    const former = 'a'.repeat(64)
    const resealed = { ...plan, formerDigests: { [former]: evidence.treeDigest } }
    const before = seenAs(evidence, { treeDigest: former, delivery: { ...evidence.delivery, treeDigest: former } })
    expect(judge(plan, [before], mesh.now).verdict).toBe('unknown')
    expect(judge(resealed, [before], mesh.now).verdict).toBe('holds')
  })
})

describe('whatever is taken away or turned round', () => {
  const roots = [old.certificate.sha256, fresh.certificate.sha256, foreign.certificate.sha256]

  /** Ways to spoil evidence that holds: each makes something not seen, or seen otherwise. */
  function spoiled(
    evidence: Evidence,
    choice: { readonly way: number; readonly index: number; readonly value: number },
  ): Evidence {
    const { way, value } = choice
    const at = <T>(items: readonly T[]): number => choice.index % Math.max(1, items.length)
    const group = (change: (one: EvidenceGroup) => EvidenceGroup): Evidence => {
      const index = at(evidence.groups)
      return seenAs(evidence, { groups: evidence.groups.map((one, place) => (place === index ? change(one) : one)) })
    }
    const object = (
      facts: (one: Readonly<Record<string, string>>) => Readonly<Record<string, string>>,
      present = true,
    ): Evidence => {
      const index = at(evidence.objects)
      return seenAs(evidence, {
        objects: evidence.objects.map((one, place) =>
          place === index ? { ...one, present, facts: facts(one.facts) } : one,
        ),
      })
    }
    if (way === 0)
      return group(one => ({
        ...one,
        trusts:
          one.trusts === null
            ? null
            : [roots[value % 3]!, ...(value % 2 === 0 ? [] : [roots[(value + 1) % 3]!])].sort(),
      }))
    if (way === 1) return group(one => ({ ...one, trusts: null, presents: null }))
    if (way === 2) return group(one => ({ ...one, presents: one.presents === null ? null : [roots[value % 3]!] }))
    if (way === 3) return group(one => ({ ...one, facts: {} }))
    if (way === 4) return group(one => ({ ...one, bundleDigest: one.bundleDigest === null ? null : 'f'.repeat(64) }))
    if (way === 5) return object(() => ({}))
    if (way === 6) return object(facts => facts, false)
    if (way === 7) return { ...evidence, groups: evidence.groups.filter((_, place) => place !== at(evidence.groups)) }
    if (way === 8)
      return { ...evidence, objects: evidence.objects.filter((_, place) => place !== at(evidence.objects)) }
    if (way === 9) {
      const exception = {
        consumer: 'sidecar',
        name: 'shop/cart-1',
        reason: 'any',
        detail: '',
        verdict: (['pending', 'violated', 'unknown'] as const)[value % 3]!,
      } as const
      return seenAs(evidence, { exceptions: [exception] })
    }
    if (way === 10)
      return seenAs(evidence, {
        delivery: { ...evidence.delivery, treeDigest: value % 2 === 0 ? null : 'f'.repeat(64) },
      })
    if (way === 11) {
      const broken = [
        { suspended: true },
        { ready: false },
        { observed: false },
        { revision: null },
        { inventory: [] },
      ][value % 5]!
      return seenAs(evidence, { delivery: { ...evidence.delivery, ...broken } })
    }
    return seenAs(evidence, {
      groups: evidence.groups.filter(
        ({ consumer }) => consumer !== (['istiod', 'configmap', 'webhook'] as const)[value % 3],
      ),
    })
  }

  const choices = fc.record({ way: fc.nat(12), index: fc.nat(40), value: fc.nat(5) })
  const steps = plan.phases
    .flatMap(({ number, steps: planned }) => planned.map(step => [number, step.number] as const))
    .filter(([phase]) => phase < 5)

  it.each(steps)(
    'nothing that spoils evidence opens phase %i step %i, and nothing spoils it into holding',
    async (phase, step) => {
      const { evidence, mesh } = await holdingAt(phase, step)
      const neighbours = await Promise.all(
        steps.filter(([other]) => other !== phase).map(([one, two]) => holdingAt(one, two)),
      )
      fc.assert(
        fc.property(choices, fc.nat(neighbours.length - 1), (choice, index) => {
          const changed = spoiled(evidence, choice)
          const facts = {
            groups: changed.groups,
            objects: changed.objects,
            exceptions: changed.exceptions,
            delivery: changed.delivery,
          }
          const same =
            JSON.stringify(facts) ===
            JSON.stringify({
              groups: evidence.groups,
              objects: evidence.objects,
              exceptions: evidence.exceptions,
              delivery: evidence.delivery,
            })
          const verdict = judge(plan, [changed], mesh.now).verdict
          // What a data step does not ask for may differ; what it asks for may not.
          if (!same && (step === 2 || phase === 0) && !isIrrelevant(evidence, choice)) expect(verdict).not.toBe('holds')
          // Evidence of another phase, presented as this one's and then spoiled, never turns into holding.
          const foreignEvidence = neighbours[index]!.evidence
          const presented = seenAs(foreignEvidence, {
            phase,
            step,
            treeDigest: evidence.treeDigest,
            delivery: evidence.delivery,
          })
          if (judge(plan, [presented], mesh.now).verdict === 'holds') return
          const spoiledToo = spoiled(presented, { ...choice, way: [1, 3, 5, 7, 8, 9, 10, 11][choice.way % 8]! })
          expect(judge(plan, [spoiledToo], mesh.now).verdict).not.toBe('holds')
        }),
        { numRuns: 60 },
      )
    },
  )

  /** Facts that a full step does not ask about: the version of an Istio resource, a token that no step of this phase declares. */
  function isIrrelevant(
    evidence: Evidence,
    choice: { readonly way: number; readonly index: number; readonly value: number },
  ): boolean {
    const state = plan.phases[evidence.phase]!.steps[evidence.step - 1]!.sites[site]!.state
    if (choice.way === 3) {
      const group = evidence.groups[choice.index % evidence.groups.length]!
      return group.consumer === 'configmap' || group.consumer === 'webhook' || Object.keys(state.settings).length === 0
    }
    if (choice.way === 4) return state.restarts.istiod === undefined
    if (choice.way === 5) {
      const { id } = evidence.objects[choice.index % evidence.objects.length]!
      // cacerts is judged by its keys, a MeshConfig by the flag alone, workloads by their tokens alone.
      return (
        id.endsWith('/cacerts') ||
        (Object.keys(state.settings).length === 0 && (id.startsWith('ConfigMap/') || id.startsWith('Workloads')))
      )
    }
    if (choice.way === 6) {
      const { id } = evidence.objects[choice.index % evidence.objects.length]!
      return id.startsWith('ConfigMap/') || id.startsWith('Deployment/') || (id === 'Workloads' && evidence.phase > 0)
    }
    return false
  }
})
