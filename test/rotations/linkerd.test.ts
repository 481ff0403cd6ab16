import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { demo } from '../../src/commands/demo.ts'
import { linkerdFlows } from '../../src/systems/linkerd/version.ts'

describe.each(linkerdFlows)('a whole rotation by flow %s', flow => {
  it('runs from the plan to the closing pull request without one failed handshake, and restarts as often as planned', async () => {
    const { result, exit } = await demo({
      dir: null,
      system: 'linkerd',
      sites: 1,
      variant: flow,
      fault: null,
      seed: 'linkerd',
      random: randomBytes,
      say: () => {},
    })
    expect(exit).toBe(0)
    expect(result.phases.map(phase => `${phase.name}/${phase.step}`)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'trust-both/control-plane',
      'trust-both/data-plane',
      'issue-new/data',
      'trust-new/data',
      'trust-new/control-plane',
      'trust-new/data-plane',
      'close/close',
    ])
    expect(result.handshakes.attempted).toBeGreaterThan(1000)
    expect(result.handshakes.failed).toBe(0)
    for (const { consumer, count, planned } of result.restarts) expect(count, consumer).toBe(planned)
  }, 900_000)
})
