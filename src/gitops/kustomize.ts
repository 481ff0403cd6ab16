import { createHash } from 'node:crypto'
import { parse as parseYaml } from 'yaml'
import { ReanchorError } from '../errors.ts'
import type { FileTree } from '../rotation.ts'
import { applyJsonPatch, isJsonPatch, JsonPatchConflict } from './json-patch.ts'
import {
  commonAnnotationFields,
  commonLabelFields,
  type FieldSpec,
  isClusterScoped,
  referencedKinds,
  referenceFields,
  replicaFields,
  templateLabelFields,
  visitField,
} from './kustomize-fields.ts'
import {
  type DirectoryMode,
  type KustomizationOverlay,
  loadTarget,
  problem,
  problemsOf,
  type ReadFile,
  readFiles,
  type Target,
} from './kustomize-load.ts'
import {
  isManifest,
  isPlain,
  listAt,
  type ManifestObject,
  objectText,
  type ParsedFile,
  type Plain,
  parsedFile,
  parseYamlFile,
  stringsAt,
  textAt,
} from './manifests.ts'
import { inRepository } from './paths.ts'
import { SelectorError, targetMatcher } from './selector.ts'
import { MergeConflict, strategicMerge } from './strategic-merge.ts'

export interface BuiltObject {
  readonly object: ManifestObject
  /** The file that the object came from; of a generator, its kustomization file. */
  readonly file: string
  /** 0-based document in that file; -1 for a generated object. */
  readonly document: number
}

export interface BuildResult {
  readonly objects: readonly BuiltObject[]
  /** Fields and references that were seen but have no effect here: `<file>: <what>`. The real result may differ by them. */
  readonly unsupported: readonly string[]
  /** Every file that was read, once per way that leads to it. */
  readonly read: readonly ReadFile[]
}

export interface BuildOptions extends KustomizationOverlay {
  /** What a folder without a kustomization file means; `refuse` by default, as `kustomize build` does. */
  readonly directory?: DirectoryMode
  /** The tree holds YAML and JSON only: a generator's other inputs that are missing are empty and noted, not refused. */
  readonly yamlOnly?: boolean
}

/**
 * What `kustomize build` of a folder yields, or what Flux or Argo CD make of it (see the options). Pure: reads the tree
 * only. Throws a located `ReanchorError` where kustomize would fail. The order of objects is that of the files.
 */
export function buildKustomization(files: FileTree, folder: string, options: BuildOptions = {}): BuildResult {
  const { directory, yamlOnly, ...overlay } = options
  const target = loadTarget(files, folder, overlay, directory ?? 'refuse')
  return buildTarget(files, target, { ...overlay, yamlOnly: yamlOnly === true })
}

/** As `buildKustomization`, of a target that is loaded already. */
export function buildTarget(
  files: FileTree,
  target: Target,
  options: Omit<BuildOptions, 'directory'> = {},
): BuildResult {
  const failed = problemsOf(target)[0]
  if (failed !== undefined) throw failed
  const build: Build = { files, unsupported: [], yamlOnly: options.yamlOnly === true }
  const resources = accumulate(build, target, [])
  addHashes(resources)
  fixReferences(resources)
  const kept = resources.filter(
    resource => resource.object.metadata.annotations?.['config.kubernetes.io/local-config'] === undefined,
  )
  for (const resource of kept) {
    // Flux sets commonMetadata on what was built, in metadata only.
    setAll(resource.object, [{ path: 'metadata/labels', create: true }], options.commonLabels)
    setAll(resource.object, [{ path: 'metadata/annotations', create: true }], options.commonAnnotations)
  }
  return {
    objects: kept.map(({ object, file, document }) => ({ object, file, document })),
    unsupported: [...new Set(build.unsupported)],
    read: readFiles(target),
  }
}

interface Build {
  readonly files: FileTree
  readonly unsupported: string[]
  readonly yamlOnly: boolean
}

