import type { KubernetesObject } from '../../cluster/cluster.ts'
import { trustAnnotation } from '../../names.ts'
import type { Instant } from '../../rotation.ts'
import { containersOf } from '../../verify/containers.ts'
import { at, instant, list, record, text } from '../../verify/values.ts'

/** A pod that verifies or presents certificates of the mesh: what its specification tells. */
export interface MeshPod {
  readonly consumer: 'istiod' | 'sidecar' | 'gateway' | 'waypoint' | 'ztunnel'
  readonly namespace: string
  readonly name: string
  /** namespace/kind/name of what made it. */
  readonly owner: string
  /** Hash of the pod template it was made from; '' where it has none. */
  readonly template: string
  /** Belongs to a Job: comes and goes by itself. */
  readonly transient: boolean
  readonly started: Instant | null
  /** Why its proxy does not run, or null where it does. */
  readonly notRunning: string | null
  readonly terminating: boolean
  readonly facts: Readonly<Record<string, string>>
  /** Takes its leaf from elsewhere, by its specification; then what from. */
  readonly ownTrustSource: string | null
}

/**
 * What a pod is to the mesh, or null where it is nothing to it, or done for good. The order matters: ztunnel's container is called
 * istio-proxy too, and gateways of the Gateway API carry no injection status (istio manifests/charts, files/kube-gateway.yaml).
 */
export function meshPod(pod: KubernetesObject, istioNamespace: string): MeshPod | null {
  const phase = text(at(pod.status, 'phase')) ?? 'Unknown'
  if (phase === 'Succeeded' || phase === 'Failed') return null
  const labels = pod.metadata.labels ?? {}
  const annotations = pod.metadata.annotations ?? {}
  const { main, init } = containersOf(pod)
  // A native sidecar is an init container that always restarts (KEP-753).
  const containers = [...main, ...init.filter(({ restartPolicy }) => restartPolicy === 'Always')]
  const consumer = consumerOf(labels, annotations, containers, pod.metadata.namespace ?? '', istioNamespace)
  if (consumer === null) return null
  const containerName = consumer === 'istiod' ? 'discovery' : 'istio-proxy'
  const container = containers.find(candidate => record(candidate).name === containerName) ?? containers[0]
  const env = environment(container)
  return {
    consumer,
    namespace: pod.metadata.namespace ?? '',
    name: pod.metadata.name,
    ...ownerOf(pod, labels),
    started: instant(at(pod.status, 'startTime')) ?? instant(pod.metadata.creationTimestamp),
    notRunning: notRunning(pod, phase, text(record(container).name) ?? containerName),
    terminating: pod.metadata.deletionTimestamp !== undefined,
    facts: factsOf(consumer, env, annotations),
    ownTrustSource: consumer === 'istiod' ? null : foreignSource(pod, env),
  }
}

function consumerOf(
  labels: Readonly<Record<string, string>>,
  annotations: Readonly<Record<string, string>>,
  containers: readonly unknown[],
  namespace: string,
  istioNamespace: string,
): MeshPod['consumer'] | null {
  if (labels.app === 'ztunnel' || labels['app.kubernetes.io/name'] === 'ztunnel') return 'ztunnel'
  if (labels.app === 'istiod' && namespace === istioNamespace) return 'istiod'
  const proxy = containers.find(container => record(container).name === 'istio-proxy')
  if (proxy === undefined) return null
  const managed = labels['gateway.istio.io/managed']
  if (managed === 'istio.io-mesh-controller') return 'waypoint'
  if (managed !== undefined || labels['gateway.networking.k8s.io/gateway-name'] !== undefined) return 'gateway'
  const templates = annotations['inject.istio.io/templates'] ?? ''
  if (templates.split(',').some(template => template.trim() === 'gateway')) return 'gateway'
  return list(record(proxy).args).includes('router') ? 'gateway' : 'sidecar'
}

