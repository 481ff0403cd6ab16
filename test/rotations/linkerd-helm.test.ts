import { expect, it, onTestFinished } from 'vitest'
import { wholeRotation } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

it('a HelmRelease of Linkerd takes anchors and issuer from the folder, and restarts its control plane once with each change of the anchors', async () => {
  const test = await testWorld({ system: 'linkerd', variant: 'trust-roots+helm', fleet: smallFleet })
  onTestFinished(() => test.close())
  const { rehearsal } = test.world
  // No step of its own restarts the control plane: the chart does, in the apply that brings the anchors.
  expect(await wholeRotation(test.world)).toEqual([
    'adopt/adopt',
    'trust-both/data',
    'trust-both/data-plane',
    'issue-new/data',
    'trust-new/data',
    'trust-new/data-plane',
    'close/close',
  ])
  for (const { consumer, count } of rehearsal.restarts()) expect([consumer, count]).toEqual([consumer, 2])
  expect(rehearsal.restarts()).toHaveLength(6)
  const delivered = test.secret('eu-1', 'linkerd', 'reanchor-linkerd-issuer')
  const made = test.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')
  for (const key of ['crt.pem', 'key.pem']) expect(made[key]).toBe(delivered[key]?.trim())
  expect(rehearsal.handshakes.counts.attempted).toBeGreaterThan(500)
  expect(rehearsal.handshakes.counts.failed).toBe(0)
}, 600_000)
