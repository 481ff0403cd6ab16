import { availableParallelism, totalmem } from 'node:os'
import type { Manifest } from './objects.ts'

/** The fields of Kubernetes objects that a kubelet reads. */
export interface PodObject extends Manifest {
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly uid: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    readonly deletionTimestamp?: string
    readonly deletionGracePeriodSeconds?: number
    readonly [field: string]: unknown
  }
  readonly spec: {
    readonly nodeName?: string
    readonly serviceAccountName?: string
    readonly restartPolicy?: string
    readonly securityContext?: Identity
    readonly initContainers?: readonly ContainerSpec[]
    readonly containers: readonly ContainerSpec[]
    readonly volumes?: readonly VolumeSpec[]
    readonly [field: string]: unknown
  }
  readonly status?: {
    readonly phase?: string
    readonly conditions?: readonly { readonly type: string; readonly status: string }[]
    readonly [field: string]: unknown
  }
}

interface Identity {
  readonly runAsUser?: number
  readonly runAsGroup?: number
  /** Of a pod: the group that its volumes' files belong to. */
  readonly fsGroup?: number
}

export interface ContainerSpec {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly restartPolicy?: string
  readonly securityContext?: Identity
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[]
  readonly env?: readonly EnvironmentEntry[]
  readonly envFrom?: readonly {
    readonly prefix?: string
    readonly secretRef?: ObjectReference
    readonly configMapRef?: ObjectReference
  }[]
  readonly resources?: { readonly limits?: Resources; readonly requests?: Resources }
  readonly volumeMounts?: readonly {
    readonly name: string
    readonly mountPath: string
    readonly readOnly?: boolean
    readonly subPath?: string
    readonly subPathExpr?: string
  }[]
  readonly startupProbe?: ProbeSpec
  readonly readinessProbe?: ProbeSpec
  readonly livenessProbe?: ProbeSpec
  readonly lifecycle?: { readonly postStart?: Hook; readonly preStop?: Hook }
}

export interface Hook {
  readonly exec?: { readonly command: readonly string[] }
  readonly sleep?: { readonly seconds: number }
}

export interface ProbeSpec {
  readonly httpGet?: {
    readonly path?: string
    readonly port: number | string
    readonly scheme?: string
    readonly host?: string
    readonly httpHeaders?: readonly { readonly name: string; readonly value: string }[]
  }
  readonly tcpSocket?: { readonly port: number | string; readonly host?: string }
  readonly exec?: { readonly command: readonly string[] }
  readonly initialDelaySeconds?: number
  readonly periodSeconds?: number
  readonly timeoutSeconds?: number
  readonly failureThreshold?: number
}

type Resources = Readonly<Record<string, string | number>>

export interface FieldSelector {
  readonly fieldPath: string
}

export interface ResourceSelector {
  readonly containerName?: string
  readonly resource: string
  readonly divisor?: string | number
}

export interface ObjectReference {
  readonly name?: string
  readonly optional?: boolean
}

interface KeyReference extends ObjectReference {
  readonly key: string
}

interface EnvironmentEntry {
  readonly name: string
  readonly value?: string
  readonly valueFrom?: {
    readonly fieldRef?: FieldSelector
    readonly resourceFieldRef?: ResourceSelector
    readonly secretKeyRef?: KeyReference
    readonly configMapKeyRef?: KeyReference
  }
}

export interface FileItem {
  readonly key: string
  readonly path: string
  readonly mode?: number
}

interface DownwardItem {
  readonly path: string
  readonly mode?: number
  readonly fieldRef?: FieldSelector
  readonly resourceFieldRef?: ResourceSelector
}

export interface Projected extends ObjectReference {
  readonly items?: readonly FileItem[]
}

export interface VolumeSource {
  readonly secret?: Projected & { readonly secretName?: string; readonly defaultMode?: number }
  readonly configMap?: Projected & { readonly defaultMode?: number }
  readonly downwardAPI?: { readonly items?: readonly DownwardItem[]; readonly defaultMode?: number }
  readonly serviceAccountToken?: {
    readonly audience?: string
    readonly expirationSeconds?: number
    readonly path: string
  }
}

export interface VolumeSpec extends VolumeSource {
  readonly name: string
  readonly emptyDir?: object
  /** A folder of the node, which outlives its pods; made where it is missing. */
  readonly hostPath?: { readonly path: string }
  readonly projected?: { readonly sources: readonly VolumeSource[]; readonly defaultMode?: number }
}

export interface DataObject extends Manifest {
  readonly data?: Readonly<Record<string, string>>
  readonly binaryData?: Readonly<Record<string, string>>
}

/** What a pod names, as the node knows it. */
export interface KnownObjects {
  secret(namespace: string, name: string): DataObject | undefined
  configMap(namespace: string, name: string): DataObject | undefined
}

