import { describe, expect, it } from 'vitest'
import { undeclaredPart } from '../../src/declaration/undeclared.ts'
import { type Course, leastTime, phaseTimes, standingAt, timeLeft } from '../../src/plan/time-left.ts'
import type { Strategy, SystemPart } from '../../src/rotation.ts'
import { cassandraPhases } from '../../src/systems/cassandra/phases.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { gracefulPlan, material } from '../safety/material.ts'
import { caSecret, cassandraCa } from '../systems/cassandra/material.ts'

const now = new Date('2026-11-22T06:00:00Z')
const hour = 3_600_000
const day = 24 * hour

const today = { issuer: 'today', roots: ['today'], source: 'own' as const, settings: {} }

async function courseOf(
  system: Parameters<typeof systemOf>[0],
  strategy: Strategy,
  said: Readonly<Record<string, string>> = {},
  more: Partial<Course> & { readonly workloadBatches?: number } = {},
): Promise<Course> {
  const declared: SystemPart = await undeclaredPart(systemOf(system), said)
  const { workloadBatches = 0, ...rest } = more
  const leafHours = systemOf(system).leafHours(declared)
  return {
    strategy,
    phases: systemOf(system).course(strategy, declared, { current: today, workloadBatches }),
    batches: 1,
    gates: { hold: 600_000, settle: 15_000 },
    leafHours,
    renewalHours: systemOf(system).renewalHours?.(declared) ?? leafHours,
    ...rest,
  }
}

function steps(course: Course): readonly string[] {
  return course.phases.map(({ name, steps: all }) => `${name} ${all.length}`)
}

describe('what a rotation takes, from the phases that its system and flow have', () => {
  it('Istio from its own CA: four phases and adopt; the old root is needed until every leaf is of the new one', async () => {
    const course = await courseOf('istio', 'graceful')
    expect(steps(course)).toEqual(['adopt 1', 'enable-multiroot 1', 'trust-both 2', 'issue-new 2', 'trust-new 2'])
    const left = timeLeft(course, { ends: new Date('2026-12-22T06:00:00Z') }, now)
    // Six steps with hold and settle, and the life of a leaf at the end of four phases.
    const least = 6 * 615_000 + 4 * day
    expect(left).toMatchObject({ requests: 6, least, usual: least + 6 * day, state: 'in-time', daysLeft: 19 })
    expect(left.startBy).toBe('2026-12-12T04:58:30Z')
    expect(left.lastStart).toBe('2026-12-18T04:58:30Z')
  })

  it('batches enter each step one after the other, and workloads that restart add steps', async () => {
    const one = timeLeft(await courseOf('istio', 'graceful'), { ends: null }, now)
    const two = timeLeft(await courseOf('istio', 'graceful', {}, { batches: 2 }), { ends: null }, now)
    expect(two.least).toBe(2 * one.least)
    expect(two.requests).toBe(2 * one.requests)
    expect(steps(await courseOf('istio', 'graceful', {}, { workloadBatches: 2 }))).toContain('enable-multiroot 3')
  })

  it('Linkerd by flow: a chart that restarts the control plane with the data has a step less', async () => {
    const said = { flow: 'trust-roots', version: 'stable-2.14.10' }
    const manifests = await courseOf('linkerd', 'graceful', said, { workloadBatches: 1 })
    expect(steps(manifests)).toEqual(['adopt 1', 'trust-both 3', 'issue-new 1', 'trust-new 3'])
    const chart = await courseOf('linkerd', 'graceful', { ...said, install: 'helmRelease' }, { workloadBatches: 1 })
    expect(steps(chart)).toEqual(['adopt 1', 'trust-both 2', 'issue-new 1', 'trust-new 2'])
    expect(timeLeft(chart, { ends: null }, now).least).toBeLessThan(timeLeft(manifests, { ends: null }, now).least)
  })

  it('Kyma waits for clients, which renew by themselves after 64 of their 92 days, or at once where told', async () => {
    const ends = new Date('2027-02-22T06:00:00Z')
    const left = timeLeft(await courseOf('kyma', 'graceful'), { ends }, now)
    // adopt, both steps of trust-both where the gateway reads its CA from files, issue-new.
    expect(left).toMatchObject({ requests: 4, least: 4 * 615_000 })
    expect(left.usual - left.least - 4 * day).toBe(Math.round(92 * 0.7 * day))
    expect(left.daysLeft).toBe(23)
    // With the key kept an old certificate is accepted as soon as the renewed one is trusted.
    expect(timeLeft(await courseOf('kyma', 'renew'), { ends }, now)).toMatchObject({ requests: 3, daysLeft: 88 })
  })

  it('Cassandra: one step a phase, and region by region', async () => {
    const course = await courseOf('cassandra', 'graceful', { cluster: 'c', namespace: 'n' }, { batches: 2 })
    const secret = caSecret(await cassandraCa('O=old'))
    const phases = cassandraPhases('graceful', { secret, next: await cassandraCa('O=new'), restarts: {} })
    expect(steps(course)).toEqual(phases.map(({ name, steps: all }) => `${name} ${all.length}`))
    expect(timeLeft(course, { ends: null }, now).requests).toBe(6)
  })

  it('phase by phase, with the time that holders have to renew in the one in which the new CA comes to issue', async () => {
    const step = 615_000
    const istio = phaseTimes(await courseOf('istio', 'graceful', {}, { batches: 2 }))
    expect(istio.map(({ gates }) => gates)).toEqual([1, 1, 2, 2, 2].map(steps => 2 * steps * step))
    // A day for each pull request, and the life of a leaf at the end of each phase, batch by batch.
    expect(istio.map(({ usual, gates }) => (usual - gates) / day)).toEqual([4, 4, 6, 6, 6])
    const kyma = await courseOf('kyma', 'graceful')
    const own = phaseTimes(kyma).map(
      ({ usual, gates }, index) => usual - gates - kyma.phases[index]!.steps.length * day,
    )
    expect(kyma.phases.map(({ name }) => name).filter((_, index) => own[index] !== 0)).toEqual(['issue-new'])
    expect(Math.max(...own)).toBe(Math.round(92 * 0.7 * day))
  })

  it('an emergency waits for nobody, and a strategy that does not exist has no course', async () => {
    const left = timeLeft(await courseOf('istio', 'emergency'), { ends: new Date('2026-11-22T07:00:00Z') }, now)
    expect(left).toMatchObject({ state: 'none-needed', requests: 0, least: 0 })
    expect((await courseOf('istio', 'renew')).phases).toEqual([])
  })
})

