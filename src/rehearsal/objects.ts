import { isDeepStrictEqual } from 'node:util'
import type { KubernetesObject, ResourceType } from '../cluster/cluster.ts'
import type { VirtualClock } from './clock.ts'

export type Fields = Record<string, unknown>

export interface ManagedFields {
  manager: string
  operation: 'Apply' | 'Update'
  apiVersion: string
  time: string
  fieldsType: 'FieldsV1'
  fieldsV1: Fields
  subresource?: string
}

export interface ObjectMetadata {
  name: string
  namespace?: string
  uid: string
  resourceVersion: string
  generation: number
  creationTimestamp: string
  deletionTimestamp?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: {
    apiVersion: string
    kind: string
    name: string
    uid: string
    controller: boolean
    blockOwnerDeletion?: boolean
  }[]
  managedFields: ManagedFields[]
  generateName?: string
}

/** An object as it lies in the store. */
export interface StoredObject {
  apiVersion: string
  kind: string
  metadata: ObjectMetadata
  [field: string]: unknown
}

/** What somebody wants an object to be: all of StoredObject but what the API server adds. */
export interface Manifest {
  apiVersion: string
  kind: string
  metadata: {
    name: string
    namespace?: string
    labels?: Record<string, string>
    annotations?: Record<string, string>
    ownerReferences?: ObjectMetadata['ownerReferences']
    generateName?: string
  }
  [field: string]: unknown
}

export interface ObjectChange {
  readonly what: 'created' | 'changed' | 'status' | 'deleted'
  readonly object: StoredObject
  readonly before: StoredObject | null
}

interface KindEntry {
  readonly group: string
  readonly kind: string
  readonly plural: string
  readonly namespaced: boolean
}

const kinds: readonly KindEntry[] = [
  ...core('Pod Secret ConfigMap Service ServiceAccount PersistentVolumeClaim Endpoints Event', true),
  ...core('Namespace Node', false),
  ...group('apps', 'Deployment StatefulSet DaemonSet ReplicaSet', true),
  ...group('batch', 'Job CronJob', true),
  ...group('policy', 'PodDisruptionBudget', true),
  ...group('autoscaling', 'HorizontalPodAutoscaler', true),
  ...group('rbac.authorization.k8s.io', 'Role RoleBinding', true),
  ...group('rbac.authorization.k8s.io', 'ClusterRole ClusterRoleBinding', false),
  ...group('admissionregistration.k8s.io', 'MutatingWebhookConfiguration ValidatingWebhookConfiguration', false),
  ...group('source.toolkit.fluxcd.io', 'HelmRepository HelmChart OCIRepository', true),
  { group: 'source.toolkit.fluxcd.io', kind: 'GitRepository', plural: 'gitrepositories', namespaced: true },
  ...group('kustomize.toolkit.fluxcd.io', 'Kustomization', true),
  ...group('helm.toolkit.fluxcd.io', 'HelmRelease', true),
  ...group('workload.linkerd.io', 'ExternalWorkload', true),
  ...group('db.ibm.com', 'CassandraCluster', true),
  ...group('applicationconnector.kyma-project.io', 'CertificateRequest CentralConnection', false),
  ...group('compass.kyma-project.io', 'CompassConnection', false),
  ...group('sailoperator.io', 'Istio IstioRevision IstioRevisionTag IstioCNI ZTunnel', false),
  ...group('bitnami.com', 'SealedSecret', true),
  ...group('external-secrets.io', 'ExternalSecret', true),
  ...group('cert-manager.io', 'Certificate CertificateRequest Issuer', true),
  ...group('cert-manager.io', 'ClusterIssuer', false),
  ...group('argoproj.io', 'Application AppProject', true),
  ...group('gateway.networking.k8s.io', 'Gateway HTTPRoute', true),
  { group: 'gateway.networking.k8s.io', kind: 'GatewayClass', plural: 'gatewayclasses', namespaced: false },
  ...group('security.istio.io', 'PeerAuthentication AuthorizationPolicy', true),
  ...group('networking.istio.io', 'VirtualService DestinationRule Gateway Sidecar WorkloadEntry', true),
  {
    group: 'apiextensions.k8s.io',
    kind: 'CustomResourceDefinition',
    plural: 'customresourcedefinitions',
    namespaced: false,
  },
]

/** Kinds whose definition has no status subresource: each write of their status raises the generation. */
const plainStatus: ReadonlySet<string> = new Set(['Application'])

