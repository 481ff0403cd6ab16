import { describe, expect, it, onTestFinished } from 'vitest'
import { linkerdFlows } from '../../src/systems/linkerd/version.ts'
import { wholeRotation } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

const steps = [
  'adopt/adopt',
  'trust-both/data',
  'trust-both/control-plane',
  'trust-both/data-plane',
  'issue-new/data',
  'trust-new/data',
  'trust-new/control-plane',
  'trust-new/data-plane',
  'close/close',
]

describe.each(linkerdFlows)('two rotations in a row by flow %s, A to B to C (F22)', flow => {
  it('run from the plan to the closing pull request without one failed handshake, and restart each workload twice', async () => {
    const test = await testWorld({ system: 'linkerd', variant: flow, fleet: smallFleet })
    onTestFinished(() => test.close())
    const { rehearsal } = test.world
    expect(await wholeRotation(test.world)).toEqual(steps)
    for (const { consumer, count } of rehearsal.restarts()) expect([consumer, count]).toEqual([consumer, 2])

    const second = await test.declare('second')
    const passed = await wholeRotation(second)
    // The folder that the first one left is the second one's phase 0.
    expect(passed).toEqual(steps.slice(1))
    for (const { consumer, count } of rehearsal.restarts()) expect([consumer, count]).toEqual([consumer, 4])
    expect(rehearsal.restarts()).toHaveLength(6)
    expect(rehearsal.handshakes.counts.attempted).toBeGreaterThan(1000)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)
})
