import type { Where } from '../errors.ts'
import type { DeliveryChoice, FileTree } from '../rotation.ts'
import { type ArgoApplication, type ArgoSource, applicationOf, argoObjects, givesManifest } from './argocd.ts'
import { type FluxGitRepository, type FluxKustomization, fluxKustomizationOf, fluxObjects } from './flux.ts'
import { type IgnorePattern, ignorePatterns, isIgnored } from './ignore.ts'
import { buildTarget } from './kustomize.ts'
import {
  type DirectoryMode,
  type KustomizationOverlay,
  kustomizationFile,
  loadTarget,
  type ReadFile,
  type ReadHow,
  readFiles,
  type Target,
} from './kustomize-load.ts'
import { isManifest, type ManifestObject, parsedFile, shareParsed } from './manifests.ts'
import { baseName, folderOf, isFolder, isUnder, join } from './paths.ts'

/** A Flux Kustomization or Argo CD Application, as its cluster gets it, and every file that it applies. */
export interface Reader {
  readonly kind: 'Kustomization' | 'Application'
  readonly name: string
  /** After every kustomization on the way has had its say; null where none gives one. */
  readonly namespace: string | null
  /** Where the object is written. */
  readonly file: string
  readonly document: number
  /** The object that everything of this cluster starts from: equal roots are one cluster. */
  readonly root: string
  /** Folders that it builds, of this repository. */
  readonly paths: readonly string[]
  readonly suspended: boolean
  readonly object: FluxKustomization | ArgoApplication
  readonly reads: readonly ReadFile[]
}

export interface Reach {
  readonly readers: readonly Reader[]
  /** What could not be taken into account. */
  readonly notes: readonly string[]
}

export interface ReachOptions {
  /** Addresses of this repository, as GitRepositories and Applications may write it. Without any it is inferred. */
  readonly repositoryURLs?: readonly string[]
}

/**
 * Who applies what. It starts from the Flux and Argo CD objects that no other one delivers, and follows what each of them
 * builds to the objects that come out of it, so that an object patched by a cluster's overlay counts as patched.
 */
export function reach(files: FileTree, options: ReachOptions = {}): Reach {
  return new Walk(files, options).run()
}

type Entry = FluxKustomization | ArgoApplication

interface Source {
  readonly folder: string
  readonly overlay: KustomizationOverlay
  readonly mode: DirectoryMode
  readonly tree: FileTree
}

class Walk {
  readonly #files: FileTree
  readonly #repositories: readonly FluxGitRepository[]
  readonly #written: readonly Entry[]
  readonly #writtenFiles: ReadonlySet<string>
  readonly #isOwn: (url: string) => boolean
  readonly #targets = new Map<string, { readonly target: Target; readonly reads: readonly ReadFile[] }>()
  readonly #trees = new Map<string, FileTree>()
  readonly #sourceIgnores: readonly string[]
  readonly #notes = new Set<string>()
  readonly #readers: Reader[] = []
  readonly #visited = new Set<string>()

  constructor(files: FileTree, options: ReachOptions) {
    const flux = fluxObjects(files)
    const argo = argoObjects(files)
    this.#files = files
    this.#sourceIgnores = [...files.keys()].filter(path => baseName(path) === '.sourceignore')
    this.#repositories = flux.repositories
    this.#written = [...flux.kustomizations, ...argo.applications]
    this.#writtenFiles = new Set(this.#written.map(entry => entry.file))
    this.#isOwn = ownRepository(files, flux.repositories, this.#written, options.repositoryURLs ?? [])
    for (const set of argo.applicationSets) {
      this.#notes.add(`${set.file}: ApplicationSet ${set.name}: the Applications that it makes are not computed`)
    }
  }

