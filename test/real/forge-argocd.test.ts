/** Istio from `init` to the closed rotation with no hand in between: the real Argo CD fetches from a real Gitea, and the real Sealed Secrets controller unseals. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { report, shortGates } from './rig/rotation.ts'
import { shopInit, shopNamespace, shopSteps, startArgoShop } from './rig/shop.ts'
import { gatesMerged, unattended } from './rig/unattended.ts'
import { byStep, failuresText, held, plannedTrust, recordOf } from './rig/watch.ts'
import type { ArgoCluster } from './rig/world.ts'

const workloads = ['frontend', 'cart', 'orders', 'stock', 'ledger', 'search']

describe('Istio through a real Gitea and Argo CD, with nobody who looks', () => {
  let network: Network
  let cluster: ArgoCluster
  let fleet: ForgeFleet

  beforeAll(async () => {
    network = await createNetwork()
    ;({ cluster, repository: fleet } = await startArgoShop(network, makeForgeFleet, workloads))
  }, 600_000)

  afterAll(async () => {
    await cluster?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('goes from the CA that istiod made itself to a new root, with SealedSecrets and a Helm chart, and no request fails', async () => {
    const since = Date.now()
    const record = await unattended({
      system: 'istio',
      name: 'first',
      fleet,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: [...shopInit, '--age', fleet.recipient],
      edit: shortGates,
    })
    const traffic = await byStep([cluster], record, since)
    const what = 'Istio through a real Gitea, Argo CD, Helm chart, SealedSecrets, unattended: graceful'
    await report({ ...recordOf(what, record, traffic), refused: record.refused })
    expect(record.steps.map(step => step.step)).toEqual(shopSteps)
    expect(gatesMerged(record)).toEqual(['success'])
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1)) {
      expect(step.consumers, step.step).toMatchObject({ istiod: 2, sidecar: workloads.length })
    }
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.every(step => step.sent > 0)).toBe(true)
    const { roots, issuers } = await plannedTrust(fleet, 'first')
    expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers })
  }, 1_800_000)
})
