import { groupOf, isPlain, type ManifestObject, type Plain } from './manifests.ts'

/** A patch and its target disagree in shape, or the patch holds an unknown directive. */
export class MergeConflict extends Error {}

/**
 * Strategic merge as kustomize 5.5 does it (kyaml v0.18, yaml/merge2 and yaml/walk): maps merge, null deletes, lists
 * are replaced, except those that Kubernetes' OpenAPI marks with a merge key. Custom resources have no schema there,
 * so every list of theirs is replaced. Neither argument is changed. Null: the patch deletes the object.
 */
export function strategicMerge(object: ManifestObject, patch: Plain): Plain | null {
  const schema: Schema = { kind: isBuiltIn(object.apiVersion) ? object.kind : null, path: '' }
  const merged = mergeValue(structuredClone(object), structuredClone(patch), schema)
  return isPlain(merged) ? merged : null
}

interface Schema {
  /** Null: a custom resource. */
  readonly kind: string | null
  /** Field names from the root joined by dots, list elements left out; a pod's spec starts anew as `pod`. */
  readonly path: string
}

// The groups of kyaml's built-in schema (Kubernetes 1.21).
const builtInGroup =
  /^(|apps|batch|autoscaling|policy|extensions|(admissionregistration|apiextensions|apiregistration|certificates|coordination|discovery|events|flowcontrol\.apiserver|networking|node|rbac\.authorization|scheduling|storage)\.k8s\.io)$/

function isBuiltIn(apiVersion: string): boolean {
  return builtInGroup.test(groupOf(apiVersion))
}

const podSpecs: Readonly<Record<string, string>> = {
  Pod: 'spec',
  PodTemplate: 'template.spec',
  ReplicationController: 'spec.template.spec',
  Deployment: 'spec.template.spec',
  ReplicaSet: 'spec.template.spec',
  StatefulSet: 'spec.template.spec',
  DaemonSet: 'spec.template.spec',
  Job: 'spec.template.spec',
  CronJob: 'spec.jobTemplate.spec.template.spec',
}

// x-kubernetes-patch-merge-key and x-kubernetes-list-map-keys of kyaml's schema; '' is a set of scalars.
const podLists: Readonly<Record<string, readonly string[]>> = {
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  volumes: ['name'],
  imagePullSecrets: ['name'],
  hostAliases: ['ip'],
  topologySpreadConstraints: ['topologyKey', 'whenUnsatisfiable'],
  'containers.env': ['name'],
  'containers.ports': ['containerPort', 'protocol'],
  'containers.volumeMounts': ['mountPath'],
  'containers.volumeDevices': ['devicePath'],
  'initContainers.env': ['name'],
  'initContainers.ports': ['containerPort', 'protocol'],
  'initContainers.volumeMounts': ['mountPath'],
  'initContainers.volumeDevices': ['devicePath'],
  'ephemeralContainers.env': ['name'],
  'ephemeralContainers.volumeMounts': ['mountPath'],
  'ephemeralContainers.volumeDevices': ['devicePath'],
}

const kindLists: Readonly<Record<string, readonly string[]>> = {
  'Service:spec.ports': ['port', 'protocol'],
  'ServiceAccount:secrets': ['name'],
  'MutatingWebhookConfiguration:webhooks': ['name'],
  'ValidatingWebhookConfiguration:webhooks': ['name'],
  'CSINode:spec.drivers': ['name'],
  'Node:spec.podCIDRs': [''],
}

const metadataLists: Readonly<Record<string, readonly string[]>> = {
  finalizers: [''],
  ownerReferences: ['uid'],
}

/** Merge keys of a list, or null where it is replaced as a whole. */
function mergeKeys(schema: Schema): readonly string[] | null {
  if (schema.kind === null) return null
  if (schema.path.startsWith('metadata.')) return metadataLists[schema.path.slice('metadata.'.length)] ?? null
  if (schema.path === 'status.conditions') return ['type']
  const podSpec = podSpecs[schema.kind]
  if (podSpec !== undefined && schema.path.startsWith(`${podSpec}.`)) {
    return podLists[schema.path.slice(podSpec.length + 1)] ?? null
  }
  return kindLists[`${schema.kind}:${schema.path}`] ?? null
}

function field(schema: Schema, name: string): Schema {
  return { kind: schema.kind, path: schema.path === '' ? name : `${schema.path}.${name}` }
}