interface Resource {
  object: ManifestObject
  readonly file: string
  readonly document: number
  /** Name and effective namespace before each change, the oldest first. */
  readonly former: { name: string; namespace: string }[]
  /** The name takes a suffix made of the content. */
  hashed: boolean
  /** Prefixes and suffixes given so far: references stay among objects that share them. */
  affixes: string
}

// Order and meaning follow kustomize api v0.18, internal/target/kusttarget.go and kusttarget_configplugin.go.
function accumulate(build: Build, target: Target, given: readonly Resource[]): Resource[] {
  build.unsupported.push(...target.unsupported)
  let resources = [...given]
  for (const entry of target.resources) {
    const added = typeof entry === 'string' ? readResources(build.files, entry) : accumulate(build, entry, [])
    append(resources, added)
  }
  resources = generate(build, target, resources)
  for (const component of target.components) resources = accumulate(build, component, resources)
  noteUnsupported(build, target)
  return transform(build, target, resources)
}

const knownFields = new Set([
  'apiVersion',
  'kind',
  'metadata',
  'resources',
  'bases',
  'components',
  'namespace',
  'namePrefix',
  'nameSuffix',
  'labels',
  'commonLabels',
  'commonAnnotations',
  'patches',
  'patchesStrategicMerge',
  'patchesJson6902',
  'images',
  'replicas',
  'configMapGenerator',
  'secretGenerator',
  'generatorOptions',
  // Only the order of the output.
  'sortOptions',
])

function noteUnsupported(build: Build, target: Target): void {
  for (const [name, value] of Object.entries(target.fields)) {
    if (knownFields.has(name) || value === null || (Array.isArray(value) && value.length === 0)) continue
    build.unsupported.push(`${fileOf(target)}: ${name}`)
  }
}

function fileOf(target: Target): string {
  return target.file ?? (target.folder === '' ? '.' : target.folder)
}

// --------------------------------------------------------------------------------------------------- resources

function readResources(files: FileTree, path: string): Resource[] {
  const parsed = parsedFile(files, path)
  if (parsed === null) throw problem(path, 'a resource does not exist', 'a file', 'none')
  return manifestsOf(parsed, path).map(({ object, document }) => ({
    object: structuredClone(object),
    file: path,
    document,
    former: [],
    hashed: false,
    affixes: '',
  }))
}

/** The objects of a file, items of Lists each by itself. Throws where a document is no Kubernetes object. */
function manifestsOf(parsed: ParsedFile, file: string): { object: ManifestObject; document: number }[] {
  if (parsed.error !== null) throw parsed.error
  const objects: { object: ManifestObject; document: number }[] = []
  for (const { value, document, line } of parsed.documents) {
    for (const item of itemsOf(value)) {
      if (isManifest(item)) objects.push({ object: item, document })
      else throw notAnObject(file, line, item)
    }
  }
  return objects
}

function itemsOf(value: unknown): readonly unknown[] {
  if (isPlain(value) && typeof value.kind === 'string' && value.kind.endsWith('List') && Array.isArray(value.items))
    return value.items
  return [value]
}

function notAnObject(file: string, line: number, found: unknown): ReanchorError {
  const has = isPlain(found) ? `a map with ${Object.keys(found).slice(0, 5).join(', ') || 'nothing'}` : typeof found
  return new ReanchorError({
    what: 'a document is no Kubernetes object',
    where: { file, line },
    expected: 'apiVersion, kind and metadata.name',
    found: has,
    todo: 'complete the object, or keep the file out of what is applied',
  })
}

function append(resources: Resource[], added: readonly Resource[]): void {
  const ids = new Set(resources.map(resource => idOf(resource.object)))
  for (const resource of added) {
    const id = idOf(resource.object)
    if (ids.has(id)) {
      throw problem(resource.file, 'an object is there twice', 'each object once', objectText(resource.object))
    }
    ids.add(id)
    resources.push(resource)
  }
}

