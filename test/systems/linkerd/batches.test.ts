import { describe, expect, it } from 'vitest'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import type { Evidence, Plan, TrustState } from '../../../src/rotation.ts'
import { linkerdRules } from '../../../src/systems/linkerd/gates.ts'
import { type PlannedPlace, plannedAt } from '../../../src/verify/planned.ts'

const workloads = (carrying: string, wired: number, count: number): Evidence => {
  const facts = { wired: String(wired), [`restart ${carrying}`]: String(count) }
  const object = { id: 'Workloads', present: true, keys: null, managers: {}, facts, lastChange: null }
  return { objects: [object], exceptions: [], groups: [] } as unknown as Evidence
}

/** As planned for one batch, with a second one that has a token or none. */
function withSecondBatch(place: PlannedPlace, second: string | null): PlannedPlace {
  const { state } = place.tree
  const settings = { ...state.settings, 'anchors/data-plane-2': state.settings['anchors/data-plane'] ?? '' }
  const restarts = { ...state.restarts, ...(second === null ? {} : { 'data-plane-2': second }) }
  const changed: TrustState = { ...state, settings, restarts }
  return { ...place, tree: { ...place.tree, state: changed } }
}

describe('a way back from between two batches', () => {
  it('waits for the workloads that the phase had come to, and not for those that it never restarted', async () => {
    const [fixture] = linkerdFixtures()
    if (fixture === undefined) throw new Error('no fixture')
    const plan: Plan = (await planFixture(fixture)).plan
    const found = plannedAt(plan, 'eu-1', 1, 3)
    if (found === null) throw new Error('no step for workloads')
    const token = found.tree.state.restarts['data-plane'] ?? ''
    const judged = (place: PlannedPlace, count: number) => {
      const rule = linkerdRules(plan, place).find(({ id }) => id === 'linkerd/workloads-restarted')
      return rule?.judge({ plan, place, evidence: workloads(token, 2, count), now: new Date(), attestations: [] })
    }
    const back = { ...withSecondBatch(found, null), full: true }
    expect(judged(back, 1)).toMatchObject({ verdict: 'holds', because: [] })
    expect(judged(back, 0)?.verdict).toBe('pending')
    // Where both were restarted, one is not enough.
    const through = { ...withSecondBatch(found, token), full: true }
    expect(judged(through, 1)?.because).toContain('1 of 2 wired workloads lack the restart token')
    expect(judged(through, 2)?.verdict).toBe('holds')
  }, 60_000)
})
