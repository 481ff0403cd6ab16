import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { planAndMerge, rotate } from '../../src/commands/demo.ts'
import { goOn, positions } from './drive.ts'
import { type TestWorld, testWorld } from './world.ts'

describe('two rotations in a row, A to B to C (F4, F22)', () => {
  let test: TestWorld
  beforeAll(async () => {
    test = await testWorld()
  })
  afterAll(async () => await test.close())

  it('takes the final folder of the first as phase 0 of the second, and starts it at trust-both', async () => {
    await rotate(test.world)
    const restartsOfFirst = test.world.rehearsal.restarts()
    const second = await test.declare('second')
    const plan = await planAndMerge(second)
    expect(plan.phases.map(phase => phase.name)).toEqual(['adopt', 'trust-both', 'issue-new', 'trust-new'])
    expect((await positions(second))['eu-1']).toEqual({
      kind: 'at',
      phase: 0,
      step: 1,
      variant: 'step',
    })

    await goOn(second)
    expect(second.rehearsal.handshakes.counts.failed).toBe(0)
    const workloads = (list: typeof restartsOfFirst) =>
      list.filter(each => !each.consumer.includes('istiod')).map(each => [each.consumer, each.count])
    // Both flags are set already, so no workload restarts a second time.
    expect(workloads(second.rehearsal.restarts())).toEqual(workloads(restartsOfFirst))
  }, 600_000)
})