function core(names: string, namespaced: boolean): KindEntry[] {
  return group('', names, namespaced)
}

function group(name: string, names: string, namespaced: boolean): KindEntry[] {
  return names.split(' ').map(kind => ({ group: name, kind, plural: pluralOf(kind), namespaced }))
}

function pluralOf(kind: string): string {
  const lower = kind.toLowerCase()
  if (lower === 'endpoints') return lower
  if (/[^aeiou]y$/.test(lower)) return `${lower.slice(0, -1)}ies`
  return lower.endsWith('s') ? `${lower}es` : `${lower}s`
}

export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/')
  return slash < 0 ? '' : apiVersion.slice(0, slash)
}

/** The kind that a resource type means, or null where this cluster has no such type. */
export function kindOf(type: ResourceType): string | null {
  return kinds.find(entry => entry.group === type.group && entry.plural === type.plural)?.kind ?? null
}

export function isNamespaced(apiVersion: string, kind: string): boolean {
  return kinds.find(entry => entry.group === groupOf(apiVersion) && entry.kind === kind)?.namespaced ?? true
}

export function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value at a path of keys, or undefined. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let current: unknown = value
  for (const key of path) {
    if (typeof key === 'number') current = Array.isArray(current) ? current[key] : undefined
    else current = isRecord(current) ? current[key] : undefined
  }
  return current
}

export function textAt(value: unknown, ...path: readonly (string | number)[]): string | undefined {
  const found = at(value, ...path)
  return typeof found === 'string' ? found : undefined
}

export function numberAt(value: unknown, ...path: readonly (string | number)[]): number | undefined {
  const found = at(value, ...path)
  return typeof found === 'number' ? found : undefined
}

export function recordAt(value: unknown, ...path: readonly (string | number)[]): Fields {
  const found = at(value, ...path)
  return isRecord(found) ? found : {}
}

export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

export function textsAt(value: unknown, ...path: readonly (string | number)[]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(recordAt(value, ...path)).flatMap(([key, entry]) => (entry == null ? [] : [[key, String(entry)]])),
  )
}

/**
 * The API server's store: objects, their versions, generations and field managers.
 *
 * A write that changes nothing leaves version and times as they are, as the real API server does: a verifier reads from
 * these times when something changed last.
 */
export class ObjectStore {
  readonly clock: VirtualClock
  readonly #objects = new Map<string, StoredObject>()
  readonly #listeners: ((change: ObjectChange) => void)[] = []
  readonly #uid: () => string
  #version = 1000

  constructor(clock: VirtualClock, uid: () => string) {
    this.clock = clock
    this.#uid = uid
  }

  onChange(listener: (change: ObjectChange) => void): void {
    this.#listeners.push(listener)
  }

  get(group: string, kind: string, namespace: string | null, name: string): StoredObject | null {
    return this.#objects.get(keyOf(group, kind, namespace, name)) ?? null
  }

  list(group: string, kind: string, namespace?: string): StoredObject[] {
    const prefix = namespace === undefined ? `${group}/${kind}/` : `${group}/${kind}/${namespace}/`
    const found = [...this.#objects].filter(([key]) => key.startsWith(prefix))
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object)
  }

  /** Every object, as a watch cache holds them. */
  everything(): readonly StoredObject[] {
    return [...this.#objects.values()]
  }

  #liveOf({ apiVersion, kind, metadata }: Manifest): StoredObject | null {
    return this.get(groupOf(apiVersion), kind, metadata.namespace ?? null, metadata.name)
  }

  /** Server-side apply with force, as kustomize-controller does it: what this manager owned and no longer names goes away. */
  apply(manifest: Manifest, manager: string, options: { readonly takeOver?: RegExp } = {}): StoredObject {
    const wanted = normalise(manifest)
    const live = this.#liveOf(wanted)
    if (live === null) return this.#create(wanted, manager, 'Apply', fieldsOf(wanted))
    return this.#write(live, this.#applied(live, wanted, manager, options.takeOver), manager)
  }

