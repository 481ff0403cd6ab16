import { ReanchorError } from '../errors.ts'
import type { FileTree } from '../rotation.ts'
import {
  at,
  isPlain,
  isYamlPath,
  listAt,
  type ParsedFile,
  type Plain,
  parsedFile,
  stringsAt,
  textAt,
} from './manifests.ts'
import { baseName, inRepository, isFolder, join, listFolder } from './paths.ts'

/** Kustomize takes the file by any of these names (api/konfig, RecognizedKustomizationFileNames). */
const kustomizationFileNames = ['kustomization.yaml', 'kustomization.yml', 'Kustomization'] as const

/** What is added to a folder's kustomization from outside: Flux's Kustomization or Argo CD's Application do that. */
export interface KustomizationOverlay {
  readonly components?: readonly string[]
  /** Flux's ignoreMissingComponents. */
  readonly ignoreMissingComponents?: boolean
  readonly targetNamespace?: string
  readonly namePrefix?: string
  readonly nameSuffix?: string
  /** As in a kustomization's `patches`: `{patch, target}`. */
  readonly patches?: readonly Plain[]
  readonly images?: readonly Plain[]
  readonly commonLabels?: Readonly<Record<string, string>>
  readonly commonAnnotations?: Readonly<Record<string, string>>
}

/**
 * What becomes of a folder without a kustomization file. `flux`: Flux generates one from every YAML file below;
 * `flat` and `recurse`: Argo CD's directory mode; `refuse`: as `kustomize build`.
 */
export type DirectoryMode = 'flux' | 'flat' | 'recurse' | 'refuse'

/** One folder as kustomize sees it, with everything that it draws in. */
export interface Target {
  readonly folder: string
  /** The kustomization file, or null where one is generated from the folder's files. */
  readonly file: string | null
  readonly component: boolean
  /** The kustomization's fields, overlay included. */
  readonly fields: Plain
  readonly resources: readonly (string | Target)[]
  readonly components: readonly Target[]
  /** Patches, generator inputs: files that are read but are no resources. */
  readonly inputs: readonly string[]
  readonly unsupported: readonly string[]
  /** What kustomize would end with. */
  readonly problems: readonly ReanchorError[]
}

/** How a file comes into a build: as a resource of a kustomization, through a Component, or by a scan of a folder. */
export type ReadHow = 'resources' | 'component' | 'directory'

export interface ReadFile {
  readonly path: string
  readonly how: ReadHow
  /** Kustomization files (or scanned folders) that lead to it, the outermost first. */
  readonly via: readonly string[]
}

// Far above any real tree, so that hostile input ends.
const maximumDepth = 50
const maximumTargets = 20_000

interface Loading {
  readonly files: FileTree
  count: number
}

/** The kustomization file of a folder, or null. */
export function kustomizationFile(files: FileTree, folder: string): string | null {
  const found = kustomizationFileNames.map(name => join(folder, name)).filter(path => files.has(path))
  return found[0] ?? null
}

/** Loads a folder and what it reaches. Never throws for what users' files hold: see `problems` of each target. */
export function loadTarget(
  files: FileTree,
  folder: string,
  overlay: KustomizationOverlay = {},
  mode: DirectoryMode = 'refuse',
): Target {
  return load({ files, count: 0 }, folder, false, [], overlay, mode)
}

function load(
  loading: Loading,
  folder: string,
  component: boolean,
  above: readonly string[],
  overlay: KustomizationOverlay,
  mode: DirectoryMode,
): Target {
  const { files } = loading
  const problems: ReanchorError[] = []
  const unsupported: string[] = []
  const file = kustomizationFile(files, folder)
  loading.count++
  const empty = {
    folder,
    file,
    component,
    fields: {},
    resources: [],
    components: [],
    inputs: [],
    unsupported,
    problems,
  }
  if (above.length > maximumDepth || loading.count > maximumTargets) {
    problems.push(
      problem(
        file ?? folder,
        'kustomizations nest too deep',
        `at most ${maximumDepth} levels`,
        [...above, folder].slice(-5).join(' → '),
      ),
    )
    return empty
  }
  if (file === null) return scanned(loading, empty, above, overlay, mode)

  const names = kustomizationFileNames.map(name => join(folder, name)).filter(path => files.has(path))
  if (names.length > 1)
    problems.push(problem(file, 'the folder holds more than one kustomization file', 'one', names.join(', ')))
  const own = readFields(files, file, component, problems)
  if (own === null) return empty
  const fields = withOverlay(own, overlay)
  // Flux adds a field of its own to the outermost kustomization, which is then never empty.
  const isFluxRoot = above.length === 0 && mode === 'flux'
  if (!isFluxRoot && Object.keys(fields).every(key => nameless.has(key))) problems.push(emptyKustomization(file))

  const stack = [...above, folder]
  const resources: (string | Target)[] = []
  for (const entry of [...pathsOf(fields, 'resources', file, problems), ...pathsOf(fields, 'bases', file, problems)]) {
    const found = resourceAt(loading, folder, file, entry, stack, problems, unsupported)
    if (found !== null) resources.push(found)
  }
  const components: Target[] = []
  for (const entry of pathsOf(fields, 'components', file, problems)) {
    const found = componentAt(loading, folder, file, entry, stack, overlay, problems, unsupported)
    if (found !== null) components.push(found)
  }
  const inputs = inputsOf(fields)
    .map(entry => inRepository(folder, entry))
    .filter((path): path is string => path !== null && files.has(path))
  return { ...empty, fields, resources, components, inputs }
}

