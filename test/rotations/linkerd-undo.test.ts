import { afterEach, describe, expect, it } from 'vitest'
import { planAndMerge } from '../../src/commands/demo.ts'
import { textsAt } from '../../src/rehearsal/objects.ts'
import { abandonBefore, isClosed, undoEachStep } from './drive.ts'
import { inBatches, trusting, twoBatches } from './linkerd-fleet.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld | null = null
afterEach(async () => {
  await test?.close()
  test = null
})

async function smallWorld(): Promise<TestWorld> {
  test = await testWorld({ system: 'linkerd', fleet: twoBatches, change: inBatches })
  return test
}

describe('undo', () => {
  it('leads back from each step but adopt, and forward again, and no handshake fails', async () => {
    const { world } = await smallWorld()
    const { '0-adopt/1-adopt': adopt, ...others } = await undoEachStep(world)
    expect(adopt).toBe('there is no way back from here')
    const trust = ['1-data', '2-control-plane', '3-data-plane', '4-data-plane-2']
    const steps = [
      ...trust.map(step => `1-trust-both/${step}`),
      '2-issue-new/1-data',
      ...trust.map(step => `3-trust-new/${step}`),
    ]
    expect(others).toEqual(Object.fromEntries(steps.map(step => [step, 'undone'])))
    expect(await isClosed(world)).toBe(true)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)
})

describe('abandon', () => {
  it('leads back from both issuers in use to the old root alone: the new one goes after the last leaf of it', async () => {
    const here = await smallWorld()
    const { world } = here
    const before = here.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')
    const anchors = () =>
      textsAt(here.store('eu-1').get('', 'ConfigMap', 'linkerd', 'linkerd-identity-trust-roots'), 'data')
    const old = anchors()
    await planAndMerge(world)
    await abandonBefore(world, 'trust-new')
    expect(await isClosed(world)).toBe(true)
    expect(here.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')).toEqual(before)
    expect(anchors()['ca-bundle.crt']?.trim()).toBe(old['ca-bundle.crt']?.trim())
    expect(trusting(world)).toEqual(new Set([1]))
    await world.rehearsal.handshakes.round()
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)
})