describe('how long there is', () => {
  it('first in haste, then not at all (F28)', async () => {
    const course = await courseOf('istio', 'graceful')
    const state = (ends: string) => timeLeft(course, { ends: new Date(ends) }, now).state
    expect(state('2026-12-22T06:00:00Z')).toBe('in-time')
    expect(state('2026-11-27T06:00:00Z')).toBe('hurry')
    expect(state('2026-11-25T06:00:00Z')).toBe('too-late')
  })

  it('counts only what lies ahead, and nothing once nobody needs the old CA', async () => {
    const course = await courseOf('istio', 'graceful')
    expect(timeLeft(course, { ends: null, done: 4 }, now)).toMatchObject({
      requests: 2,
      least: leastTime(course, false) + leastTime(course, true),
    })
    expect(timeLeft(course, { ends: new Date(0), done: 6 }, now)).toMatchObject({ state: 'none-needed', ends: null })
  })

  it('with the step that is merged still to be waited for, and no pull request of its own', async () => {
    const course = await courseOf('istio', 'graceful')
    const last = timeLeft(course, { ends: null, done: 5, running: true }, now)
    expect(last).toMatchObject({ requests: 0, least: leastTime(course, true), state: 'in-time' })
  })

  it('from the site that is furthest behind', async () => {
    const plan = gracefulPlan(await material(), ['eu-1', 'us-1'])
    const at = (phase: number, step: number) => ({ kind: 'at' as const, phase, step, variant: 'step' as const })
    expect(standingAt(plan, { 'eu-1': at(2, 1), 'us-1': at(1, 2) })).toEqual({ done: 2, running: true })
    expect(standingAt(plan, { 'eu-1': at(0, 1), 'us-1': at(0, 1) })).toEqual({ done: 0, running: true })
    expect(standingAt(plan, {})).toEqual({ done: 0, running: false })
  })
})
