/** Kyma's root CA through a real Gitea and the real Argo CD, from SealedSecrets that the real controller unseals; real Envoys verify the clients. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import {
  everybodyIsTaken,
  kymaGateways,
  kymaPeopleOnForge,
  kymaRotation,
  kymaSteps,
  meetingsSince,
  presentedFirstAndLast,
  renewAt,
} from './rig/kyma-people.ts'
import { type KymaClusters, startKymaUnderArgo } from './rig/kyma-world.ts'
import { leaveToTakeOver } from './rig/leave.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { report } from './rig/rotation.ts'
import { gatesMerged, unattended } from './rig/unattended.ts'

describe('Kyma’s gateway through a real Gitea and Argo CD', () => {
  let network: Network
  let kyma: KymaClusters
  let fleet: ForgeFleet

  beforeAll(async () => {
    network = await createNetwork()
    ;({ kyma, repository: fleet } = await startKymaUnderArgo(network, makeForgeFleet))
    await everybodyIsTaken(kyma)
  }, 900_000)

  afterAll(async () => {
    await kyma?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('gets a new key while everybody renews, once the administrator did what adopt asks for; nobody is refused', async () => {
    const since = Date.now()
    const act = kymaPeopleOnForge(fleet, 'first', client => renewAt(kyma, client))
    const leave = leaveToTakeOver(fleet, 'first', kyma.central.kubeconfig)
    const rotation = kymaRotation(kyma, 'first', 'graceful')
    const record = await unattended({
      ...rotation,
      fleet,
      init: [...rotation.init, '--age', fleet.recipient],
      presses: leave.presses,
      async onRound({ step, kind, gates }) {
        if (kind === 'waiting') await act(step ?? 'plan', gates)
        await leave.give()
      },
    })
    const { sent, refused } = meetingsSince(kyma, since)
    const what = 'Kyma through a real Gitea, Argo CD and SealedSecrets, unattended: graceful'
    await report({ what, ...record, sent, failed: refused.length })
    expect(leave.given).toEqual([expect.stringMatching(/^kubectl .*annotate secret connector-service-app-ca /)])
    expect(record.steps.map(step => step.step)).toEqual(kymaSteps)
    expect(gatesMerged(record)).toEqual(['success'])
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: kymaGateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(sent).toBeGreaterThan(100)
    const { first, last } = presentedFirstAndLast(kyma)
    expect(last.size).toBe(1)
    expect(last.has(first)).toBe(false)
  }, 1_500_000)
})
