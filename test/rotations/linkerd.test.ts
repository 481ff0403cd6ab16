import { describe, expect, it, onTestFinished } from 'vitest'
import { linkerdFlows } from '../../src/systems/linkerd/version.ts'
import { wholeRotation } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { wholeMatrix } from './matrix.ts'
import { type TestWorld, testWorld } from './world.ts'

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

function expectRestarts({ world: { rehearsal } }: TestWorld, times: number): void {
  const restarts = rehearsal.restarts()
  expect(restarts).toHaveLength(6)
  for (const { consumer, count } of restarts) expect([consumer, count]).toEqual([consumer, times])
}

describe.each(linkerdFlows)('flow %s', flow => {
  const twice = wholeMatrix || flow === 'config-map'
  const title = twice ? 'two rotations in a row, A to B to C (F22), run' : 'a rotation runs'
  it(`${title} from the plan to the closing pull request without one failed handshake, and restart each workload twice`, async () => {
    const test = await testWorld({ system: 'linkerd', variant: flow, fleet: smallFleet })
    onTestFinished(() => test.close())
    const { handshakes } = test.world.rehearsal
    expect(await wholeRotation(test.world)).toEqual(steps)
    expectRestarts(test, 2)
    if (twice) {
      // The folder that the first one left is the second one's phase 0.
      expect(await wholeRotation(await test.declare('second'))).toEqual(steps.slice(1))
      expectRestarts(test, 4)
    }
    expect(handshakes.counts.attempted).toBeGreaterThan(twice ? 1000 : 500)
    expect(handshakes.counts.failed).toBe(0)
  }, 900_000)
})
