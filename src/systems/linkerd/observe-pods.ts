import type { KubernetesObject } from '../../cluster/cluster.ts'
import { trustAnnotation } from '../../names.ts'
import type { Instant } from '../../rotation.ts'
import { containersOf } from '../../verify/containers.ts'
import { at, instant, list, record, text } from '../../verify/values.ts'
import { anchorsVariable } from './manifests.ts'
import type { StartedContainer } from './observe-loaded.ts'
import { otherWebhooks } from './webhooks.ts'

/** Label of every pod with a proxy: a namespace's annotation would miss extensions, which are injected by their templates. */
export const meshLabel = 'linkerd.io/control-plane-ns'

/** A pod with a proxy: what its specification and its status tell. */
export interface LinkerdPod {
  readonly consumer: 'control-plane' | 'proxy' | 'gateway'
  readonly namespace: string
  readonly name: string
  /** namespace/kind/name of what made it. */
  readonly owner: string
  /** Container of identity itself, beside its proxy; null: another component, or none. */
  readonly identity: ContainerState | null
  /** The injector, which the API server asks at each admission. */
  readonly injects: boolean
  /** Ports on which containers beside the proxy answer the API server, by the names that the charts give them. */
  readonly webhookPorts: readonly { readonly name: string; readonly port: number }[]
  /** Name of the proxy in its certificate: `<sa>.<ns>.serviceaccount.identity.<control plane>.<trust domain>`. */
  readonly localName: string
  /** Anchors that its environment holds as a literal; null: they come from a ConfigMap, and are nowhere in the pod. */
  readonly anchors: string | null
  /** Port named linkerd-admin. */
  readonly adminPort: number
  readonly restart: string | null
  readonly proxy: ContainerState
  /** Since when the pod is. */
  readonly made: Instant | null
  readonly terminating: boolean
  /** Why no change of a template re-creates it; null: its controller does. */
  readonly stuck: string | null
}

export interface ContainerState extends StartedContainer {
  /** Why it does not run, or null where it does. */
  readonly notRunning: string | null
}

/** Which installation a pod is looked at for. */
export interface MeshNames {
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly trustDomain: string
}

/**
 * A meshed pod, or null where it has no proxy, or is done for good: a Succeeded pod keeps its old anchors for ever, and talks to nobody
 * (trap: `linkerd check` counts it). A native sidecar stands among the init containers.
 */
export function linkerdPod(pod: KubernetesObject, mesh: MeshNames): LinkerdPod | null {
  const phase = text(at(pod.status, 'phase')) ?? 'Unknown'
  if (phase === 'Succeeded' || phase === 'Failed') return null
  const labels = pod.metadata.labels ?? {}
  if (labels[meshLabel] !== mesh.namespace) return null
  const { main, init } = containersOf(pod)
  const containers = [...main, ...init]
  const proxy = containers.find(({ name }) => name === 'linkerd-proxy')
  if (proxy === undefined) return null
  const own = pod.metadata.namespace ?? ''
  const component = labels['linkerd.io/control-plane-component']
  const env = environment(proxy, pod)
  const made = ownerOf(pod)
  const controlPlane = own === mesh.namespace && component !== undefined
  return {
    consumer: controlPlane ? 'control-plane' : isGateway(labels) ? 'gateway' : 'proxy',
    namespace: own,
    name: pod.metadata.name,
    owner: made.owner,
    identity: controlPlane && component === 'identity' ? stateOf(pod, phase, 'identity', true) : null,
    injects: controlPlane && component === 'proxy-injector',
    webhookPorts: webhookPortsOf(containers),
    localName: localNameOf(pod, env, mesh),
    anchors: env.get(anchorsVariable) ?? null,
    adminPort: adminPortOf(proxy),
    restart: pod.metadata.annotations?.[trustAnnotation] ?? null,
    // An environment that refers to a ConfigMap is read from the API at each start.
    proxy: stateOf(pod, phase, 'linkerd-proxy', false),
    made: instant(at(pod.status, 'startTime')) ?? instant(pod.metadata.creationTimestamp),
    terminating: pod.metadata.deletionTimestamp !== undefined,
    stuck: stuckBy(made.kind),
  }
}

function isGateway(labels: Readonly<Record<string, string>>): boolean {
  return labels.app === 'linkerd-gateway' || labels['linkerd.io/extension'] === 'multicluster'
}

