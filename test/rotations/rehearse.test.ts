import { afterEach, describe, expect, it } from 'vitest'
import { planAndMerge } from '../../src/commands/demo.ts'
import { openStep, rehearseDeclared } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld
afterEach(async () => await test.close())

describe('rehearse', () => {
  it("runs the declared rotation with the user's own manifests, also after adopt, and leaves their repository as it was", async () => {
    test = await testWorld({ seed: 'rehearse' })
    const { world } = test
    await planAndMerge(world)
    const open = await openStep(world, 'enable-multiroot')
    const before = await world.repository.branches('')
    const outcome = await rehearseDeclared(world)
    expect(open.state).toBe('open')
    expect(outcome.exit).toBe(0)
    expect(outcome.result.phases.at(-1)?.name).toBe('close')
    expect(outcome.result.handshakes.failed).toBe(0)
    expect(outcome.remarks).toEqual(['the CA, the age key and the clusters were made for this rehearsal'])
    expect(await world.repository.branches('')).toEqual(before)
  }, 600_000)

  it.each([
    ['cassandra', {}, ['adopt', 'add', 'swap', 'drop', 'close']],
    ['linkerd', { fleet: smallFleet }, ['adopt', 'trust-both', 'issue-new', 'trust-new', 'close']],
  ] as const)(
    'runs a declared rotation of %s on its own manifests',
    async (system, options, phases) => {
      test = await testWorld({ system, seed: 'rehearse', ...options })
      const { exit, result, remarks } = await rehearseDeclared(test.world)
      expect(exit).toBe(0)
      expect([...new Set(result.phases.map(({ name }) => name))]).toEqual(phases)
      expect(result.handshakes.attempted).toBeGreaterThan(100)
      expect(result.handshakes.failed).toBe(0)
      expect(remarks).toEqual(['the CA, the age key and the clusters were made for this rehearsal'])
    },
    600_000,
  )

  it('counts what strategy emergency breaks as foretold', async () => {
    test = await testWorld({ seed: 'price', change: declaration => ({ ...declaration, strategy: 'emergency' }) })
    const { exit, result } = await rehearseDeclared(test.world)
    expect(exit).toBe(0)
    expect(result.handshakes.failed).toBe(result.handshakes.foretold)
    expect(result.handshakes.foretold).toBeGreaterThan(0)
  }, 600_000)
})
