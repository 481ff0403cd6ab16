import { describe, expect, it } from 'vitest'
import {
  atShare,
  deedKinds,
  drawFaults,
  type FaultPlan,
  type FaultScope,
  troubleKinds,
} from '../../src/rehearsal/fault-plan.ts'

const scope: FaultScope = { sites: 2, troubles: troubleKinds, deeds: deedKinds }
const seeds = Array.from({ length: 300 }, (_, index) => index + 1)
const plans: readonly FaultPlan[] = seeds.map(seed => drawFaults(seed, scope))

describe('faults drawn from a seed', () => {
  it('are the same each time for the same seed, and others for another', () => {
    for (const [index, seed] of seeds.entries()) expect(drawFaults(seed, scope)).toEqual(plans[index])
    expect(new Set(plans.map(plan => JSON.stringify({ ...plan, seed: 0 }))).size).toBe(plans.length)
  })

  it('come to every kind of trouble, every deed, and crashes before and after every write', () => {
    expect(new Set(plans.flatMap(({ cluster }) => cluster.map(({ kind }) => kind)))).toEqual(new Set(troubleKinds))
    expect(new Set(plans.flatMap(({ deeds }) => deeds.map(({ kind }) => kind)))).toEqual(new Set(deedKinds))
    const killed = new Set(plans.flatMap(({ crashes }) => crashes.map(({ write, when }) => `${when} ${write}`)))
    expect(killed.size).toBe(12)
  })

  it('strike both sites, at any step, and are over before patience is', () => {
    const all = plans.flatMap(({ cluster }) => cluster)
    expect(new Set(all.map(({ site }) => site))).toEqual(new Set([0, 1]))
    const places = all.map(({ place }) => place)
    expect(Math.min(...places)).toBeLessThan(0.05)
    expect(Math.max(...places)).toBeGreaterThan(0.95)
    for (const { lasts, kind } of all) {
      expect(lasts, kind).toBeGreaterThanOrEqual(60_000)
      expect(lasts, kind).toBeLessThanOrEqual(3 * 3_600_000)
    }
  })

  it('set clocks wrong in both directions, by a second and by hours (F27)', () => {
    const skews = plans.flatMap(({ cluster }) => cluster).filter(({ kind }) => kind === 'clock-skew')
    const sizes = skews.map(({ measure }) => Math.abs(measure))
    expect(skews.some(({ measure }) => measure < 0) && skews.some(({ measure }) => measure > 0)).toBe(true)
    expect(Math.min(...sizes)).toBeLessThan(10_000)
    expect(Math.max(...sizes)).toBeGreaterThan(3_600_000)
  })

  it('draw wrong clocks and hand edits beside the rest, which stays what it was without them', () => {
    const others = troubleKinds.filter(kind => !['runner-clock', 'node-clock', 'trust-edit'].includes(kind))
    for (const [index, seed] of seeds.entries()) {
      const { cluster } = drawFaults(seed, { ...scope, troubles: others })
      expect(plans[index]?.cluster.slice(0, cluster.length)).toEqual(cluster)
      expect((plans[index]?.cluster.length ?? 0) - cluster.length).toBeLessThanOrEqual(2)
    }
  })

  it('are of the kinds alone that a system has', () => {
    const one = { sites: 1, troubles: ['stale-reads'], deeds: [] } as const
    for (const seed of seeds) {
      const { cluster, deeds } = drawFaults(seed, one)
      expect(new Set(cluster.map(({ kind, site }) => `${kind} ${site}`))).toEqual(new Set(['stale-reads 0']))
      expect(deeds).toEqual([])
    }
  })
})

it('names by a share the same entry of lists of one length, and nothing of an empty one', () => {
  expect([0, 0.34, 0.67, 1].map(share => atShare(['a', 'b', 'c'], share))).toEqual(['a', 'b', 'c', 'c'])
  expect(atShare([], 0.5)).toBeUndefined()
})
