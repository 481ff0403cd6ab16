import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createNetwork, type Network } from './rig/network.ts'
import type { FleetRepository } from './rig/repository.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { shopInit, shopNamespace, startArgoShop } from './rig/shop.ts'
import { byStep, failuresText, held, plannedTrust, recordOf } from './rig/watch.ts'
import type { ArgoCluster } from './rig/world.ts'

const workloads = ['frontend', 'cart', 'orders', 'stock', 'ledger', 'search']

describe('a rotation through Argo CD', () => {
  let network: Network
  let cluster: ArgoCluster
  let repository: FleetRepository

  beforeAll(async () => {
    network = await createNetwork()
    ;({ cluster, repository } = await startArgoShop(network, workloads))
  }, 600_000)

  afterAll(async () => {
    await cluster?.stop()
    await repository?.close()
    await network?.close()
  })

  it('goes from the CA that istiod made itself to a new root, with SealedSecrets and a Helm chart, and no request fails', async () => {
    const since = Date.now()
    const record = await rotate({
      name: 'first',
      repository,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: [...shopInit, '--age', repository.recipient],
      edit: shortGates,
    })
    const traffic = await byStep([cluster], record, since)
    await report(recordOf('Argo CD, Helm chart, SealedSecrets: graceful, from the CA of istiod', record, traffic))
    expect(record.stoppedAt).toBeNull()
    expect(record.pullRequests).toBe(11)
    for (const step of record.steps.slice(1, -1)) {
      expect(step.consumers, step.step).toMatchObject({ istiod: 2, sidecar: workloads.length })
    }
    expect(failuresText(traffic)).toEqual([])
    const { roots, issuers } = await plannedTrust(repository, 'first')
    expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers })
  }, 1_800_000)
})
