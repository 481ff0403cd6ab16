import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { faultyRun } from '../../safety/rehearsals/run.ts'
import { findDeclaration } from '../../src/commands/declared.ts'
import { rehearseRuns } from '../../src/commands/rehearse.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld | null = null
afterEach(async () => {
  await test?.close()
  test = null
})

describe('a rehearsal under faults', () => {
  it('goes the same way again with the same seed, and to the closed rotation without a failed handshake (F2, F25)', async () => {
    const options = { system: 'cassandra', flow: null, seed: 3 } as const
    const once = await faultyRun(options)
    const again = await faultyRun(options)
    expect(again.trace).toEqual(once.trace)
    expect(again.handshakes).toEqual(once.handshakes)
    expect(once).toMatchObject({ finished: true, stoppedBy: null, firstFailure: null, handshakes: { failed: 0 } })
    // Different ones: what stands as it stood before is not tried again.
    expect(once.handshakes.attempted).toBeGreaterThan(30)
    expect(once.steps[0]).toBe('plan')
    expect(once.steps.at(-1)).toBe('4-close/close')
  }, 600_000)

  it('has a person restart the pod that a gate names, where one was struck for good', async () => {
    const { finished, waitedFor, handshakes } = await faultyRun({ system: 'cassandra', flow: null, seed: 4 })
    expect({ finished, failed: handshakes.failed }).toEqual({ finished: true, failed: 0 })
    expect(waitedFor.join()).toMatch(/example-cassandra-eu-1 that stays behind: restarted/)
  }, 600_000)

  it('of what is declared leaves the repository as it was', async () => {
    test = await testWorld({ system: 'cassandra', seed: 'runs' })
    const { context, repository, rotation } = test.world
    const before = await repository.branches('')
    const declared = await findDeclaration(context, { rotation, base: null })
    const said: string[] = []
    const options = {
      seed: 3,
      runs: 2,
      random: (size: number) => randomBytes(size),
      say: (line: string) => said.push(line),
    }
    const { runs } = await rehearseRuns(context, declared, options)
    expect(runs.map(({ seed, finished, handshakes }) => [seed, finished, handshakes.failed])).toEqual([
      [3, true, 0],
      [4, true, 0],
    ])
    expect(said[0]).toMatch(/^seed 3: \d+ faults, \d+ handshakes, 0 failed, closed after [\d.]+ hours$/)
    expect(await repository.branches('')).toEqual(before)
  }, 600_000)
})