const nameless = new Set(['apiVersion', 'kind', 'metadata'])

function emptyKustomization(file: string): ReanchorError {
  return problem(file, 'kustomize refuses a kustomization that is empty', 'at least one field', 'none', 'resources: []')
}

function readFields(files: FileTree, file: string, component: boolean, problems: ReanchorError[]): Plain | null {
  const parsed = parsedFile(files, file)
  if (parsed === null) return null
  if (parsed.error !== null) {
    problems.push(parsed.error)
    return null
  }
  const value = parsed.documents[0]?.value
  if (value === undefined) {
    problems.push(emptyKustomization(file))
    return null
  }
  if (!isPlain(value) || parsed.documents.length > 1) {
    problems.push(problem(file, 'the kustomization is not one map', 'one YAML document with fields', describe(parsed)))
    return null
  }
  const isComponent = value.kind === 'Component'
  if (isComponent !== component) {
    const expected = component ? 'kind: Component' : 'kind: Kustomization'
    problems.push(
      problem(
        file,
        component ? 'components may list only Components' : 'a Component belongs under components, not resources',
        expected,
        `kind: ${String(value.kind ?? 'Kustomization')}`,
      ),
    )
    return null
  }
  return value
}

function describe(parsed: ParsedFile): string {
  if (parsed.documents.length > 1) return `${parsed.documents.length} documents`
  return Array.isArray(parsed.documents[0]?.value) ? 'a list' : 'a scalar'
}

function withOverlay(fields: Plain, overlay: KustomizationOverlay): Plain {
  const merged: Plain = { ...fields }
  if (overlay.components !== undefined) merged.components = [...listAt(fields, 'components'), ...overlay.components]
  if (overlay.targetNamespace !== undefined) merged.namespace = overlay.targetNamespace
  if (overlay.namePrefix !== undefined) merged.namePrefix = overlay.namePrefix
  if (overlay.nameSuffix !== undefined) merged.nameSuffix = overlay.nameSuffix
  if (overlay.patches !== undefined) merged.patches = [...listAt(fields, 'patches'), ...overlay.patches]
  if (overlay.images !== undefined) {
    // Flux replaces an entry of the same name (fluxcd/pkg/kustomize, WriteFile).
    const names = new Set(overlay.images.map(image => image.name))
    merged.images = [...listAt(fields, 'images').filter(image => !names.has(at(image, 'name'))), ...overlay.images]
  }
  return merged
}

function pathsOf(fields: Plain, name: string, file: string, problems: ReanchorError[]): readonly string[] {
  const value = fields[name]
  if (value === undefined || value === null) return []
  if (Array.isArray(value) && value.every(item => typeof item === 'string')) return value
  problems.push(
    problem(
      file,
      `${name} is not a list of paths`,
      'a list of strings',
      JSON.stringify(value)?.slice(0, 80) ?? 'nothing',
    ),
  )
  return []
}

function isRemote(entry: string): boolean {
  return (
    /^[a-z][a-z0-9+.-]*:(\/\/|:)/i.test(entry) ||
    /^[^/]+@[^/]+:/.test(entry) ||
    /^(github\.com|gitlab\.com|bitbucket\.org)[/:]/.test(entry) ||
    entry.includes('?ref=')
  )
}

function resourceAt(
  loading: Loading,
  folder: string,
  file: string,
  entry: string,
  stack: readonly string[],
  problems: ReanchorError[],
  unsupported: string[],
): string | Target | null {
  if (isRemote(entry)) {
    unsupported.push(`${file}: remote resource ${entry}`)
    return null
  }
  const path = inRepository(folder, entry)
  if (path === null) {
    problems.push(problem(file, 'a resource lies outside the repository', 'a path below the repository root', entry))
    return null
  }
  if (loading.files.has(path)) return path
  if (!isFolder(loading.files, path)) {
    problems.push(problem(file, 'a resource does not exist', 'a file or a folder with a kustomization', path))
    return null
  }
  return folderAt(loading, file, path, false, stack, problems)
}

function componentAt(
  loading: Loading,
  folder: string,
  file: string,
  entry: string,
  stack: readonly string[],
  overlay: KustomizationOverlay,
  problems: ReanchorError[],
  unsupported: string[],
): Target | null {
  if (isRemote(entry)) {
    unsupported.push(`${file}: remote component ${entry}`)
    return null
  }
  const path = inRepository(folder, entry)
  if (path === null) {
    problems.push(problem(file, 'a component lies outside the repository', 'a path below the repository root', entry))
    return null
  }
  if (!isFolder(loading.files, path)) {
    if (overlay.ignoreMissingComponents === true) return null
    problems.push(problem(file, 'a component does not exist', 'a folder with a kustomization of kind Component', path))
    return null
  }
  return folderAt(loading, file, path, true, stack, problems)
}

