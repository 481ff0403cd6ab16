import { mkdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { program } from './components.ts'
import { type Connection, type Followed, isStatus, openConnection, retry } from './connection.ts'
import { type ControlPlane, realNode } from './control-plane.ts'
import type { Manifest } from './objects.ts'
import { type PodContext, type PodWork, type RunningPod, startPod } from './pod.ts'
import { type DataObject, nodeAddress, type PodObject } from './pod-object.ts'

export type { RunningPod } from './pod.ts'

/**
 * Stand-in for a node's kubelet and its container runtime: pods bound to the node `real` run as processes of this machine, each pod in a
 * network namespace of its own, each container with a root of its own. Which program a container runs is said in container.ts; whatever has
 * no program is ready at once.
 */
export interface Kubelet {
  /** Pods that have an address and have not ended. */
  pods(): readonly RunningPod[]
  /** Pods that ever ran, in the order of their start: their logs outlive them. */
  everyPod(): readonly RunningPod[]
  /** Pods of a namespace that run now and whose name starts so. */
  find(namespace: string, prefix: string): readonly RunningPod[]
  /** SIGKILL to every process of a container; it starts again. */
  kill(pod: RunningPod, container: string): Promise<void>
  /** Volumes of these pods stay as they are, as on a node that lags behind; null: none. */
  holdProjection(held: ((pod: RunningPod) => boolean) | null): void
  /** Ends every pod's processes at once. The API server is not told. */
  stop(): Promise<void>
}

export interface KubeletOptions {
  /** Milliseconds between two looks at the volumes. A real kubelet takes up to about a minute. @default 1000 */
  readonly syncPeriod?: number
  /** Further lines for /etc/hosts of every pod: name → address. Services of the cluster are known by name anyway. */
  readonly hosts?: Readonly<Record<string, string>>
}

/** Ports of istiod and of the sidecar that are forwarded though the pod does not declare all of them. */
const knownPorts = [8080, 15000, 15004, 15010, 15012, 15014, 15017, 15020, 15021, 15090]
/** Of the lease; the node-lifecycle controller gives a node 40 s. */
const heartbeat = 5000

export async function startKubelet(plane: ControlPlane, options: KubeletOptions = {}): Promise<Kubelet> {
  const { syncPeriod = 1000 } = options
  const connection = await openConnection(plane.kubeconfig)
  const folder = join(plane.folder, 'kubelet')
  const logs = join(plane.folder, 'log', 'pods')
  await mkdir(folder, { recursive: true })
  await mkdir(logs, { recursive: true })
  const relay = await program('workload')
  await makeNode(connection, plane.kwokPort)

  const works = new Map<string, PodWork>()
  /** Pods that have ended: the list may still show them for a moment. */
  const ended = new Set<string>()
  const ever: RunningPod[] = []
  let held: ((pod: RunningPod) => boolean) | null = null
  let open = true

  const secrets = await connection.follow<DataObject>('/api/v1/secrets')
  const configMaps = await connection.follow<DataObject>('/api/v1/configmaps')
  const services: Followed<ServiceObject> = await connection.follow<ServiceObject>('/api/v1/services', () => {
    for (const work of works.values()) work.setHosts().catch(report)
  })

  const context: PodContext = {
    connection,
    network: plane.network,
    folder,
    logs,
    known: {
      secret: (namespace, name) => secrets.find(namespace, name),
      configMap: (namespace, name) => configMaps.find(namespace, name),
    },
    environment: {
      PATH: '/usr/local/bin:/usr/bin:/usr/sbin',
      HOME: '/',
      KUBERNETES_SERVICE_HOST: plane.network.address,
      KUBERNETES_SERVICE_PORT: String(plane.apiPort),
    },
    hosts: namespace => hostsText(namespace, services.items(), options.hosts ?? {}),
    projects: pod => held === null || !held(pod),
    forward: (pod, netns) => forward(connection, pod, netns, relay),
    unforward: pod => unforward(connection, pod),
    born: pod => void ever.push(pod),
  }

  function sync(): void {
    if (!open) return
    const present = new Set<string>()
    for (const object of pods?.items() ?? []) {
      const { uid, deletionTimestamp, deletionGracePeriodSeconds = 30 } = object.metadata
      present.add(uid)
      let work = works.get(uid)
      if (work === undefined) {
        const done = object.status?.phase === 'Succeeded' || object.status?.phase === 'Failed'
        if (ended.has(uid) || (done && deletionTimestamp === undefined)) continue
        work = startPod(object, context)
        works.set(uid, work)
      }
      work.update(object)
      if (deletionTimestamp !== undefined) end(work, deletionGracePeriodSeconds)
    }
    // Deleted without grace: nobody waits for them any more.
    for (const [uid, work] of works) if (!present.has(uid)) end(work, 0)
    // One that comes back later, as in a cluster that was restored, is started anew.
    for (const uid of ended) if (!present.has(uid)) ended.delete(uid)
  }

  function end(work: PodWork, graceSeconds: number): void {
    work.terminate(graceSeconds).then(() => {
      ended.add(work.uid)
      works.delete(work.uid)
    }, report)
  }

  let pods: Followed<PodObject> | null = null
  pods = await connection.follow<PodObject>(`/api/v1/pods?fieldSelector=spec.nodeName=${realNode}`, sync)
  sync()

  async function keepLease(): Promise<void> {
    while (open) {
      await sleep(heartbeat, undefined, { ref: false })
      if (open) await renewLease(connection).catch(report)
      if (open) await keepReady(connection, plane.kwokPort).catch(report)
    }
  }

  async function keepVolumes(): Promise<void> {
    while (open) {
      await sleep(syncPeriod, undefined, { ref: false })
      if (!open) return
      // A missing object leaves the volume as it was; the kubelet only makes an event of it.
      await Promise.all([...works.values()].map(work => work.project().catch(() => {})))
    }
  }

  void keepLease()
  void keepVolumes()

  const living = (): readonly RunningPod[] => ever.filter(({ uid }) => works.has(uid))
  return {
    pods: living,
    everyPod: () => ever,
    find: (namespace, prefix) => living().filter(pod => pod.namespace === namespace && pod.name.startsWith(prefix)),
    async kill(pod, container) {
      const work = works.get(pod.uid)
      if (work === undefined) throw new Error(`${pod.namespace}/${pod.name} has ended`)
      await work.killContainer(container)
    },
    holdProjection(predicate) {
      held = predicate
    },
    async stop() {
      open = false
      await Promise.all([...works.values()].map(work => work.drop().catch(report)))
      connection.close()
    },
  }
}

interface ServiceObject extends Manifest {
  readonly spec?: { readonly clusterIP?: string }
}

function report(cause: unknown): void {
  process.stderr.write(`kubelet: ${cause instanceof Error ? cause.message : String(cause)}\n`)
}

/** What the cluster's DNS would answer. */
function hostsText(
  namespace: string,
  services: readonly ServiceObject[],
  further: Readonly<Record<string, string>>,
): string {
  const lines = ['127.0.0.1 localhost']
  for (const { metadata, spec } of services) {
    const address = spec?.clusterIP ?? 'None'
    if (address === 'None' || address === '') continue
    const long = `${metadata.name}.${metadata.namespace}`
    const short = metadata.namespace === namespace ? ` ${metadata.name}` : ''
    lines.push(`${address} ${long}.svc ${long}.svc.cluster.local ${long}${short}`)
  }
  for (const [name, address] of Object.entries(further)) lines.push(`${address} ${name}`)
  return `${lines.join('\n')}\n`
}

const forwardsOf = (namespace: string): string => `/apis/kwok.x-k8s.io/v1alpha1/namespaces/${namespace}/portforwards`

/** As a kubelet does, a forwarded connection goes to the port on the loopback of the pod's network. */
async function forward(connection: Connection, pod: PodObject, netns: string, relay: string): Promise<void> {
  const { namespace, name, uid } = pod.metadata
  const declared = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].flatMap(({ ports = [] }) =>
    ports.map(({ containerPort }) => containerPort),
  )
  const ports = [...new Set([...knownPorts, ...declared])]
  await connection.patch(
    `${forwardsOf(namespace)}/${name}?fieldManager=kubelet&force=true`,
    {
      apiVersion: 'kwok.x-k8s.io/v1alpha1',
      kind: 'PortForward',
      metadata: { name, namespace, ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid }] },
      spec: {
        forwards: ports.map(port => ({
          ports: [port],
          command: ['/sbin/ip', 'netns', 'exec', netns, relay, 'relay', String(port)],
        })),
      },
    },
    'apply',
  )
}