/** `undefined` stands for absent, on both sides and in the result. */
function mergeValue(target: unknown, patch: unknown, schema: Schema): unknown {
  if (patch === undefined) return target
  if (patch === null) return undefined
  if (target === undefined || target === null) return withoutDirectives(patch, schema)
  if (isPlain(target)) {
    if (!isPlain(patch)) throw conflict(schema, 'a map', patch)
    return mergeMap(target, patch, schema)
  }
  if (Array.isArray(target)) {
    if (!Array.isArray(patch)) throw conflict(schema, 'a list', patch)
    return mergeList(target, patch, schema)
  }
  if (isPlain(patch) || Array.isArray(patch)) throw conflict(schema, 'a scalar', patch)
  return patch
}

function conflict(schema: Schema, expected: string, patch: unknown): MergeConflict {
  const found = isPlain(patch) ? 'a map' : Array.isArray(patch) ? 'a list' : 'a scalar'
  return new MergeConflict(`${schema.path}: the object holds ${expected}, the patch ${found}`)
}

function mergeMap(target: Plain, patch: Plain, schema: Schema): Plain | undefined {
  switch (directiveOf(patch, schema)) {
    case 'delete':
      return undefined
    case 'replace':
      return patch
    case 'merge':
  }
  const merged: Plain = { ...target }
  for (const [key, value] of Object.entries(patch)) {
    const result = mergeValue(target[key], value, field(schema, key))
    if (result === undefined) delete merged[key]
    else setOwn(merged, key, result)
  }
  return merged
}

/** What a patch adds where nothing was: nulls and directives have nothing to act on. */
function withoutDirectives(patch: unknown, schema: Schema): unknown {
  if (isPlain(patch)) {
    if (directiveOf(patch, schema) === 'delete') return undefined
    const kept: Plain = {}
    for (const [key, value] of Object.entries(patch)) {
      if (value === null) continue
      const result = withoutDirectives(value, field(schema, key))
      if (result !== undefined) setOwn(kept, key, result)
    }
    return kept
  }
  if (Array.isArray(patch) && mergeKeys(schema) !== null) {
    if (listDirective(patch, schema) === 'delete') return undefined
    return patch.map(item => withoutDirectives(item, schema)).filter(item => item !== undefined)
  }
  return patch
}

function mergeList(target: unknown[], patch: unknown[], schema: Schema): unknown {
  const keys = mergeKeys(schema)
  if (keys === null) return patch
  switch (listDirective(patch, schema)) {
    case 'delete':
      return undefined
    case 'replace':
      return patch
    case 'merge':
  }
  // Elements of the patch come first, then what only the target has (kustomize merges with ListPrepend).
  const rest = [...target]
  const merged: unknown[] = []
  for (const item of patch) {
    const index = rest.findIndex(candidate => sameElement(candidate, item, keys))
    const known = index === -1 ? undefined : rest.splice(index, 1)[0]
    const result = mergeValue(known, item, schema)
    if (result !== undefined) merged.push(result)
  }
  return [...merged, ...rest]
}

/** A secondary key that one of the two lacks does not tell them apart: a port without protocol matches by its number. */
function sameElement(left: unknown, right: unknown, keys: readonly string[]): boolean {
  const [primary, ...secondary] = keys
  if (primary === undefined) return false
  if (primary === '') return left === right
  if (!isPlain(left) || !isPlain(right)) return false
  if (left[primary] === undefined || String(left[primary]) !== String(right[primary])) return false
  return secondary.every(key => left[key] === undefined || right[key] === undefined || left[key] === right[key])
}

type Directive = 'merge' | 'replace' | 'delete'

/** Reads `$patch` and takes it out of the patch. */
function directiveOf(patch: Plain, schema: Schema): Directive {
  const value = patch.$patch
  if (value === undefined) return 'merge'
  delete patch.$patch
  if (value === 'merge' || value === 'replace' || value === 'delete') return value
  throw new MergeConflict(`${schema.path}: unknown directive $patch: ${String(value)}`)
}

/** For a list the directive stands in an element of its own. */
function listDirective(patch: unknown[], schema: Schema): Directive {
  const index = patch.findIndex(item => isPlain(item) && '$patch' in item && Object.keys(item).length === 1)
  if (index === -1) return 'merge'
  const [element] = patch.splice(index, 1)
  return isPlain(element) ? directiveOf(element, schema) : 'merge'
}

/** Sets a field even where its name is `__proto__`. */
function setOwn(target: Plain, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
}
