import { join } from 'node:path'
import { istiodChart, istiodService, istioManifest, istioResource, rolledOut } from './istio.ts'
import { meshManifests } from './mesh.ts'
import type { Network } from './network.ts'
import { argoApps, argoFleet, type FleetRepository, fluxApps, fluxFleet, type RepositoryMaker } from './repository.ts'
import { until } from './server.ts'
import { flowing, ready } from './watch.ts'
import { type ArgoCluster, type FluxCluster, type MeshCluster, startArgoCluster, startFluxCluster } from './world.ts'

/** Where the workloads of these worlds run. */
export const shopNamespace = 'shop'
export const shopSite = 'eu-1'

/** For `init`. */
export const shopInit: readonly string[] = ['--site', `${shopSite}=trust/${shopSite}`, '--context', shopSite]

/** A whole `graceful` rotation from the CA that istiod made itself, step by step. */
export const shopSteps: readonly string[] = [
  'plan',
  '0-adopt/1-adopt',
  '1-enable-multiroot/1-data',
  '1-enable-multiroot/2-restart',
  '2-trust-both/1-data',
  '2-trust-both/2-restart',
  '3-issue-new/1-data',
  '3-issue-new/2-restart',
  '4-trust-new/1-data',
  '4-trust-new/2-restart',
  '5-close',
]

/** Whether what was merged last (null: nothing yet) is this step or one behind it: a look may come too late for any one of them. */
export function hasReached(merged: string | null, step: string): boolean {
  return shopSteps.indexOf(merged ?? 'plan') >= shopSteps.indexOf(step)
}

/** The repository of a site that Flux serves, with Sail. */
export function fluxShopFiles(recipient: string): Record<string, string> {
  return fluxFleet({ recipient, sites: [{ name: shopSite, istio: istioResource({ cluster: shopSite }) }] })
}

/** The cluster of such a repository, with workloads that talk to each other, each pair every second. */
export async function startFluxShop(
  network: Network,
  repository: FleetRepository,
  workloads: readonly string[],
): Promise<FluxCluster> {
  const cluster = await startFluxCluster({ name: shopSite, network, repository })
  try {
    await rolledOut(cluster.plane, 'istio-system', 'istiod')
    await repository.commit(fluxApps(shopSite, { 'shop.yaml': shopOf(workloads) }), 'The shop')
    await talking(cluster, workloads)
    return cluster
  } catch (cause) {
    await cluster.stop()
    throw cause
  }
}

/**
 * The same under Argo CD, with SealedSecrets and istiod's chart. The repository, which is the caller's to close, is made when the cluster has a
 * certificate to seal to.
 */
export async function startArgoShop<R extends FleetRepository>(
  network: Network,
  make: RepositoryMaker<R>,
  workloads: readonly string[],
): Promise<{ readonly cluster: ArgoCluster; readonly repository: R }> {
  const cluster = await startArgoCluster({ name: shopSite, network })
  let repository: R | null = null
  try {
    const { plane } = cluster
    const sealingCertificate = await cluster.sealedSecrets.certificate()
    const chart = await istiodChart()
    const { values } = istioManifest({ cluster: shopSite }).spec as { readonly values: unknown }
    repository = await make(url => argoFleet({ url, sealingCertificate, chart, sites: [{ name: shopSite, values }] }))
    await cluster.argo.reads(repository)
    const root = join(repository.clone, `clusters/${shopSite}/root.yaml`)
    await plane.objects.applyFile(root, 'kubectl-client-side-apply')
    await until(
      'Service istiod',
      () => plane.objects.get({ apiVersion: 'v1', kind: 'Service', ...istiodService }),
      120_000,
    )
    await cluster.serve([istiodService])
    await rolledOut(plane, 'istio-system', 'istiod')
    await repository.commit(argoApps(repository.url, shopSite, { 'shop.yaml': shopOf(workloads) }), 'The shop')
    await talking(cluster, workloads)
    return { cluster, repository }
  } catch (cause) {
    await repository?.close()
    await cluster.stop()
    throw cause
  }
}

function shopOf(workloads: readonly string[]): string {
  return meshManifests({ namespace: shopNamespace, interval: 1000, workloads: workloads.map(name => ({ name })) })
}

async function talking(cluster: MeshCluster, workloads: readonly string[]): Promise<void> {
  await ready(cluster, shopNamespace, workloads)
  await flowing([cluster], workloads.length * (workloads.length - 1))
}
