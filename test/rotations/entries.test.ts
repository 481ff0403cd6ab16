import { afterEach, expect, it } from 'vitest'
import { advanceUntil, nextWhenReady, planAndMerge, recordMerge } from '../../src/commands/demo.ts'
import { openStep } from './drive.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld
afterEach(async () => await test.close())

it('waits while one of two entries of a proxy trusts the old root too, names the proxy, and goes on when they agree', async () => {
  test = await testWorld({ seed: 'entries' })
  const { world } = test
  const site = test.site('eu-1')
  await planAndMerge(world)
  const open = await openStep(world, 'trust-new')
  site.faults.splitEntries.add('httpbin/Deployment/httpbin')
  await recordMerge(world, open)
  // The data step asks for delivery alone: who trusts what is asked after the restart.
  await recordMerge(world, await openStep(world, 'trust-new/restart'))

  const waiting = await nextWhenReady(world, 60 * 60_000)
  if (waiting.kind !== 'waiting') throw new Error(`expected to wait, found ${waiting.kind}`)
  const gate = waiting.gates.find(({ id }) => id === 'istio/roots-trusted')
  expect(gate?.verdict).toBe('pending')
  expect(gate?.because.join('\n')).toMatch(/sidecar httpbin\/httpbin-.*: one of its entries trusts more than /)
  const reasons = waiting.looks.flatMap(({ evidence }) => evidence?.exceptions ?? []).map(({ reason }) => reason)
  expect(new Set(reasons)).toEqual(new Set(['root-entries-differ']))

  site.faults.splitEntries.clear()
  expect(await advanceUntil(world, () => false)).toBeNull()
  expect(world.rehearsal.handshakes.counts.failed).toBe(0)
}, 600_000)
