import { type ArgoCd, startArgoCd } from './argocd.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { type Flux, startFlux } from './flux.ts'
import { installIstio, istiodService } from './istio.ts'
import { type Kubelet, startKubelet } from './kubelet.ts'
import type { Network } from './network.ts'
import { decryptionSecret, type FleetRepository, syncOf } from './repository.ts'
import { startSail } from './sail.ts'
import { type SealedSecrets, startSealedSecrets } from './sealed-secrets.ts'
import { startServiceProxy } from './service-proxy.ts'
import { type SourceController, sourceOf, startSourceController } from './source-controller.ts'
import { type TrafficWatch, watchTraffic } from './traffic.ts'

/** A cluster that runs pods as processes, watched, with Istio's kinds and the roles of the verifier in it, and nobody who delivers. */
export interface MeshCluster {
  readonly plane: ControlPlane
  readonly kubelet: Kubelet
  readonly traffic: TrafficWatch
  /** kubeconfig of the verifier: the ServiceAccount of roles/, and nothing besides. */
  readonly verifier: string
  /** Forwards what dials these Services, and istiod's, by their ClusterIP; from when they exist. */
  serve(services: readonly { readonly namespace: string; readonly name: string }[]): Promise<void>
  /** Ends with the cluster, before what was started earlier. */
  onStop(stop: () => Promise<void>): void
  stop(): Promise<void>
}

export interface MeshClusterOptions {
  /** Name of the site, of the kubeconfigs' context and of the folder under clusters/. */
  readonly name: string
  readonly network: Network
  readonly number?: number
  /** Called when the API server runs and no Istio is declared: what an administrator puts there by hand. */
  readonly before?: (plane: ControlPlane) => Promise<void>
}

async function startMeshCluster(options: MeshClusterOptions): Promise<MeshCluster> {
  const { name, network, number = 0 } = options
  const stops: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const plane = await startControlPlane({ name, network, number })
    stops.push(() => plane.stop())
    const kubelet = await startKubelet(plane, {})
    stops.push(() => kubelet.stop())
    const traffic = await watchTraffic(kubelet)
    stops.push(() => traffic.stop())
    await installIstio(plane)
    await options.before?.(plane)
    await plane.objects.applyFile('roles/istio.yaml')
    await plane.objects.applyFile('roles/istio-portforward.yaml')
    const verifier = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
    return {
      plane,
      kubelet,
      traffic,
      verifier,
      async serve(services) {
        const proxy = await startServiceProxy(plane, services)
        stops.push(() => proxy.stop())
      },
      onStop: each => void stops.push(each),
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

export interface FluxCluster extends MeshCluster {
  readonly flux: Flux
  readonly source: SourceController
}

export interface FluxClusterOptions extends MeshClusterOptions {
  readonly repository: FleetRepository
  /** Services of the cluster that are dialled by their ClusterIP, besides istiod's. */
  readonly services?: readonly { readonly namespace: string; readonly name: string }[]
}

/** Starts a cluster with Sail and bootstraps Flux in it; the repository brings the rest. */
export async function startFluxCluster(options: FluxClusterOptions): Promise<FluxCluster> {
  const { name, repository, services = [] } = options
  const cluster = await startMeshCluster(options)
  const { plane } = cluster
  try {
    const sail = await startSail(plane)
    cluster.onStop(() => sail.stop())
    const flux = await startFlux(plane, { flags: ['--requeue-dependency=2s'] })
    cluster.onStop(() => flux.stop())
    await plane.objects.apply(decryptionSecret(repository))
    const source = await startSourceController(plane, sourceOf(repository))
    cluster.onStop(() => source.stop())
    await plane.objects.applyYaml(syncOf(name), 'flux')
    await cluster.serve([istiodService, ...services])
    return { ...cluster, flux, source }
  } catch (cause) {
    await cluster.stop()
    throw cause
  }
}

export interface ArgoCluster extends MeshCluster {
  readonly argo: ArgoCd
  readonly sealedSecrets: SealedSecrets
}

/** Starts a cluster with Argo CD and the Sealed Secrets controller; nothing is asked of them yet. */
export async function startArgoCluster(options: MeshClusterOptions): Promise<ArgoCluster> {
  const cluster = await startMeshCluster(options)
  try {
    const sealedSecrets = await startSealedSecrets(cluster.plane)
    cluster.onStop(() => sealedSecrets.stop())
    const argo = await startArgoCd(cluster.plane)
    cluster.onStop(() => argo.stop())
    return { ...cluster, argo, sealedSecrets }
  } catch (cause) {
    await cluster.stop()
    throw cause
  }
}