/** Takes the forwards away unless a later pod of the same name has them. */
async function unforward(connection: Connection, pod: PodObject): Promise<void> {
  const { namespace, name, uid } = pod.metadata
  const path = `${forwardsOf(namespace)}/${name}`
  const { metadata } = (await connection.send('GET', path)) as Manifest
  const owners = metadata.ownerReferences as readonly { readonly uid: string }[]
  if (owners.every(owner => owner.uid !== uid)) return
  const preconditions = { resourceVersion: metadata.resourceVersion }
  await connection.send('DELETE', path, { apiVersion: 'v1', kind: 'DeleteOptions', preconditions })
}

const architecture = process.arch === 'x64' ? 'amd64' : process.arch

async function makeNode(connection: Connection, kubeletPort: number): Promise<void> {
  const path = `/api/v1/nodes/${realNode}`
  const labels = {
    'kubernetes.io/hostname': realNode,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': architecture,
  }
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: realNode, labels } }
  await retry(() => connection.patch(`${path}?fieldManager=kubelet&force=true`, node, 'apply'))
  await retry(() => renewLease(connection))
  await retry(() => tellReady(connection, kubeletPort))
}

/** The node-lifecycle controller calls a node unknown whose lease it did not see in time, as where the API server was away. Only the node can deny it. */
async function keepReady(connection: Connection, kubeletPort: number): Promise<void> {
  const node = (await connection.send('GET', `/api/v1/nodes/${realNode}`)) as {
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
  }
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready')
  if (ready?.status !== 'True') await tellReady(connection, kubeletPort)
}