  run(): Reach {
    const delivered = new Set<Entry>()
    const byFile = new Map<string, Entry[]>()
    for (const entry of this.#written) byFile.set(entry.file, [...(byFile.get(entry.file) ?? []), entry])
    for (const entry of this.#written) {
      for (const { path } of this.#readsOf(entry)) {
        for (const other of byFile.get(path) ?? []) if (other !== entry) delivered.add(other)
      }
    }
    for (const entry of this.#written) if (!delivered.has(entry)) this.#follow(entry, rootText(entry))
    // Objects that deliver each other in a circle have no root; each starts a cluster unless an earlier one led to it.
    const seen = new Set(this.#readers.map(reader => `${reader.file}#${reader.document}`))
    for (const entry of this.#written) {
      if (seen.has(`${entry.file}#${entry.document}`)) continue
      this.#follow(entry, rootText(entry))
      for (const reader of this.#readers) seen.add(`${reader.file}#${reader.document}`)
    }
    return { readers: this.#readers, notes: [...this.#notes].sort() }
  }

  #follow(start: Entry, root: string): void {
    const queue = [start]
    for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
      const key = `${root}|${entry.kind}|${entry.namespace ?? ''}|${entry.name}`
      if (this.#visited.has(key)) continue
      this.#visited.add(key)
      const reads = this.#readsOf(entry)
      this.#readers.push({
        kind: entry.kind,
        name: entry.name,
        namespace: entry.namespace,
        file: entry.file,
        document: entry.document,
        root,
        paths: this.#sourcesOf(entry).map(source => source.folder),
        suspended: entry.kind === 'Kustomization' && entry.suspended,
        object: entry,
        reads,
      })
      if (reads.some(({ path }) => this.#writtenFiles.has(path))) queue.push(...this.#deliveredBy(entry))
    }
  }

  #readsOf(entry: Entry): readonly ReadFile[] {
    return this.#sourcesOf(entry).flatMap(source => this.#target(source).reads)
  }

  #target(source: Source) {
    const key = JSON.stringify([
      source.folder,
      source.overlay,
      source.mode,
      source.tree === this.#files ? '' : this.#treeKey(source.tree),
    ])
    const known = this.#targets.get(key)
    if (known !== undefined) return known
    const target = loadTarget(source.tree, source.folder, source.overlay, source.mode)
    const made = { target, reads: readFiles(target) }
    this.#targets.set(key, made)
    return made
  }

  #treeKey(tree: FileTree): string {
    for (const [key, known] of this.#trees) if (known === tree) return key
    return ''
  }

  /** Flux and Argo CD objects among what an entry applies. */
  #deliveredBy(entry: Entry): Entry[] {
    const found: Entry[] = []
    for (const source of this.#sourcesOf(entry)) {
      const { target, reads } = this.#target(source)
      for (const { object, file, document } of this.#objectsOf(source, target, reads)) {
        const child = fluxKustomizationOf(object, file, document) ?? applicationOf(object, file, document)
        if (child !== null) found.push(child)
      }
    }
    return found
  }

  #objectsOf(
    source: Source,
    target: Target,
    reads: readonly ReadFile[],
  ): readonly { object: ManifestObject; file: string; document: number }[] {
    try {
      if (source.mode === 'flux' || target.file !== null)
        return buildTarget(source.tree, target, { ...source.overlay, yamlOnly: true }).objects
    } catch {
      this.#notes.add(
        `${target.file ?? `${target.folder}/`}: does not build here, so objects in it count as they are written`,
      )
    }
    return reads.flatMap(({ path }) =>
      (this.#writtenFiles.has(path) ? (parsedFile(source.tree, path)?.documents ?? []) : []).flatMap(
        ({ value, document }) => (isManifest(value) ? [{ object: value, file: path, document }] : []),
      ),
    )
  }

  #sourcesOf(entry: Entry): readonly Source[] {
    return entry.kind === 'Kustomization'
      ? this.#fluxSource(entry)
      : entry.sources.flatMap(source => this.#argoSource(source))
  }

  #fluxSource(entry: FluxKustomization): readonly Source[] {
    if (entry.path === null) return []
    if (entry.source.kind !== 'GitRepository') {
      this.#notes.add(
        `${entry.file}: Kustomization ${entry.name} reads from ${entry.source.kind} ${entry.source.name}, which is taken to be another repository`,
      )
      return []
    }
    const repository = this.#repositoryOf(entry)
    if (repository !== null && repository.url !== null && !this.#isOwn(repository.url)) return []
    return [{ folder: entry.path, overlay: entry.overlay, mode: 'flux', tree: this.#treeOf(repository) }]
  }

  /** The GitRepository of a Kustomization: of several clusters' equally named ones, the one written nearest to it. */
  #repositoryOf(entry: FluxKustomization): FluxGitRepository | null {
    const namespace = entry.source.namespace ?? entry.namespace
    const named = this.#repositories.filter(
      repository =>
        repository.name === entry.source.name &&
        (repository.namespace === null || namespace === null || repository.namespace === namespace),
    )
    const near = (repository: FluxGitRepository) => commonFolders(repository.file, entry.file)
    return named.reduce<FluxGitRepository | null>(
      (best, each) => (best === null || near(each) > near(best) ? each : best),
      null,
    )
  }

  /** What of the repository Flux's artifact holds. */
  #treeOf(repository: FluxGitRepository | null): FileTree {
    const sourceIgnores = this.#sourceIgnores
    const sparse = repository?.sparseCheckout ?? []
    const ignore = repository?.ignore ?? ''
    if (sourceIgnores.length === 0 && sparse.length === 0 && ignore === '') return this.#files
    const key = JSON.stringify([sparse, ignore])
    const known = this.#trees.get(key)
    if (known !== undefined) return known
    // spec.ignore comes after the .sourceignore files, so that it may overrule them (source-controller, gitrepositories.md).
    const patterns: IgnorePattern[] = []
    for (const path of sourceIgnores) patterns.push(...ignorePatterns(this.#files.get(path) ?? '', folderOf(path)))
    patterns.push(...ignorePatterns(ignore))
    const folders = sparse.map(folder => folder.replace(/^\.?\/+/, '').replace(/\/+$/, ''))
    const tree = new Map(
      [...this.#files].filter(
        ([path]) =>
          !isIgnored(path, patterns) &&
          (folders.length === 0 || !path.includes('/') || folders.some(folder => isUnder(path, folder))),
      ),
    )
    shareParsed(this.#files, tree)
    this.#trees.set(key, tree)
    return tree
  }

  /** A folder of manifests may leave some out; a kustomization knows nothing of that. */
  #picked(source: ArgoSource, folder: string): FileTree {
    if (source.include === null && source.exclude === null) return this.#files
    if (kustomizationFile(this.#files, folder) !== null) return this.#files
    const key = JSON.stringify(['picked', folder, source.include, source.exclude])
    const known = this.#trees.get(key)
    if (known !== undefined) return known
    const from = folder === '' ? 0 : folder.length + 1
    const tree = new Map(
      [...this.#files].filter(([path]) => !isUnder(path, folder) || givesManifest(source, path.slice(from))),
    )
    shareParsed(this.#files, tree)
    this.#trees.set(key, tree)
    return tree
  }

  #argoSource(source: ArgoSource): readonly Source[] {
    if (source.path === null || (source.repoURL !== null && !this.#isOwn(source.repoURL))) return []
    // A chart's templates are no manifests; its values files are read, which is no concern here.
    if (this.#files.has(join(source.path, 'Chart.yaml'))) return []
    const mode = source.recurse ? 'recurse' : 'flat'
    return [{ folder: source.path, overlay: source.overlay, mode, tree: this.#picked(source, source.path) }]
  }
}

function rootText(entry: Entry): string {
  return `${entry.file}#${entry.kind} ${entry.namespace === null ? '' : `${entry.namespace}/`}${entry.name}`
}

function commonFolders(left: string, right: string): number {
  const one = left.split('/')
  const two = right.split('/')
  let count = 0
  while (count < one.length - 1 && count < two.length - 1 && one[count] === two[count]) count++
  return count
}

/** `host/path` without scheme, user, port or `.git`: ssh and https addresses of one repository are equal. */
export function repositoryAddress(url: string): string {
  return url
    .trim()
    .replace(/^[a-z+]+:\/\//i, '')
    .replace(/^[^@/]+@/, '')
    .replace(/^([^/:]+):(\d+\/)?/, '$1/')
    .replace(/\/+$/, '')
    .replace(/\.git$/, '')
    .toLowerCase()
}

/**
 * Which addresses mean the repository that `files` are of. Where they are not given: the sources of objects whose path
 * holds their own file, as `flux bootstrap` and an app of apps leave them; failing that, those whose paths exist here.
 */
function ownRepository(
  files: FileTree,
  repositories: readonly FluxGitRepository[],
  entries: readonly Entry[],
  given: readonly string[],
): (url: string) => boolean {
  const own = new Set(given.map(repositoryAddress))
  const plausible = new Set<string>()
  for (const entry of entries) {
    for (const { url, path } of entry.kind === 'Kustomization' ? fluxPlaces(entry, repositories) : argoPlaces(entry)) {
      if (isUnder(entry.file, path)) own.add(repositoryAddress(url))
      if (path !== '' && isFolder(files, path)) plausible.add(repositoryAddress(url))
    }
  }
  const known = own.size > 0 ? own : plausible
  return known.size === 0 ? () => true : url => known.has(repositoryAddress(url))
}

function fluxPlaces(
  entry: FluxKustomization,
  repositories: readonly FluxGitRepository[],
): { url: string; path: string }[] {
  const { path } = entry
  if (path === null || entry.source.kind !== 'GitRepository') return []
  return repositories.flatMap(({ name, url }) => (name === entry.source.name && url !== null ? [{ url, path }] : []))
}

function argoPlaces(entry: ArgoApplication): { url: string; path: string }[] {
  return entry.sources.flatMap(({ repoURL, path }) =>
    repoURL !== null && path !== null ? [{ url: repoURL, path }] : [],
  )
}

// ------------------------------------------------------------------------------------------------ who reaches it

export interface ReachedBy {
  readonly reader: Reader
  /** `component` only where nothing of the path is read in another way. */
  readonly how: ReadHow
  /** A file below the path that it reads, and what leads there. */
  readonly path: string
  readonly via: readonly string[]
}

/** Who reads anything at or below a path; one entry per reader. */
export function reachOf(found: Reach, path: string): readonly ReachedBy[] {
  const result: ReachedBy[] = []
  for (const reader of found.readers) {
    const reads = reader.reads.filter(read => isUnder(read.path, path))
    const shown = reads.find(read => read.how !== 'component') ?? reads[0]
    if (shown !== undefined) result.push({ reader, how: shown.how, path: shown.path, via: shown.via })
  }
  return result
}

export interface ReachedSite {
  readonly name: string
  readonly path: string
  readonly delivery: DeliveryChoice
}

/** Why the layout of the repository cannot be worked with. */
export interface ReachProblem {
  /** One phrase that names who reaches what. */
  readonly what: string
  readonly where: Where
  readonly expected: string
  readonly found: string
  readonly todo: string
  /** Null where it concerns no single site. */
  readonly site: string | null
}

export interface CheckReachOptions extends ReachOptions {
  readonly sites: readonly ReachedSite[]
  readonly rotationsFolder: string
}

/**
 * The resources of each site's folder must be reached by exactly one Kustomization or Application, the one that the
 * declaration names; its components by any number, as Components only; the rotations folder by none. Folders that do not
 * exist yet count as if they were there, except that then nothing needs to reach them.
 */
export function checkReach(files: FileTree, options: CheckReachOptions): readonly ReachProblem[] {
  const { sites, rotationsFolder } = options
  const absent = new Set(sites.filter(site => !isFolder(files, site.path)).map(site => site.name))
  const urls = [
    ...(options.repositoryURLs ?? []),
    ...sites.flatMap(({ delivery }) =>
      delivery.kind === 'argocd' && delivery.repoURL !== null ? [delivery.repoURL] : [],
    ),
  ]
  const tree = withProbes(
    files,
    sites.filter(site => absent.has(site.name)),
    rotationsFolder,
  )
  const found = reach(tree, { repositoryURLs: urls })
  const bySite = readersBySite(found, sites)
  return [
    ...rotationsProblems(found, rotationsFolder),
    ...sites.flatMap(site => siteProblems(site, bySite.get(site.name) ?? [], absent.has(site.name), files)),
    ...applicationSetProblems(files, sites, rotationsFolder),
  ]
}

const probeObject = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: reanchor-probe}\n'

/** What a site's folder and the rotations folder will hold, so that those who would apply it are found beforehand. */
function withProbes(files: FileTree, sites: readonly ReachedSite[], rotationsFolder: string): FileTree {
  const tree = new Map(files)
  shareParsed(files, tree)
  for (const folder of [
    ...sites.map(site => site.path),
    join(rotationsFolder, 'reanchor-probe/phases/0-adopt/1-adopt/probe'),
  ]) {
    tree.set(join(folder, 'kustomization.yaml'), 'resources: [canary.yaml]\n')
    tree.set(join(folder, 'canary.yaml'), probeObject)
    tree.set(
      join(folder, 'components/istiod/kustomization.yaml'),
      'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: []\n',
    )
  }
  return tree
}

/** In one pass over all reads: thousands of sites stay linear. */
function readersBySite(found: Reach, sites: readonly ReachedSite[]): ReadonlyMap<string, readonly ReachedBy[]> {
  const names = new Map(sites.map(site => [site.path, site.name]))
  const result = new Map<string, ReachedBy[]>()
  for (const reader of found.readers) {
    const shown = new Map<string, ReadFile>()
    for (const read of reader.reads) {
      for (let folder = read.path; folder !== ''; folder = folderOf(folder)) {
        const name = names.get(folder)
        if (name === undefined) continue
        const known = shown.get(name)
        if (known === undefined || (known.how === 'component' && read.how !== 'component')) shown.set(name, read)
      }
    }
    for (const [name, { how, path, via }] of shown)
      result.set(name, [...(result.get(name) ?? []), { reader, how, path, via }])
  }
  return result
}

function rotationsProblems(found: Reach, folder: string): readonly ReachProblem[] {
  return reachOf(found, folder).map(reached => ({
    what: `${readerText(reached.reader)} would apply what lies under ${folder}/`,
    where: whereOf(reached.reader),
    expected: `nothing reaches ${folder}/, which holds the sealed files of every phase`,
    found: chainText(reached),
    todo: narrowing(reached, folder),
    site: null,
  }))
}

function siteProblems(
  site: ReachedSite,
  reached: readonly ReachedBy[],
  absent: boolean,
  files: FileTree,
): readonly ReachProblem[] {
  const appliers = reached.filter(each => each.how !== 'component')
  const { delivery } = site
  const expected = `exactly one, ${deliveryText(delivery)}`
  const [only, ...others] = appliers
  if (only === undefined) {
    if (absent || delivery.file === null) return []
    const where: Where = { file: files.has(delivery.file) ? delivery.file : site.path }
    return [
      {
        what: `nothing applies ${site.path}, the folder of site ${site.name}`,
        where,
        expected,
        found: 'none',
        todo: hiddenHint(files, delivery),
        site: site.name,
      },
    ]
  }
  if (others.length > 0) {
    const culprit = appliers.find(each => !isDelivery(each.reader, delivery)) ?? others[0] ?? only
    return [
      {
        what: `${site.path}, the folder of site ${site.name}, is applied ${appliers.length} times: by ${appliers.map(each => readerText(each.reader)).join(' and by ')}`,
        where: whereOf(culprit.reader),
        expected,
        found: appliers.map(chainText).join('; '),
        todo: narrowing(culprit, site.path),
        site: site.name,
      },
    ]
  }
  if (isDelivery(only.reader, delivery)) return []
  return [
    {
      what: `${site.path}, the folder of site ${site.name}, is applied by ${readerText(only.reader)}`,
      where: whereOf(only.reader),
      expected,
      found: chainText(only),
      todo: absent
        ? narrowing(only, site.path)
        : `name ${readerText(only.reader)} as the delivery of site ${site.name} in rotation.yaml, or ${narrowing(only, site.path)}`,
      site: site.name,
    },
  ]
}

function isDelivery(reader: Reader, delivery: DeliveryChoice): boolean {
  const kind = delivery.kind === 'flux' ? 'Kustomization' : 'Application'
  return (
    reader.kind === kind &&
    reader.name === delivery.name &&
    (reader.namespace === null || reader.namespace === delivery.namespace) &&
    (delivery.file === null || reader.file === delivery.file)
  )
}

function deliveryText(delivery: DeliveryChoice): string {
  const kind = delivery.kind === 'flux' ? 'Kustomization' : 'Application'
  return `${kind} ${delivery.namespace}/${delivery.name}${delivery.file === null ? '' : ` of ${delivery.file}`}`
}

/** The likeliest reason why the named object does not reach the folder. */
function hiddenHint(files: FileTree, delivery: DeliveryChoice): string {
  const flux = fluxObjects(files)
  const named = flux.kustomizations.find(
    each => each.name === delivery.name && (delivery.file === null || each.file === delivery.file),
  )
  const source = named === undefined ? undefined : flux.repositories.find(each => each.name === named.source.name)
  if (source !== undefined && (source.ignore !== null || source.sparseCheckout.length > 0)) {
    return `GitRepository ${source.name} in ${source.file} leaves files out (${source.ignore === null ? 'spec.sparseCheckout' : 'spec.ignore'}): let it hold the folder`
  }
  return `point ${deliveryText(delivery)} at the folder`
}

function readerText(reader: Reader): string {
  const place = `${reader.kind} ${reader.namespace === null ? '' : `${reader.namespace}/`}${reader.name} (${reader.file})`
  return reader.suspended ? `${place}, suspended` : place
}

function whereOf(reader: Reader): Where {
  return {
    file: reader.file,
    object: `${reader.kind} ${reader.namespace === null ? '' : `${reader.namespace}/`}${reader.name}`,
  }
}

function chainText(reached: ReachedBy): string {
  return [readerText(reached.reader), ...reached.via, reached.path].join(' → ')
}

function narrowing(reached: ReachedBy, folder: string): string {
  const last = reached.via.at(-1)
  if (reached.how === 'directory' && last !== undefined) {
    return `give ${last} a kustomization.yaml that lists what it is to apply, or narrow the path of ${readerText(reached.reader)}`
  }
  if (last !== undefined) return `take ${folder} out of ${last}`
  return `narrow the path of ${readerText(reached.reader)}`
}

/** Generators of ApplicationSets that look at folders: a pattern that fits would make one more Application of the folder. */
function applicationSetProblems(
  files: FileTree,
  sites: readonly ReachedSite[],
  rotationsFolder: string,
): readonly ReachProblem[] {
  return argoObjects(files).applicationSets.flatMap(set =>
    set.paths.flatMap(path => {
      const pattern = folderPattern(path)
      if (pattern === null) return []
      const hit = [...sites.map(site => site.path), rotationsFolder].find(folder => pattern.test(folder))
      if (hit === undefined) return []
      return [
        {
          what: `ApplicationSet ${set.name} (${set.file}) may make an Application of ${hit}`,
          where: { file: set.file, object: `ApplicationSet ${set.name}` },
          expected: `no generator whose folders include ${hit}`,
          found: path,
          todo: `exclude ${hit} in the generator: {path: ${hit}, exclude: true}`,
          site: sites.find(site => site.path === hit)?.name ?? null,
        },
      ]
    }),
  )
}

/** Null for a path that is all template: what stands in it comes from a generator, whose own path is looked at. */
function folderPattern(path: string): RegExp | null {
  const literal = path.replace(/\{\{[^}]*\}\}/g, '*').replace(/^\.?\/+|\/+$/g, '')
  if (!literal.includes('*') || literal.replace(/[*/]/g, '') === '') return null
  return new RegExp(
    `^${literal
      .split('*')
      .map(part => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('[^/]*')}$`,
  )
}