/** The environment as the kubelet expands it: `$(NAME)` of a variable that stands before it, fields of the pod included. */
function environment(container: unknown, pod: KubernetesObject): ReadonlyMap<string, string> {
  const env = new Map<string, string>()
  for (const variable of list(record(container).env)) {
    const name = text(record(variable).name)
    const value = text(record(variable).value) ?? fieldOf(pod, text(at(variable, 'valueFrom', 'fieldRef', 'fieldPath')))
    if (name !== null && value !== null) env.set(name, expanded(value, env))
  }
  return env
}

function expanded(value: string, env: ReadonlyMap<string, string>): string {
  return value.replace(/\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)/g, (whole, name: string) => env.get(name) ?? whole)
}

function fieldOf(pod: KubernetesObject, path: string | null): string | null {
  switch (path) {
    case 'metadata.namespace':
      return pod.metadata.namespace ?? ''
    case 'metadata.name':
      return pod.metadata.name
    case 'spec.serviceAccountName':
      return accountOf(pod)
    default:
      return null
  }
}

function accountOf(pod: KubernetesObject): string {
  return text(at(pod.spec, 'serviceAccountName')) ?? 'default'
}

/** A proxy serves its own leaf to nobody who asks for another name, so every variable in it has to be known. */
function localNameOf(pod: KubernetesObject, env: ReadonlyMap<string, string>, mesh: MeshNames): string {
  const written = env.get('LINKERD2_PROXY_IDENTITY_LOCAL_NAME')
  if (written !== undefined && !written.includes('$(')) return written
  const namespace = pod.metadata.namespace ?? ''
  return `${accountOf(pod)}.${namespace}.serviceaccount.identity.${mesh.namespace}.${mesh.trustDomain}`
}

function adminPortOf(proxy: unknown): number {
  const port = list(record(proxy).ports).find(candidate => record(candidate).name === 'linkerd-admin')
  const number = record(port).containerPort
  return typeof number === 'number' ? number : 4191
}

const webhookPortNames: ReadonlySet<unknown> = new Set(otherWebhooks.map(({ port }) => port))
/** Of nearly every pod: one list for all of them. */
const noPorts: LinkerdPod['webhookPorts'] = []

function webhookPortsOf(containers: readonly unknown[]): LinkerdPod['webhookPorts'] {
  const ports = containers
    .flatMap(container => list(record(container).ports).map(record))
    .flatMap(({ name, containerPort: port }) =>
      typeof name === 'string' && typeof port === 'number' && webhookPortNames.has(name) ? [{ name, port }] : [],
    )
  return ports.length === 0 ? noPorts : ports
}

/** `mounted`: it reads a mounted file at its start, which in a pod that has been there before may lag. */
function stateOf(pod: KubernetesObject, phase: string, name: string, mounted: boolean): ContainerState {
  const statuses = [...list(at(pod.status, 'containerStatuses')), ...list(at(pod.status, 'initContainerStatuses'))]
  const status = statuses.find(candidate => record(candidate).name === name)
  const restarts = record(status).restartCount
  return {
    name,
    started: instant(at(status, 'state', 'running', 'startedAt')),
    lagging: mounted && typeof restarts === 'number' && restarts > 0,
    notRunning: notRunning(phase, name, status),
  }
}

function notRunning(phase: string, name: string, status: unknown): string | null {
  if (phase !== 'Running') return `phase ${phase}`
  if (status === undefined) return `container ${name} has no status`
  const state = record(record(status).state)
  if (state.running !== undefined) return null
  const reason = text(at(state.waiting, 'reason')) ?? text(at(state.terminated, 'reason')) ?? 'not running'
  return `container ${name}: ${reason}`
}

function ownerOf(pod: KubernetesObject): { readonly owner: string; readonly kind: string } {
  const namespace = pod.metadata.namespace ?? ''
  const reference = pod.metadata.ownerReferences?.find(each => each.controller === true)
  if (reference === undefined) return { owner: `${namespace}/Pod/${pod.metadata.name}`, kind: 'Pod' }
  const hash = pod.metadata.labels?.['pod-template-hash']
  if (reference.kind === 'ReplicaSet' && hash !== undefined && reference.name.endsWith(`-${hash}`)) {
    return { owner: `${namespace}/Deployment/${reference.name.slice(0, -hash.length - 1)}`, kind: 'Deployment' }
  }
  return { owner: `${namespace}/${reference.kind}/${reference.name}`, kind: reference.kind }
}

function stuckBy(kind: string): string | null {
  switch (kind) {
    case 'Pod':
      return 'a pod without a controller: nothing makes it anew, so its owner has to'
    case 'Job':
      return 'a pod of a Job: it keeps its anchors until it is done'
    case 'ReplicaSet':
      return 'of a ReplicaSet without a Deployment: nothing rolls it, so its owner has to'
    default:
      return null
  }
}