/** The bytes under an object's keys. */
export function contentsOf(kind: 'Secret' | 'ConfigMap', object: DataObject): ReadonlyMap<string, Buffer> {
  const contents = new Map<string, Buffer>()
  const encoding = kind === 'Secret' ? 'base64' : 'utf8'
  for (const [key, text] of Object.entries(object.data ?? {})) contents.set(key, Buffer.from(text, encoding))
  for (const [key, text] of Object.entries(object.binaryData ?? {})) contents.set(key, Buffer.from(text, 'base64'))
  return contents
}

/** A value of the pod itself (the downward API). Throws for a path that pods do not have. */
export function fieldOf(pod: PodObject, address: string, { fieldPath }: FieldSelector): string {
  const { metadata, spec } = pod
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(fieldPath)
  if (keyed !== null) return metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2] ?? ''] ?? ''
  const all = (map: Readonly<Record<string, string>> = {}): string =>
    Object.entries(map)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
      .join('\n')
  const fields: Readonly<Record<string, string>> = {
    'metadata.name': metadata.name,
    'metadata.namespace': metadata.namespace,
    'metadata.uid': metadata.uid,
    'metadata.labels': all(metadata.labels),
    'metadata.annotations': all(metadata.annotations),
    'spec.nodeName': spec.nodeName ?? '',
    'spec.serviceAccountName': spec.serviceAccountName ?? '',
    'status.podIP': address,
    'status.podIPs': address,
    'status.hostIP': nodeAddress,
    'status.hostIPs': nodeAddress,
  }
  const value = fields[fieldPath]
  if (value === undefined) throw new Error(`no field ${fieldPath}`)
  return value
}

/** The API server dials kwok here for port-forwards. */
export const nodeAddress = '127.0.0.1'

/** A container's limit or request; where it has none, what this machine has, for programs size themselves by it. */
export function resourceOf(pod: PodObject, own: ContainerSpec | undefined, selector: ResourceSelector): string {
  const named = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(
    ({ name }) => name === selector.containerName,
  )
  const container = named ?? own
  const [kind, resource = ''] = selector.resource.split('.')
  const given = container?.resources?.[kind as 'limits' | 'requests']?.[resource]
  const machine: Readonly<Record<string, number>> = { cpu: availableParallelism(), memory: totalmem() }
  const amount = given === undefined ? (machine[resource] ?? 0) : quantity(given)
  const divisor = quantity(selector.divisor ?? '1') || 1
  return String(Math.ceil(amount / divisor))
}

const suffixes: Readonly<Record<string, number>> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
}

function quantity(text: string | number): number {
  const parts = /^([\d.]+)(\D*)$/.exec(String(text))
  if (parts === null) throw new Error(`no quantity: ${text}`)
  return Number(parts[1]) * (suffixes[parts[2] ?? ''] ?? 1)
}

/** A container's environment as the kubelet makes it. Throws where an object that is not optional is missing. */
export function environmentOf(
  pod: PodObject,
  container: ContainerSpec,
  address: string,
  known: KnownObjects,
  base: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const { namespace } = pod.metadata
  const environment: Record<string, string> = { ...base }
  const find = (kind: 'Secret' | 'ConfigMap', reference: ObjectReference): ReadonlyMap<string, Buffer> | null => {
    const name = reference.name ?? ''
    const object = kind === 'Secret' ? known.secret(namespace, name) : known.configMap(namespace, name)
    if (object !== undefined) return contentsOf(kind, object)
    if (reference.optional === true) return null
    throw new Error(`${kind.toLowerCase()} "${name}" not found`)
  }
  for (const { prefix = '', secretRef, configMapRef } of container.envFrom ?? []) {
    const contents =
      secretRef === undefined ? configMapRef && find('ConfigMap', configMapRef) : find('Secret', secretRef)
    for (const [key, bytes] of contents ?? []) environment[`${prefix}${key}`] = bytes.toString('utf8')
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    if (valueFrom === undefined) {
      environment[name] = expand(value ?? '', environment)
      continue
    }
    if (valueFrom.fieldRef !== undefined) environment[name] = fieldOf(pod, address, valueFrom.fieldRef)
    if (valueFrom.resourceFieldRef !== undefined) {
      environment[name] = resourceOf(pod, container, valueFrom.resourceFieldRef)
    }
    const reference = valueFrom.secretKeyRef ?? valueFrom.configMapKeyRef
    if (reference === undefined) continue
    const bytes = find(valueFrom.secretKeyRef === undefined ? 'ConfigMap' : 'Secret', reference)?.get(reference.key)
    if (bytes !== undefined) environment[name] = bytes.toString('utf8')
    else if (reference.optional !== true) throw new Error(`couldn't find key ${reference.key} in ${reference.name}`)
  }
  return environment
}

/** `$(NAME)` where the environment has it, `$$` for a dollar; anything else stays as it is. */
export function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^)]+)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (environment[name] ?? whole),
  )
}
