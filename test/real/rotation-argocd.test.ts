import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { istiodChart, istiodService, istioManifest, rolledOut } from './rig/istio.ts'
import { meshManifests } from './rig/mesh.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { argoApps, argoFleet, type FleetRepository, makeRepository } from './rig/repository.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { byStep, failuresText, flowing, held, plannedTrust, ready, recordOf } from './rig/watch.ts'
import { type ArgoCluster, startArgoCluster } from './rig/world.ts'

const namespace = 'shop'
const workloads = ['frontend', 'cart', 'orders', 'stock', 'ledger', 'search']
const pairs = workloads.length * (workloads.length - 1)

describe('a rotation through Argo CD', () => {
  let network: Network
  let cluster: ArgoCluster
  let repository: FleetRepository

  beforeAll(async () => {
    network = await createNetwork()
    cluster = await startArgoCluster({ name: 'eu-1', network })
    const { plane } = cluster
    const sealingCertificate = await cluster.sealedSecrets.certificate()
    const chart = await istiodChart()
    const { values } = istioManifest({ cluster: 'eu-1' }).spec as { readonly values: unknown }
    repository = await makeRepository(url =>
      argoFleet({ url, sealingCertificate, chart, sites: [{ name: 'eu-1', values }] }),
    )
    await plane.objects.applyFile(join(repository.clone, 'clusters/eu-1/root.yaml'), 'kubectl-client-side-apply')
    await until(
      'Service istiod',
      () => plane.objects.get({ apiVersion: 'v1', kind: 'Service', ...istiodService }),
      120_000,
    )
    await cluster.serve([istiodService])
    await rolledOut(plane, 'istio-system', 'istiod')
    const shop = meshManifests({ namespace, interval: 1000, workloads: workloads.map(name => ({ name })) })
    await repository.commit(argoApps(repository.url, 'eu-1', { 'shop.yaml': shop }), 'The shop')
    await ready(cluster, namespace, workloads)
    await flowing([cluster], pairs)
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
      init: ['--site', 'eu-1=trust/eu-1', '--context', 'eu-1', '--age', repository.recipient],
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
    expect(await held(cluster, namespace)).toEqual({ proxies: workloads.length, roots, issuers })
  }, 1_800_000)
})