function environment(container: unknown): ReadonlyMap<string, string> {
  const env = new Map<string, string>()
  for (const variable of list(record(container).env)) {
    const name = text(record(variable).name)
    const value = text(record(variable).value)
    if (name !== null && value !== null) env.set(name, value)
  }
  return env
}

/** Names of environment variables that a gate asks about, and what the evidence calls them. */
const settingFacts: Readonly<Record<string, string>> = {
  ISTIO_MULTIROOT_MESH: 'multiroot',
  PROXY_CONFIG_XDS_AGENT: 'xdsAgent',
}

function factsOf(
  consumer: MeshPod['consumer'],
  env: ReadonlyMap<string, string>,
  annotations: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const facts: Record<string, string> = {}
  const asked = consumer === 'istiod' ? 'ISTIO_MULTIROOT_MESH' : 'PROXY_CONFIG_XDS_AGENT'
  const value = env.get(asked)
  if (value !== undefined) facts[settingFacts[asked] ?? asked] = value
  const token = annotations[trustAnnotation]
  if (token !== undefined) facts.restart = token
  return facts
}

/** Volumes through which leaves come from elsewhere than istiod (istio security/pkg/nodeagent/cache/secretcache.go). */
const foreignVolumes: Readonly<Record<string, string>> = {
  'workload-socket': 'a SPIFFE workload socket',
  'workload-certs': 'mounted certificates',
}

function foreignSource(pod: KubernetesObject, env: ReadonlyMap<string, string>): string | null {
  if ((env.get('CA_ADDR') ?? '').includes('istio-csr')) return `CA_ADDR ${env.get('CA_ADDR') ?? ''}`
  for (const volume of list(at(pod.spec, 'volumes'))) {
    const { name, emptyDir } = record(volume)
    const meaning = foreignVolumes[text(name) ?? '']
    // Istio's templates always declare these, as emptyDir where nothing else fills them.
    if (meaning !== undefined && emptyDir === undefined) return `${meaning} (volume ${text(name) ?? ''})`
  }
  return null
}

function notRunning(pod: KubernetesObject, phase: string, container: string): string | null {
  if (phase !== 'Running') return `phase ${phase}`
  const statuses = [...list(at(pod.status, 'containerStatuses')), ...list(at(pod.status, 'initContainerStatuses'))]
  const status = statuses.find(candidate => record(candidate).name === container)
  if (status === undefined) return `container ${container} has no status`
  const state = record(record(status).state)
  if (state.running !== undefined) return null
  const reason = text(at(state.waiting, 'reason')) ?? text(at(state.terminated, 'reason')) ?? 'not running'
  return `container ${container}: ${reason}`
}

function ownerOf(
  pod: KubernetesObject,
  labels: Readonly<Record<string, string>>,
): { readonly owner: string; readonly template: string; readonly transient: boolean } {
  const namespace = pod.metadata.namespace ?? ''
  const owners = pod.metadata.ownerReferences ?? []
  const owner = owners.find(reference => reference.controller === true) ?? owners[0]
  const hash = labels['pod-template-hash']
  const template = hash ?? labels['controller-revision-hash'] ?? ''
  if (owner === undefined) return { owner: `${namespace}/Pod/${pod.metadata.name}`, template, transient: false }
  if (owner.kind === 'ReplicaSet' && hash !== undefined && owner.name.endsWith(`-${hash}`)) {
    const name = owner.name.slice(0, -hash.length - 1)
    return { owner: `${namespace}/Deployment/${name}`, template, transient: false }
  }
  // A CronJob names its Jobs by the minute.
  const scheduled = owner.kind === 'Job' ? /^(.+)-\d{8,}$/.exec(owner.name) : null
  if (scheduled !== null) return { owner: `${namespace}/CronJob/${scheduled[1] ?? ''}`, template, transient: true }
  return { owner: `${namespace}/${owner.kind}/${owner.name}`, template, transient: owner.kind === 'Job' }
}