function folderAt(
  loading: Loading,
  file: string,
  path: string,
  component: boolean,
  stack: readonly string[],
  problems: ReanchorError[],
): Target | null {
  if (stack.includes(path)) {
    problems.push(
      problem(
        file,
        'kustomizations draw in each other in a circle',
        'no folder that leads back to itself',
        [...stack.slice(stack.indexOf(path)), path].join(' → '),
      ),
    )
    return null
  }
  return load(loading, path, component, stack, {}, 'refuse')
}

/** A folder without a kustomization file. */
function scanned(
  loading: Loading,
  empty: Target,
  above: readonly string[],
  overlay: KustomizationOverlay,
  mode: DirectoryMode,
): Target {
  const { folder } = empty
  const problems = [...empty.problems]
  const unsupported = [...empty.unsupported]
  if (mode === 'refuse' || !isFolder(loading.files, folder)) {
    const found = isFolder(loading.files, folder) ? 'none' : 'no such folder'
    problems.push(
      problem(folder === '' ? '.' : folder, 'there is nothing to build', 'a folder with a kustomization.yaml', found),
    )
    return { ...empty, problems }
  }
  const fields = withOverlay({}, overlay)
  const stack = [...above, folder]
  const resources: (string | Target)[] = []
  scan(loading, folder, mode, stack, resources)
  const components: Target[] = []
  for (const entry of stringsAt(fields, 'components')) {
    const found = componentAt(loading, folder, folder, entry, stack, overlay, problems, unsupported)
    if (found !== null) components.push(found)
  }
  return { ...empty, fields, resources, components, unsupported, problems }
}

function scan(
  loading: Loading,
  folder: string,
  mode: DirectoryMode,
  stack: readonly string[],
  resources: (string | Target)[],
): void {
  const entries = listFolder(loading.files, folder)
  if (entries === null) return
  const extensions = mode === 'flux' ? isYamlPath : (path: string) => isYamlPath(path) || path.endsWith('.json')
  for (const path of entries.files) {
    const isKustomization = kustomizationFileNames.some(name => name === baseName(path))
    if (extensions(path) && !isKustomization) resources.push(path)
  }
  if (mode === 'flat') return
  for (const path of entries.folders) {
    // Flux takes a subfolder that has a kustomization of its own as a base and descends no further.
    if (mode === 'flux' && kustomizationFile(loading.files, path) !== null) {
      resources.push(load(loading, path, false, stack, {}, 'refuse'))
      continue
    }
    scan(loading, path, mode, stack, resources)
  }
}

/** Paths that patches and generators read, relative to the kustomization's folder. */
function inputsOf(fields: Plain): readonly string[] {
  const inputs: string[] = []
  for (const name of ['patches', 'patchesJson6902', 'replacements']) {
    for (const entry of listAt(fields, name)) {
      const path = textAt(entry, 'path')
      if (path !== null) inputs.push(path)
    }
  }
  for (const entry of stringsAt(fields, 'patchesStrategicMerge')) if (!entry.includes('\n')) inputs.push(entry)
  for (const name of ['configMapGenerator', 'secretGenerator']) {
    for (const generator of listAt(fields, name)) {
      for (const source of stringsAt(generator, 'files')) inputs.push(source.slice(source.indexOf('=') + 1))
      inputs.push(...stringsAt(generator, 'envs'))
      const env = textAt(generator, 'env')
      if (env !== null) inputs.push(env)
    }
  }
  for (const name of ['crds', 'configurations', 'generators', 'transformers', 'validators'])
    inputs.push(...stringsAt(fields, name))
  return inputs
}

/** Every file that building the target reads, each once per way that leads to it. */
export function readFiles(target: Target): readonly ReadFile[] {
  const reads: ReadFile[] = []
  collect(target, 'resources', [], reads)
  return reads
}

function collect(target: Target, how: ReadHow, above: readonly string[], reads: ReadFile[]): void {
  const via = [...above, target.file ?? (target.folder === '' ? './' : `${target.folder}/`)]
  if (target.file !== null) reads.push({ path: target.file, how, via: above })
  for (const path of target.inputs) reads.push({ path, how, via })
  for (const resource of target.resources) {
    const below = how === 'component' ? 'component' : target.file === null ? 'directory' : how
    if (typeof resource === 'string') reads.push({ path: resource, how: below, via })
    else collect(resource, below, via, reads)
  }
  for (const component of target.components) collect(component, 'component', via, reads)
}

/** Every problem of a target and of what it draws in. */
export function problemsOf(target: Target): readonly ReanchorError[] {
  const below = [...target.resources.filter(resource => typeof resource !== 'string'), ...target.components]
  return [...target.problems, ...below.flatMap(problemsOf)]
}

export function problem(file: string, what: string, expected: string, found: string, example?: string): ReanchorError {
  return new ReanchorError({ what, where: { file }, expected, found, ...(example === undefined ? {} : { example }) })
}
