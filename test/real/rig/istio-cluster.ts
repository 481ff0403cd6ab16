import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { type IstioOptions, installIstio, istiodService, istioManifest, istioNamespace, rolledOut } from './istio.ts'
import { type Kubelet, startKubelet } from './kubelet.ts'
import { edgeName, gatewayName, type MeshOptions, meshManifests } from './mesh.ts'
import { createNetwork } from './network.ts'
import type { Place } from './objects.ts'
import { type Sail, startSail } from './sail.ts'
import { until } from './server.ts'
import { type ServiceProxy, startServiceProxy } from './service-proxy.ts'
import { type ProxyCertificates, type TrafficWatch, trafficText, watchTraffic } from './traffic.ts'

/** A cluster with Istio in it that no GitOps tool delivers: a test changes the objects itself. */
export interface IstioCluster {
  readonly plane: ControlPlane
  readonly kubelet: Kubelet
  readonly sail: Sail
  readonly traffic: TrafficWatch
  /** kubeconfig of the verifier: the ServiceAccount of roles/, and nothing besides. */
  readonly verifier: string
  /** Applies a mesh and returns when all of it is rolled out. */
  addMesh(mesh: MeshOptions): Promise<void>
  /** Restarts istiod as reanchor's Component does, by an annotation of its pods through the Istio resource; waits for the roll-out. */
  restartIstiod(token: string): Promise<void>
  /** Restarts a workload by an annotation of its pod template, and waits for the roll-out. */
  restartWorkload(namespace: string, name: string, token: string): Promise<void>
  stop(): Promise<void>
}

/** Every pod annotation that restarts something is this one, as in a rotation. */
const trustAnnotation = 'reanchor.dev/trust'
const istioResource: Place = { apiVersion: 'sailoperator.io/v1', kind: 'Istio', name: 'default' }

export interface IstioClusterOptions extends IstioOptions {
  readonly name: string
  /** Called when the namespace and the CRDs are there and no istiod is. */
  readonly before?: (plane: ControlPlane) => Promise<void>
  /** Milliseconds between two looks at a proxy's certificates. @default 200 */
  readonly watch?: number
}

export async function startIstioCluster(options: IstioClusterOptions): Promise<IstioCluster> {
  const stops: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const network = await createNetwork()
    stops.push(() => network.close())
    const plane = await startControlPlane({ name: options.name, network })
    stops.push(() => plane.stop())
    const { objects } = plane
    const kubelet = await startKubelet(plane, {})
    stops.push(() => kubelet.stop())
    const traffic = await watchTraffic(kubelet, options.watch)
    stops.push(() => traffic.stop())
    await installIstio(plane)
    await objects.applyFile('roles/istio.yaml')
    await objects.applyFile('roles/istio-portforward.yaml')
    const verifier = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
    await options.before?.(plane)
    const sail = await startSail(plane)
    stops.push(() => sail.stop())
    await objects.apply(istioManifest(options))
    await until('Service istiod', () => objects.get({ apiVersion: 'v1', kind: 'Service', ...istiodService }), 60_000)
    const services: ServiceProxy = await startServiceProxy(plane, [istiodService])
    stops.push(() => services.stop())
    await rolledOut(plane, istioNamespace, 'istiod')

    async function restart(place: Place, change: unknown, namespace: string, name: string): Promise<void> {
      const deployment: Place = { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name }
      const generation = async (): Promise<number> =>
        Number(((await objects.get(deployment))?.metadata as { generation?: number } | undefined)?.generation ?? 0)
      const before = await generation()
      await objects.merge(place, change)
      await until(`${name} has a new template`, async () => (await generation()) > before)
      await rolledOut(plane, namespace, name)
    }

    return {
      plane,
      kubelet,
      sail,
      traffic,
      verifier,
      async addMesh(mesh) {
        await objects.applyYaml(meshManifests(mesh))
        if (mesh.gateway !== undefined) {
          const proxied = await startServiceProxy(plane, [{ namespace: mesh.namespace, name: gatewayName }])
          stops.push(() => proxied.stop())
        }
        const more = mesh.gateway === undefined ? [] : [gatewayName, edgeName]
        const names = [...mesh.workloads.map(({ name }) => name), ...more]
        for (const name of names) await rolledOut(plane, mesh.namespace, name)
      },
      restartIstiod: token =>
        restart(
          istioResource,
          { spec: { values: { pilot: { podAnnotations: { [trustAnnotation]: token } } } } },
          istioNamespace,
          'istiod',
        ),
      restartWorkload: (namespace, name, token) =>
        restart(
          { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name },
          { spec: { template: { metadata: { annotations: { [trustAnnotation]: token } } } } },
          namespace,
          name,
        ),
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** Waits until what the proxies of some pods hold is so. Returns the milliseconds that it took. */
export async function untilHeld(
  cluster: Pick<IstioCluster, 'traffic'>,
  what: string,
  namespace: string,
  concerns: (pod: string) => boolean,
  holds: (held: ProxyCertificates) => boolean,
  patience = 60_000,
): Promise<number> {
  const began = Date.now()
  let last = ''
  await until(
    what,
    async () => {
      const present = [...(await cluster.traffic.present(namespace)).values()].filter(({ pod }) => concerns(pod))
      last = JSON.stringify(present.map(({ pod, leaves, roots }) => ({ pod, leaves, roots })))
      return present.length > 0 && present.every(holds)
    },
    patience,
    100,
  ).catch(cause => {
    throw new Error(`${String(cause)}\n${last}`)
  })
  return Date.now() - began
}

/** Every entry trusts exactly these roots. */
export function trusts(held: ProxyCertificates, roots: readonly string[]): boolean {
  const wanted = [...new Set(roots)].sort().join()
  return held.roots.length > 0 && held.roots.every(set => set.join() === wanted)
}

/** Every entry presents a leaf of this CA. */
export function presents(held: ProxyCertificates, issuer: string): boolean {
  return held.leaves.length > 0 && held.leaves.every(leaf => leaf.issuer === issuer)
}

/** Waits until all pairs have answered within a few seconds and nobody failed meanwhile. */
export async function untilFlowing(traffic: TrafficWatch, pairs: number, patience = 60_000): Promise<void> {
  const began = Date.now()
  let last = ''
  await until(
    'requests flow between all pairs',
    async () => {
      const read = await traffic.read(Math.max(began, Date.now() - 4000))
      last = trafficText(read)
      return read.failed === 0 && read.pairs.filter(pair => pair.sent > pair.failed).length >= pairs
    },
    patience,
    500,
  ).catch(cause => {
    throw new Error(`${String(cause)}\n${last}`)
  })
}