async function tellReady(connection: Connection, kubeletPort: number): Promise<void> {
  const resources = { cpu: '64', memory: '256Gi', 'ephemeral-storage': '256Gi', pods: '500' }
  const now = new Date().toISOString()
  const conditions = [
    { type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'the rig runs its pods' },
    { type: 'MemoryPressure', status: 'False', reason: 'KubeletHasSufficientMemory' },
    { type: 'DiskPressure', status: 'False', reason: 'KubeletHasNoDiskPressure' },
    { type: 'PIDPressure', status: 'False', reason: 'KubeletHasSufficientPID' },
  ].map(condition => ({ ...condition, lastHeartbeatTime: now, lastTransitionTime: now }))
  const status = {
    capacity: resources,
    allocatable: resources,
    // No Hostname: the API server would dial that first, and nobody resolves it.
    addresses: [{ type: 'InternalIP', address: nodeAddress }],
    daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
    nodeInfo: {
      kubeletVersion: 'v1.34.4',
      kubeProxyVersion: '',
      containerRuntimeVersion: 'rig://1',
      operatingSystem: 'linux',
      architecture,
      osImage: hostname(),
      kernelVersion: '',
      machineID: realNode,
      systemUUID: realNode,
      bootID: realNode,
    },
    conditions,
  }
  await connection.patch(`/api/v1/nodes/${realNode}/status`, { status })
}

async function renewLease(connection: Connection): Promise<void> {
  const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases'
  // Lease times have microseconds.
  const renewTime = new Date().toISOString().replace('Z', '000Z')
  const spec = { holderIdentity: realNode, leaseDurationSeconds: 40, renewTime }
  try {
    await connection.patch(`${leases}/${realNode}`, { spec })
  } catch (cause) {
    if (!isStatus(cause, 404)) throw cause
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: realNode }, spec }
    await connection.send('POST', leases, lease)
  }
}