function effectiveNamespace(object: ManifestObject): string {
  if (isClusterScoped(object)) return '_non_namespaceable_'
  return object.metadata.namespace ?? 'default'
}

function idOf(object: ManifestObject, name = object.metadata.name, namespace = effectiveNamespace(object)): string {
  return `${object.apiVersion}|${object.kind}|${namespace}|${name}`
}

/** Whether the object has, or had at any time, this id. */
function hasId(resource: Resource, id: string): boolean {
  return (
    idOf(resource.object) === id || resource.former.some(was => idOf(resource.object, was.name, was.namespace) === id)
  )
}

function remember(resource: Resource): void {
  resource.former.push({ name: resource.object.metadata.name, namespace: effectiveNamespace(resource.object) })
}

// -------------------------------------------------------------------------------------------------- generators

function generate(build: Build, target: Target, resources: Resource[]): Resource[] {
  const result = [...resources]
  // Secrets first, then ConfigMaps, as kustomize runs its generators.
  for (const [field, kind] of [
    ['secretGenerator', 'Secret'],
    ['configMapGenerator', 'ConfigMap'],
  ] as const) {
    for (const args of listAt(target.fields, field)) {
      if (!isPlain(args)) continue
      absorb(result, target, args, generated(build, target, kind, args))
    }
  }
  return result
}

function generated(build: Build, target: Target, kind: 'Secret' | 'ConfigMap', args: Plain): Resource {
  const name = textAt(args, 'name')
  if (name === null) throw problem(fileOf(target), 'a generator has no name', 'name', JSON.stringify(args).slice(0, 80))
  const options = generatorOptions(target, args)
  const data = generatorData(build, target, args)
  const namespace = textAt(args, 'namespace')
  const metadata: ManifestObject['metadata'] = { name }
  if (namespace !== null) metadata.namespace = namespace
  if (Object.keys(options.labels).length > 0) metadata.labels = options.labels
  if (Object.keys(options.annotations).length > 0) metadata.annotations = options.annotations
  const object: ManifestObject = { apiVersion: 'v1', kind, metadata }
  if (kind === 'Secret') object.type = textAt(args, 'type') ?? 'Opaque'
  if (data.length > 0)
    object.data = Object.fromEntries(data.map(([key, value]) => [key, kind === 'Secret' ? base64Lines(value) : value]))
  if (options.immutable) object.immutable = true
  for (const key of Object.keys(args)) {
    if (!generatorFields.has(key))
      build.unsupported.push(
        `${fileOf(target)}: ${kind === 'Secret' ? 'secretGenerator' : 'configMapGenerator'} ${name}: ${key}`,
      )
  }
  return { object, file: fileOf(target), document: -1, former: [], hashed: options.hashed, affixes: '' }
}

const generatorFields = new Set([
  'name',
  'namespace',
  'type',
  'behavior',
  'files',
  'literals',
  'envs',
  'env',
  'options',
])

function generatorOptions(target: Target, args: Plain) {
  const common = isPlain(target.fields.generatorOptions) ? target.fields.generatorOptions : {}
  const own = isPlain(args.options) ? args.options : {}
  return {
    labels: { ...strings(common.labels), ...strings(own.labels) },
    annotations: { ...strings(common.annotations), ...strings(own.annotations) },
    hashed: common.disableNameSuffixHash !== true && own.disableNameSuffixHash !== true,
    immutable: common.immutable === true || own.immutable === true,
  }
}

function strings(value: unknown): Record<string, string> {
  if (!isPlain(value)) return {}
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]))
}

