import type { KubernetesObject } from '../../cluster/cluster.ts'
import type { Instant } from '../../rotation.ts'
import { at, instant, list, record, text } from '../../verify/values.ts'
import { anchorsVariable } from './manifests.ts'

export const trustAnnotation = 'reanchor.dev/trust'
export const rotationAnnotation = 'reanchor.dev/rotation'

/** Label of every pod with a proxy: a namespace's annotation would miss extensions, which are injected by their templates. */
export const meshLabel = 'linkerd.io/control-plane-ns'

/** A pod with a proxy: what its specification tells. */
export interface LinkerdPod {
  readonly consumer: 'control-plane' | 'proxy' | 'gateway'
  readonly namespace: string
  readonly name: string
  /** namespace/kind/name of what made it. */
  readonly owner: string
  /** Identity itself, beside its proxy. */
  readonly identity: boolean
  /** Name of the proxy in its certificate: `<sa>.<ns>.serviceaccount.identity.<control plane>.<trust domain>`. */
  readonly localName: string
  /** Anchors that its environment holds as a literal; null: they come from a ConfigMap, and are nowhere in the pod. */
  readonly anchors: string | null
  /** Port named linkerd-admin. */
  readonly adminPort: number
  readonly restart: string | null
  readonly started: Instant | null
  /** Why its proxy does not run, or null where it does. */
  readonly notRunning: string | null
  readonly terminating: boolean
  /** Why no change of a template re-creates it; null: its controller does. */
  readonly stuck: string | null
}

/**
 * A meshed pod, or null where it has no proxy, or is done for good: a Succeeded pod keeps its old anchors for ever, and talks to nobody
 * (trap: `linkerd check` counts it). A native sidecar stands among the init containers.
 */
export function linkerdPod(pod: KubernetesObject, namespace: string): LinkerdPod | null {
  const phase = text(at(pod.status, 'phase')) ?? 'Unknown'
  if (phase === 'Succeeded' || phase === 'Failed') return null
  const labels = pod.metadata.labels ?? {}
  if (labels[meshLabel] !== namespace) return null
  const containers = [...list(at(pod.spec, 'containers')), ...list(at(pod.spec, 'initContainers'))]
  const proxy = containers.find(container => record(container).name === 'linkerd-proxy')
  if (proxy === undefined) return null
  const own = pod.metadata.namespace ?? ''
  const component = labels['linkerd.io/control-plane-component']
  const env = environment(proxy)
  const made = ownerOf(pod)
  return {
    consumer: own === namespace && component !== undefined ? 'control-plane' : isGateway(labels) ? 'gateway' : 'proxy',
    namespace: own,
    name: pod.metadata.name,
    owner: made.owner,
    identity: own === namespace && component === 'identity',
    localName: localNameOf(pod, env, namespace),
    anchors: env.get(anchorsVariable) ?? null,
    adminPort: adminPortOf(proxy),
    restart: pod.metadata.annotations?.[trustAnnotation] ?? null,
    started: instant(at(pod.status, 'startTime')) ?? instant(pod.metadata.creationTimestamp),
    notRunning: notRunning(pod, phase),
    terminating: pod.metadata.deletionTimestamp !== undefined,
    stuck: stuckBy(made.kind),
  }
}

function isGateway(labels: Readonly<Record<string, string>>): boolean {
  return labels.app === 'linkerd-gateway' || labels['linkerd.io/extension'] === 'multicluster'
}

/** The environment as the kubelet expands it: `$(NAME)` of a variable that stands before. */
function environment(container: unknown): ReadonlyMap<string, string> {
  const env = new Map<string, string>()
  for (const variable of list(record(container).env)) {
    const name = text(record(variable).name)
    const value = text(record(variable).value)
    if (name !== null && value !== null) env.set(name, value)
  }
  return env
}

function localNameOf(pod: KubernetesObject, env: ReadonlyMap<string, string>, controlPlane: string): string {
  const account = text(at(pod.spec, 'serviceAccountName')) ?? 'default'
  const namespace = pod.metadata.namespace ?? ''
  const written = env.get('LINKERD2_PROXY_IDENTITY_LOCAL_NAME')
  if (written === undefined) return `${account}.${namespace}.serviceaccount.identity.${controlPlane}.cluster.local`
  return written.replaceAll('$(_pod_sa)', account).replaceAll('$(_pod_ns)', namespace)
}

function adminPortOf(proxy: unknown): number {
  const port = list(record(proxy).ports).find(candidate => record(candidate).name === 'linkerd-admin')
  const number = record(port).containerPort
  return typeof number === 'number' ? number : 4191
}

function notRunning(pod: KubernetesObject, phase: string): string | null {
  if (phase !== 'Running') return `phase ${phase}`
  const statuses = [...list(at(pod.status, 'containerStatuses')), ...list(at(pod.status, 'initContainerStatuses'))]
  const status = statuses.find(candidate => record(candidate).name === 'linkerd-proxy')
  if (status === undefined) return 'container linkerd-proxy has no status'
  const state = record(record(status).state)
  if (state.running !== undefined) return null
  const reason = text(at(state.waiting, 'reason')) ?? text(at(state.terminated, 'reason')) ?? 'not running'
  return `container linkerd-proxy: ${reason}`
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