  /**
   * Whether an apply would change content, labels or annotations, or take something over: the dry run by which kustomize-controller decides
   * whether to write at all (fluxcd/pkg ssa, manager_apply.go). Who owns a field is no difference.
   */
  drifted(manifest: Manifest, manager: string, takeOver: RegExp): boolean {
    const wanted = normalise(manifest)
    const live = this.#liveOf(wanted)
    if (live === null) return true
    if (live.metadata.managedFields.some(entry => entry.subresource === undefined && takeOver.test(entry.manager)))
      return true
    return !isDeepStrictEqual(contentOf(this.#applied(live, wanted, manager)), contentOf(live))
  }

  #applied(live: StoredObject, wanted: Manifest, manager: string, takeOver?: RegExp): StoredObject {
    const fields = fieldsOf(wanted)
    const next = structuredClone(live)
    const others = next.metadata.managedFields.filter(
      entry => !(entry.manager === manager && entry.operation === 'Apply') && !(takeOver?.test(entry.manager) ?? false),
    )
    const mine = next.metadata.managedFields.filter(entry => !others.includes(entry))
    // Nobody owned anything: the API server writes down what was there before it applies.
    if (next.metadata.managedFields.every(entry => entry.subresource !== undefined))
      others.push(this.#entry(live.apiVersion, 'before-first-apply', 'Update', fieldsOf(live)))
    const kept = new Set([...leafPaths(fields), ...others.flatMap(entry => leafPaths(entry.fieldsV1))])
    for (const path of mine.flatMap(entry => leafPaths(entry.fieldsV1))) if (!kept.has(path)) removePath(next, path)
    mergeInto(next, wanted)
    const before = mine.find(entry => entry.manager === manager && entry.operation === 'Apply')
    // A manager's time moves where it changes a value of its own too (apimachinery managedfields, managedfieldsupdater.go).
    const same =
      before !== undefined &&
      mine.length === 1 &&
      isDeepStrictEqual(before.fieldsV1, fields) &&
      isDeepStrictEqual(contentOf(next), contentOf(live))
    next.metadata.managedFields = [...others, same ? before : this.#entry(wanted.apiVersion, manager, 'Apply', fields)]
    return next
  }

  /** A plain update, as controllers and kubectl make it. */
  put(manifest: Manifest, manager: string): StoredObject {
    const wanted = normalise(manifest)
    const live = this.#liveOf(wanted)
    const fields = fieldsOf(wanted)
    if (live === null) return this.#create(wanted, manager, 'Update', fields)
    const next = structuredClone(live)
    for (const key of Object.keys(next)) {
      if (key !== 'metadata' && key !== 'status' && !(key in wanted)) delete next[key]
    }
    for (const [key, value] of Object.entries(wanted)) if (key !== 'metadata') next[key] = structuredClone(value)
    mergeInto(next, { metadata: wanted.metadata } as unknown as Manifest)
    const changed = fieldsOf(next, live)
    if (Object.keys(changed).length > 0) this.#own(next, manager, changed)
    this.#disown(next)
    return this.#write(live, next, manager)
  }

  /** Changes one object in place; null where it does not exist. */
  update(object: StoredObject, manager: string, change: (next: StoredObject) => void): StoredObject | null {
    const live = this.get(
      groupOf(object.apiVersion),
      object.kind,
      object.metadata.namespace ?? null,
      object.metadata.name,
    )
    if (live === null) return null
    const next = structuredClone(live)
    change(next)
    const changed = fieldsOf(next, live)
    if (Object.keys(changed).length > 0) this.#own(next, manager, changed)
    return this.#write(live, next, manager)
  }

  /** Forgets who owns what, as `kubectl patch` with an empty entry of managedFields does it. */
  clearManagers(object: StoredObject): void {
    const live = this.#liveOf(object)
    if (live === null) return
    const next = structuredClone(live)
    next.metadata.managedFields = []
    this.#write(live, next, '')
  }

  setStatus(object: StoredObject, manager: string, status: Fields): void {
    const live = this.get(
      groupOf(object.apiVersion),
      object.kind,
      object.metadata.namespace ?? null,
      object.metadata.name,
    )
    if (live === null || isDeepStrictEqual(live.status, status)) return
    const next = structuredClone(live)
    next.status = structuredClone(status)
    const fields = { 'f:status': Object.fromEntries(Object.keys(status).map(key => [`f:${key}`, {}])) }
    if (plainStatus.has(live.kind)) {
      this.#own(next, manager, fields)
      next.metadata.generation += 1
      next.metadata.resourceVersion = String(++this.#version)
      this.#objects.set(keyOfObject(next), next)
      this.#tell({ what: 'status', object: next, before: live })
      return
    }
    next.metadata.managedFields = next.metadata.managedFields.filter(
      entry => entry.subresource !== 'status' || entry.manager !== manager,
    )
    next.metadata.managedFields.push({
      ...this.#entry(live.apiVersion, manager, 'Update', fields),
      subresource: 'status',
    })
    next.metadata.resourceVersion = String(++this.#version)
    this.#objects.set(keyOfObject(next), next)
    this.#tell({ what: 'status', object: next, before: live })
  }

  delete(object: StoredObject): void {
    const key = keyOfObject(object)
    const live = this.#objects.get(key)
    if (live === undefined) return
    this.#objects.delete(key)
    this.#version += 1
    this.#tell({ what: 'deleted', object: live, before: live })
  }

  #create(wanted: Manifest, manager: string, operation: 'Apply' | 'Update', fields: Fields): StoredObject {
    const created: StoredObject = {
      ...structuredClone(wanted),
      metadata: {
        ...structuredClone(wanted.metadata),
        uid: this.#uid(),
        resourceVersion: String(++this.#version),
        generation: 1,
        creationTimestamp: this.clock.instant(),
        managedFields: [this.#entry(wanted.apiVersion, manager, operation, fields)],
      } as ObjectMetadata,
    }
    this.#objects.set(keyOfObject(created), created)
    this.#tell({ what: 'created', object: created, before: null })
    return created
  }

  #write(live: StoredObject, next: StoredObject, _manager: string): StoredObject {
    if (isDeepStrictEqual(live, next)) return live
    next.metadata.resourceVersion = String(++this.#version)
    if (specChanged(live, next)) next.metadata.generation = live.metadata.generation + 1
    this.#objects.set(keyOfObject(next), next)
    this.#tell({ what: 'changed', object: next, before: live })
    return next
  }

  /** Nobody owns a key of `data` that is gone: an update takes it from all managers (structured-merge-diff merge/update.go, Update). */
  #disown(next: StoredObject): void {
    const { data } = next
    for (const entry of next.metadata.managedFields) {
      const gone = leafPaths(entry.fieldsV1).filter(path => {
        const [field, key] = path.split(separator)
        return field === 'data' && key !== undefined && !(isRecord(data) && Object.hasOwn(data, key))
      })
      if (gone.length > 0) entry.fieldsV1 = without(entry.fieldsV1, new Set(gone))
    }
    next.metadata.managedFields = next.metadata.managedFields.filter(entry => Object.keys(entry.fieldsV1).length > 0)
  }

  #own(next: StoredObject, manager: string, changed: Fields): void {
    const paths = new Set(leafPaths(changed))
    for (const entry of next.metadata.managedFields) {
      if (entry.subresource !== undefined) continue
      if (entry.manager === manager && entry.operation === 'Update') continue
      entry.fieldsV1 = without(entry.fieldsV1, paths)
    }
    const mine = next.metadata.managedFields.find(
      entry => entry.manager === manager && entry.operation === 'Update' && entry.subresource === undefined,
    )
    if (mine === undefined) next.metadata.managedFields.push(this.#entry(next.apiVersion, manager, 'Update', changed))
    else {
      mine.fieldsV1 = union(mine.fieldsV1, changed)
      mine.time = this.clock.instant()
    }
    next.metadata.managedFields = next.metadata.managedFields.filter(entry => Object.keys(entry.fieldsV1).length > 0)
  }

  #entry(apiVersion: string, manager: string, operation: 'Apply' | 'Update', fieldsV1: Fields): ManagedFields {
    return { manager, operation, apiVersion, time: this.clock.instant(), fieldsType: 'FieldsV1', fieldsV1 }
  }

  #tell(change: ObjectChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}

function keyOf(group: string, kind: string, namespace: string | null, name: string): string {
  return `${group}/${kind}/${namespace ?? ''}/${name}`
}

function keyOfObject(object: StoredObject | Manifest): string {
  return keyOf(groupOf(object.apiVersion), object.kind, object.metadata.namespace ?? null, object.metadata.name)
}

/** What a dry run is compared by. */
function contentOf(object: StoredObject): Fields {
  const { labels = {}, annotations = {} } = object.metadata
  return { ...object, metadata: { labels, annotations }, status: null }
}

function specChanged(before: StoredObject, after: StoredObject): boolean {
  const rest = (object: StoredObject) => ({ ...object, metadata: null, status: null })
  return !isDeepStrictEqual(rest(before), rest(after))
}

/** stringData becomes data on the way in, as in the real API server; cluster-scoped objects lose their namespace. */
function normalise(manifest: Manifest): Manifest {
  const next = structuredClone(manifest)
  delete next.status
  if (next.kind === 'Secret' && isRecord(next.stringData)) {
    const data = recordAt(next, 'data')
    for (const [key, value] of Object.entries(next.stringData))
      data[key] = Buffer.from(String(value)).toString('base64')
    next.data = data
    delete next.stringData
  }
  if (!isNamespaced(next.apiVersion, next.kind)) delete next.metadata.namespace
  else next.metadata.namespace ??= 'default'
  return next
}

/** FieldsV1 of a manifest; with `before`, only of what differs. Lists count as one field. */
function fieldsOf(manifest: Manifest | StoredObject, before?: StoredObject): Fields {
  const fields: Fields = {}
  for (const [key, value] of Object.entries(manifest)) {
    if (key === 'apiVersion' || key === 'kind' || key === 'status') continue
    if (key === 'metadata') {
      const metadata: Fields = {}
      for (const part of ['labels', 'annotations'] as const) {
        const own = fieldsOfValue(manifest.metadata[part], before?.metadata[part])
        if (own !== null && Object.keys(own).length > 0) metadata[`f:${part}`] = own
      }
      if (Object.keys(metadata).length > 0) fields['f:metadata'] = metadata
      continue
    }
    const own = fieldsOfValue(value, before === undefined ? undefined : before[key])
    if (own !== null) fields[`f:${key}`] = own
  }
  return fields
}

function fieldsOfValue(value: unknown, before: unknown): Fields | null {
  if (value === undefined || (before !== undefined && isDeepStrictEqual(value, before))) return null
  if (!isRecord(value) || Object.keys(value).length === 0) return {}
  const fields: Fields = {}
  for (const [key, entry] of Object.entries(value)) {
    const own = fieldsOfValue(entry, isRecord(before) ? before[key] : undefined)
    if (own !== null) fields[`f:${key}`] = own
  }
  return fields
}

const separator = '\u0000'

function leafPaths(fields: Fields, prefix = ''): string[] {
  return Object.entries(fields).flatMap(([key, value]) => {
    const path = prefix === '' ? key.slice(2) : `${prefix}${separator}${key.slice(2)}`
    return isRecord(value) && Object.keys(value).length > 0 ? leafPaths(value, path) : [path]
  })
}

function without(fields: Fields, paths: ReadonlySet<string>, prefix = ''): Fields {
  const kept: Fields = {}
  for (const [key, value] of Object.entries(fields)) {
    const path = prefix === '' ? key.slice(2) : `${prefix}${separator}${key.slice(2)}`
    if (isRecord(value) && Object.keys(value).length > 0) {
      const inner = without(value, paths, path)
      if (Object.keys(inner).length > 0) kept[key] = inner
    } else if (!paths.has(path)) kept[key] = value
  }
  return kept
}

function union(a: Fields, b: Fields): Fields {
  const merged: Fields = { ...a }
  for (const [key, value] of Object.entries(b)) {
    const own = merged[key]
    merged[key] = isRecord(own) && isRecord(value) ? union(own, value) : value
  }
  return merged
}

function removePath(object: StoredObject, path: string): void {
  const keys = path.split(separator)
  const parents: [Fields, string][] = []
  let current: unknown = object
  for (const key of keys) {
    if (!isRecord(current)) return
    parents.push([current, key])
    current = current[key]
  }
  const [parent, last] = parents.pop()!
  delete parent[last]
  // A map that only held what was removed goes with it, as the API server prunes emptied owners.
  for (const [above, key] of parents.reverse()) {
    const value = above[key]
    if (above === (object as Fields) || !isRecord(value) || Object.keys(value).length > 0) return
    delete above[key]
  }
}

function mergeInto(target: Fields | StoredObject, source: Fields | Manifest): void {
  const into = target as Fields
  for (const [key, value] of Object.entries(source)) {
    const own = into[key]
    if (isRecord(own) && isRecord(value)) mergeInto(own, value)
    else into[key] = structuredClone(value)
  }
}

/** The object as a reader gets it. */
export function asRead(object: StoredObject): KubernetesObject {
  return structuredClone(object) as KubernetesObject
}