function generatorData(build: Build, target: Target, args: Plain): readonly (readonly [string, string])[] {
  const pairs: [string, string][] = []
  const envs = [...stringsAt(args, 'envs')]
  const env = textAt(args, 'env')
  if (env !== null) envs.push(env)
  for (const path of envs) pairs.push(...envPairs(inputText(build, target, path)))
  for (const literal of stringsAt(args, 'literals')) {
    const split = literal.indexOf('=')
    if (split < 1) throw problem(fileOf(target), 'a literal has no key', 'key=value', literal)
    pairs.push([literal.slice(0, split), withoutQuotes(literal.slice(split + 1))])
  }
  for (const source of stringsAt(args, 'files')) {
    const split = source.indexOf('=')
    const path = split === -1 ? source : source.slice(split + 1)
    pairs.push([
      split === -1 ? (source.split('/').at(-1) ?? source) : source.slice(0, split),
      inputText(build, target, path),
    ])
  }
  const keys = new Set<string>()
  for (const [key] of pairs) {
    if (keys.has(key)) throw problem(fileOf(target), 'a generator has a key twice', 'each key once', key)
    keys.add(key)
  }
  return pairs
}

function withoutQuotes(value: string): string {
  const quoted = /^(["'])(.*)\1$/s.exec(value)
  return quoted?.[2] ?? value
}

function envPairs(text: string): [string, string][] {
  const pairs: [string, string][] = []
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trimStart()
    if (line === '' || line.startsWith('#')) continue
    const split = line.indexOf('=')
    // A key alone takes its value from the environment of the builder, which has none.
    pairs.push(split === -1 ? [line, ''] : [line.slice(0, split), line.slice(split + 1)])
  }
  return pairs
}

/** Base64 in lines of 70 where it is longer, each with its line end: so kustomize writes it, and so the hash has it. */
function base64Lines(text: string): string {
  const encoded = Buffer.from(text, 'utf8').toString('base64')
  if (encoded.length < 70) return encoded
  return `${encoded.match(/.{1,70}/g)?.join('\n') ?? ''}\n`
}

function inputText(build: Build, target: Target, path: string): string {
  const found = inRepository(target.folder, path)
  const text = found === null ? undefined : build.files.get(found)
  if (text === undefined && found !== null && build.yamlOnly && !/\.(ya?ml|json)$/.test(found)) {
    build.unsupported.push(`${fileOf(target)}: content of ${found}`)
    return ''
  }
  if (text === undefined)
    throw problem(
      fileOf(target),
      'a file that the kustomization names does not exist',
      'a file below the repository root',
      path,
    )
  return text
}

function absorb(resources: Resource[], target: Target, args: Plain, made: Resource): void {
  const behavior = textAt(args, 'behavior') ?? 'create'
  const id = idOf(made.object)
  const index = resources.findIndex(resource => hasId(resource, id))
  const known = resources[index]
  if (behavior === 'create') {
    if (known !== undefined)
      throw problem(
        fileOf(target),
        'a generator makes an object that is there already',
        'behavior: merge or replace',
        objectText(made.object),
      )
    resources.push(made)
    return
  }
  if (behavior !== 'merge' && behavior !== 'replace')
    throw problem(fileOf(target), 'a generator has an unknown behavior', 'create, merge or replace', behavior)
  if (known === undefined)
    throw problem(
      fileOf(target),
      `nothing to ${behavior}`,
      'an object that an earlier resource makes',
      objectText(made.object),
    )
  const before = known.object
  const { labels, annotations } = made.object.metadata
  const metadata: ManifestObject['metadata'] = { ...before.metadata }
  if (labels !== undefined || before.metadata.labels !== undefined)
    metadata.labels = { ...before.metadata.labels, ...labels }
  if (annotations !== undefined || before.metadata.annotations !== undefined)
    metadata.annotations = { ...before.metadata.annotations, ...annotations }
  const object: ManifestObject = { ...made.object, metadata }
  if (behavior === 'merge') object.data = { ...strings(before.data), ...strings(made.object.data) }
  known.object = object
  known.hashed = known.hashed || made.hashed
}

// ------------------------------------------------------------------------------------------------ transformers

function transform(build: Build, target: Target, given: Resource[]): Resource[] {
  const { fields } = target
  let resources = given
  for (const entry of listAt(fields, 'patchesStrategicMerge')) {
    if (typeof entry === 'string') resources = patch(target, resources, textOfPatch(build, target, entry), null, {})
  }
  for (const entry of listAt(fields, 'patches')) {
    if (isPlain(entry)) resources = patchEntry(build, target, resources, entry)
  }
  setNamespace(target, resources)
  affix(target, resources)
  setLabels(build, target, resources)
  for (const resource of resources) setAll(resource.object, commonAnnotationFields, strings(fields.commonAnnotations))
  for (const entry of listAt(fields, 'patchesJson6902')) {
    if (isPlain(entry)) resources = patchEntry(build, target, resources, entry)
  }
  setReplicas(target, resources)
  setImages(target, resources)
  return resources
}

/** `patchesStrategicMerge` holds paths and inline patches alike. */
function textOfPatch(build: Build, target: Target, entry: string): string {
  const path = inRepository(target.folder, entry)
  return path === null ? entry : (build.files.get(path) ?? entry)
}

function patchEntry(build: Build, target: Target, resources: Resource[], entry: Plain): Resource[] {
  const inline = textAt(entry, 'patch')?.trim() ?? ''
  const path = textAt(entry, 'path')
  if ((inline === '') === (path === null)) {
    throw problem(
      fileOf(target),
      'a patch needs one of patch and path',
      'exactly one of them',
      inline === '' ? 'none' : 'both',
    )
  }
  const text = path === null ? inline : inputText(build, target, path)
  const options = isPlain(entry.options) ? entry.options : {}
  return patch(target, resources, text, isPlain(entry.target) ? entry.target : null, options)
}

function patch(
  target: Target,
  resources: Resource[],
  text: string,
  selector: Plain | null,
  options: Plain,
): Resource[] {
  const where = fileOf(target)
  try {
    const operations = jsonPatchOf(text)
    if (operations !== null) return patchJson(where, resources, operations, selector)
    return patchStrategic(where, resources, text, selector, options)
  } catch (error) {
    if (error instanceof MergeConflict || error instanceof JsonPatchConflict || error instanceof SelectorError) {
      throw problem(where, 'a patch does not apply', 'a patch that fits its target', error.message)
    }
    throw error
  }
}

/** JSON patches are read as YAML 1.1 (sigs.k8s.io/yaml), where a plain `yes` is true; strategic patches are not. */
function jsonPatchOf(text: string): readonly Plain[] | null {
  try {
    const value: unknown = parseYaml(text, { version: '1.1', maxAliasCount: 100, logLevel: 'silent' })
    return isJsonPatch(value) ? value : null
  } catch {
    return null
  }
}

function patchJson(
  where: string,
  resources: Resource[],
  operations: readonly Plain[],
  selector: Plain | null,
): Resource[] {
  if (selector === null) throw problem(where, 'a JSON patch has no target', 'target', 'none')
  const matches = targetMatcher(selector, effectiveNamespace)
  for (const resource of resources) {
    if (!matches(resource)) continue
    remember(resource)
    // Kustomize keeps notes of its own in the annotations while it works, so that map always exists.
    const before: ManifestObject = {
      ...resource.object,
      metadata: { ...resource.object.metadata, annotations: { ...resource.object.metadata.annotations } },
    }
    const after = applyJsonPatch(before, operations)
    if (!isManifest(after)) throw new JsonPatchConflict(`${objectText(resource.object)} is no object any more`)
    const annotations = strings(after.metadata.annotations)
    if (Object.keys(annotations).length > 0) after.metadata.annotations = annotations
    else delete after.metadata.annotations
    resource.object = after
  }
  return resources
}

function patchStrategic(
  where: string,
  resources: Resource[],
  text: string,
  selector: Plain | null,
  options: Plain,
): Resource[] {
  const parsed = parseYamlFile(text, where)
  const patches = manifestsOf(parsed, where).map(({ object }) => object)
  if (selector !== null && patches.length > 1) {
    throw problem(where, 'a patch with a target holds several documents', 'one document', `${patches.length}`)
  }
  let result = resources
  for (const read of patches) {
    const matches = selector === null ? byId(where, result, read) : targetMatcher(selector, effectiveNamespace)
    const body = selector === null ? read : withTextMetadata(read)
    result = result.filter(resource => {
      if (!matches(resource)) return true
      return mergeInto(resource, body, options)
    })
  }
  return result
}

/**
 * Of a patch with a target kustomize copies labels and annotations as text (Resource.CopyMergeMetaDataFieldsFrom), so that
 * a null there does not delete: it becomes the text `null`.
 */
function withTextMetadata(body: ManifestObject): ManifestObject {
  const metadata = { ...body.metadata }
  for (const name of ['labels', 'annotations'] as const) {
    if (isPlain(metadata[name])) metadata[name] = { ...metadata[name], ...nullsAsText(metadata[name]) }
  }
  return { ...body, metadata }
}

function nullsAsText(values: Plain): Record<string, string> {
  return Object.fromEntries(
    Object.keys(values)
      .filter(key => values[key] === null)
      .map(key => [key, 'null']),
  )
}

function byId(where: string, resources: readonly Resource[], body: ManifestObject): (resource: Resource) => boolean {
  const id = idOf(body)
  const found = resources.filter(resource => hasId(resource, id))
  if (found.length === 1) return resource => resource === found[0]
  throw problem(
    where,
    found.length === 0
      ? 'a patch without target matches nothing'
      : 'a patch without target matches more than one object',
    'exactly one object with its apiVersion, kind, name and namespace',
    objectText(body),
  )
}

/** False: the patch deletes the object. */
function mergeInto(resource: Resource, body: ManifestObject, options: Plain): boolean {
  const { object } = resource
  const changesId = options.allowNameChange === true || options.allowKindChange === true
  if (changesId) remember(resource)
  const merged = strategicMerge(object, { ...body, apiVersion: object.apiVersion })
  if (merged === null) return false
  const metadata = isPlain(merged.metadata) ? merged.metadata : {}
  const name = options.allowNameChange === true ? metadata.name : object.metadata.name
  merged.kind = options.allowKindChange === true ? body.kind : object.kind
  const { namespace: _, ...rest } = metadata
  merged.metadata = {
    ...rest,
    name,
    ...(object.metadata.namespace === undefined ? {} : { namespace: object.metadata.namespace }),
  }
  if (!isManifest(merged)) throw new MergeConflict(`${objectText(object)} is no object any more`)
  resource.object = merged
  return true
}

function setNamespace(target: Target, resources: readonly Resource[]): void {
  const namespace = textAt(target.fields, 'namespace')
  if (namespace === null) return
  for (const resource of resources) {
    remember(resource)
    const { object } = resource
    if (!isClusterScoped(object)) object.metadata.namespace = namespace
    if (object.kind === 'Namespace' && object.apiVersion === 'v1') object.metadata.name = namespace
    if (object.kind === 'RoleBinding' || object.kind === 'ClusterRoleBinding') {
      for (const subject of listAt(object, 'subjects')) {
        if (isPlain(subject) && subject.name === 'default') subject.namespace = namespace
      }
    }
    for (const spec of serviceNamespaceFields) visitField(object, spec, (holder, key) => (holder[key] = namespace))
  }
}

const serviceNamespaceFields: readonly FieldSpec[] = [
  { path: 'spec/service/namespace', create: true, group: 'apiregistration.k8s.io', kind: 'APIService' },
  {
    path: 'spec/conversion/webhook/clientConfig/service/namespace',
    create: false,
    group: 'apiextensions.k8s.io',
    kind: 'CustomResourceDefinition',
  },
]

// PrefixTransformer and SuffixTransformer skip these kinds; their names carry meaning.
const fixedNames = new Set(['CustomResourceDefinition', 'APIService', 'Namespace'])

function affix(target: Target, resources: readonly Resource[]): void {
  const prefix = textAt(target.fields, 'namePrefix') ?? ''
  const suffix = textAt(target.fields, 'nameSuffix') ?? ''
  if (prefix === '' && suffix === '') return
  for (const resource of resources) {
    if (fixedNames.has(resource.object.kind)) continue
    remember(resource)
    resource.object.metadata.name = `${prefix}${resource.object.metadata.name}${suffix}`
    resource.affixes += `${prefix}|${suffix}|`
  }
}

function setLabels(build: Build, target: Target, resources: readonly Resource[]): void {
  for (const entry of listAt(target.fields, 'labels')) {
    if (!isPlain(entry)) continue
    const fields: readonly FieldSpec[] =
      entry.includeSelectors === true
        ? commonLabelFields
        : entry.includeTemplates === true
          ? templateLabelFields
          : [{ path: 'metadata/labels', create: true }]
    if (entry.fields !== undefined) build.unsupported.push(`${fileOf(target)}: labels.fields`)
    for (const resource of resources) setAll(resource.object, fields, strings(entry.pairs))
  }
  for (const resource of resources) setAll(resource.object, commonLabelFields, strings(target.fields.commonLabels))
}

function setAll(
  object: ManifestObject,
  fields: readonly FieldSpec[],
  values: Readonly<Record<string, string>> | undefined,
): void {
  if (values === undefined || Object.keys(values).length === 0) return
  for (const spec of fields) {
    visitField(object, spec, (holder, key) => {
      holder[key] = { ...(isPlain(holder[key]) ? holder[key] : {}), ...values }
    })
  }
}

function setReplicas(target: Target, resources: readonly Resource[]): void {
  for (const entry of listAt(target.fields, 'replicas')) {
    if (!isPlain(entry)) continue
    const found = resources.filter(
      ({ object, former }) =>
        replicaFields.some(spec => spec.kind === object.kind) &&
        (object.metadata.name === entry.name || former.some(was => was.name === entry.name)),
    )
    if (found.length === 0)
      throw problem(fileOf(target), 'replicas names nothing', 'a workload with that name', String(entry.name))
    for (const { object } of found) {
      for (const spec of replicaFields) visitField(object, spec, (holder, key) => (holder[key] = entry.count))
    }
  }
}

function setImages(target: Target, resources: readonly Resource[]): void {
  for (const entry of listAt(target.fields, 'images')) {
    if (!isPlain(entry) || typeof entry.name !== 'string') continue
    for (const { object } of resources) {
      if (object.kind !== 'CustomResourceDefinition') setImageBelow(object, entry.name, entry)
    }
  }
}

/** Every `containers` and `initContainers` at any depth, as kustomize's imagetag filter finds them. */
function setImageBelow(value: unknown, name: string, entry: Plain): void {
  if (Array.isArray(value)) {
    for (const item of value) setImageBelow(item, name, entry)
    return
  }
  if (!isPlain(value)) return
  for (const [key, item] of Object.entries(value)) {
    if ((key === 'containers' || key === 'initContainers') && Array.isArray(item)) {
      for (const container of item) {
        if (isPlain(container) && typeof container.image === 'string')
          container.image = newImage(container.image, name, entry)
      }
    }
    setImageBelow(item, name, entry)
  }
}

function newImage(image: string, name: string, entry: Plain): string {
  const parts = /^(?<base>[^@]*?)(?::(?<tag>[^:/@]+))?(?:@(?<digest>.+))?$/.exec(image)?.groups
  const base = parts?.base ?? image
  if (base !== name) return image
  const newTag = entry.newTag === undefined ? '' : String(entry.newTag)
  const newDigest = textAt(entry, 'digest') ?? ''
  const suffix = textAt(entry, 'tagSuffix') ?? ''
  let tag = parts?.tag ?? ''
  let digest = parts?.digest ?? ''
  if (newTag !== '' || newDigest !== '') {
    tag = newTag
    digest = newDigest
  } else if (suffix !== '') {
    tag += suffix
    digest = ''
  }
  return `${textAt(entry, 'newName') ?? base}${tag === '' ? '' : `:${tag}`}${digest === '' ? '' : `@${digest}`}`
}

// ------------------------------------------------------------------------------------------ names and references

function addHashes(resources: readonly Resource[]): void {
  for (const resource of resources) {
    if (!resource.hashed) continue
    remember(resource)
    resource.object.metadata.name = `${resource.object.metadata.name}-${contentHash(resource.object)}`
  }
}

/** The name suffix of generated objects (kustomize api v0.18, hasher/hasher.go, whose look-up of the name finds nothing). */
function contentHash(object: ManifestObject): string {
  const hashed: Plain = { data: object.data ?? '', kind: object.kind, name: '' }
  if (object.kind === 'Secret') hashed.type = object.type ?? ''
  if (isPlain(object.binaryData)) hashed.binaryData = object.binaryData
  if (isPlain(object.stringData)) hashed.stringData = object.stringData
  const hex = createHash('sha256').update(goJson(hashed)).digest('hex')
  return [...hex.slice(0, 10)].map(digit => hashDigits[digit] ?? digit).join('')
}

const hashDigits: Readonly<Record<string, string>> = { '0': 'g', '1': 'h', '3': 'k', a: 'm', e: 't' }

/** As Go's encoding/json writes maps: keys sorted by bytes, and <, >, &, U+2028 and U+2029 escaped. */
function goJson(value: unknown): string {
  if (isPlain(value)) {
    const keys = Object.keys(value).sort((left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
    return `{${keys.map(key => `${goJson(key)}:${goJson(value[key])}`).join(',')}}`
  }
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]|\\b|\\f/g,
    character => goEscapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

const goEscapes: Readonly<Record<string, string>> = { '\\b': '\\b', '\\f': '\\f' }

/** Objects that name a renamed object follow it. */
function fixReferences(resources: readonly Resource[]): void {
  const renamed = resources.filter(resource => resource.former.length > 0)
  if (renamed.length === 0) return
  const byKind = new Map<string, Resource[]>()
  for (const resource of renamed) {
    const { kind } = resource.object
    if (!referencedKinds.has(kind)) continue
    byKind.set(kind, [...(byKind.get(kind) ?? []), resource])
  }
  for (const referrer of resources) {
    for (const spec of referenceFields) {
      const candidates = byKind.get(spec.to)
      if (candidates === undefined) continue
      visitField(referrer.object, spec, (holder, key) => {
        const name = holder[key]
        if (typeof name !== 'string') return
        const found = referred(referrer, candidates, name)
        if (found !== null) holder[key] = found.object.metadata.name
      })
    }
    for (const subject of referrer.object.kind.endsWith('RoleBinding') ? listAt(referrer.object, 'subjects') : []) {
      if (!isPlain(subject) || subject.kind !== 'ServiceAccount' || typeof subject.name !== 'string') continue
      const found = (byKind.get('ServiceAccount') ?? []).find(
        candidate =>
          candidate.former.some(
            was =>
              was.name === subject.name && (subject.namespace === undefined || was.namespace === subject.namespace),
          ) ||
          (candidate.object.metadata.name === subject.name &&
            candidate.object.metadata.namespace === subject.namespace),
      )
      if (found === undefined) continue
      subject.name = found.object.metadata.name
      if (found.object.metadata.namespace !== undefined) subject.namespace = found.object.metadata.namespace
    }
  }
}

function referred(referrer: Resource, candidates: readonly Resource[], name: string): Resource | null {
  const named = candidates.filter(
    candidate =>
      candidate.former.some(was => was.name === name) &&
      (isClusterScoped(candidate.object) ||
        effectiveNamespace(candidate.object) === effectiveNamespace(referrer.object)),
  )
  if (named.length <= 1) return named[0] ?? null
  const near = named.filter(candidate => candidate.affixes === referrer.affixes)
  return near.length === 1 ? (near[0] ?? null) : null
}
