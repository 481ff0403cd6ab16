import { posix } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { exitCodes, ReanchorError } from '../errors.ts'
import { type ArgoApplication, type ArgoSource, applicationOf, argoObjects } from '../gitops/argocd.ts'
import { type FluxHelmRelease, fluxObjects, helmReleaseOf } from '../gitops/flux.ts'
import {
  applicationValues,
  type ChartInstaller,
  type ChartNames,
  chartInApplication,
  chartInstallers,
  configMapsOf,
  type HelmValues,
  parsedValues,
  releaseValues,
  takesValues,
  valueAt,
  valueFilePath,
} from '../gitops/helm.ts'
import { isPlain, type ManifestObject, type Plain, shareParsed } from '../gitops/manifests.ts'
import { folderOf } from '../gitops/paths.ts'
import { repositoryAddress } from '../gitops/reach.ts'
import { builtObjects } from '../gitops/wiring.ts'
import { applyWiring } from '../gitops/yaml-edit.ts'
import { holdsPrivateKey } from '../pki/pem.ts'
import type { Declaration, DocumentSelector, FileTree, Site, WiringPoint } from '../rotation.ts'

/** A chart of the user's whose values a site's folder sets, step by step. */
export interface HelmInstall {
  /** As in a sentence: `istiod`. */
  readonly title: string
  readonly charts: ChartNames
  /** Field of rotation.yaml that names what installs it: `istio.controlPlane`. */
  readonly field: string
  readonly how: 'helmRelease' | 'helmValues' | 'argoApplication'
  /** The object, or for `helmValues` the file of values, by site. */
  readonly places: Readonly<Record<string, HelmPlace>>
  /** What the folder sets: `istiod’s flags and restart token`. */
  readonly sets: string
  /** Chart values that steps set, below the keys of a chart that wraps this one. */
  readonly managed: readonly (readonly string[])[]
  /** ConfigMap that a HelmRelease takes the values from. */
  readonly valuesName: string
  /** File in the site's folder that holds them: for a HelmRelease within that ConfigMap, else by itself. */
  readonly valuesFile: string
  /** Secret that a HelmRelease takes single values from: their key in it, and their path in the chart's values. @default none */
  readonly secret?: {
    readonly name: string
    readonly values: readonly { readonly key: string; readonly path: readonly string[] }[]
  }
  /** Two values at a path that mean the same to the chart. @default the texts are equal */
  readonly same?: (path: readonly string[], before: unknown, after: unknown) => boolean
}

export interface HelmPlace {
  readonly file: string
  readonly name: string
  /** Folder whose kustomization builds the object. */
  readonly path: string
}

/** The HelmRelease or Application that installs a chart, and where that takes its values. */
export interface HelmCarrier {
  readonly kind: 'helmRelease' | 'application'
  readonly file: string
  readonly name: string
  /** As it is written in the file; null: something else gives it. */
  readonly written: string | null
  /** As it is in the cluster, where the repository tells. */
  readonly namespace: string | null
  /** Keys of a chart that wraps it. */
  readonly under: readonly string[]
}

// ------------------------------------------------------------------------------------------------------ the carrier

/** What installs the chart at a site. Throws where the repository does not show it. */
export function helmCarrier(install: HelmInstall, site: Pick<Site, 'name'>, files: FileTree): HelmCarrier {
  const place = placeOf(install, site)
  const installer = installerOf(install, site, files)
  const { object } = installer
  const built = builtObject(files, place.path, installer)
  return {
    kind: installer.kind,
    file: object.file,
    name: object.name,
    written: object.namespace,
    namespace: built?.metadata.namespace ?? object.namespace,
    under: installer.under,
  }
}

function placeOf(install: HelmInstall, site: Pick<Site, 'name'>): HelmPlace {
  const place = install.places[site.name]
  if (place === undefined) throw new Error(`${install.field} says nothing of ${site.name}`)
  return place
}

function installerOf(install: HelmInstall, site: Pick<Site, 'name'>, files: FileTree): ChartInstaller {
  const place = placeOf(install, site)
  const { title, how, charts } = install
  if (how === 'helmValues') {
    const itself = chartInstallers(files, charts).filter(
      ({ object }) => object.file === place.file && object.name === place.name,
    )
    const [one] = itself
    return one !== undefined && itself.length === 1 ? one : userOfValues(install, site, place, files)
  }
  const kind = how === 'helmRelease' ? 'HelmRelease' : 'Application'
  const found = chartInstallers(files, charts).filter(
    ({ object }) => object.file === place.file && object.name === place.name && object.kind === kind,
  )
  const [only] = found
  if (only !== undefined && found.length === 1) return only
  const written =
    kind === 'HelmRelease'
      ? fluxObjects(files).releases.some(each => each.file === place.file && each.name === place.name)
      : argoObjects(files).applications.some(each => each.file === place.file && each.name === place.name)
  throw new ReanchorError({
    what:
      found.length > 1
        ? `more than one ${kind} ${place.name} in this file`
        : written
          ? `${kind} ${place.name} does not install the chart ${title}`
          : `no ${kind} ${place.name} in this file`,
    where: { file: place.file, object: `${kind} ${place.name}` },
    expected: `the ${kind} that installs ${title}, or a chart that wraps it`,
    ...(written && found.length === 0
      ? { found: `another chart, or one whose Chart.yaml names no dependency ${title}` }
      : {}),
    todo: `correct ${install.field} of site ${site.name} in rotation.yaml`,
  })
}

/** Of a values file: the one release or Application of the chart that takes it. */
function userOfValues(
  install: HelmInstall,
  site: Pick<Site, 'name'>,
  place: { readonly file: string; readonly name: string },
  files: FileTree,
): ChartInstaller {
  const { title, field } = install
  const users = chartInstallers(files, install.charts).filter(installer => takesValues(installer, place.file, files))
  const named = users.filter(({ object }) => object.name === place.name)
  const chosen = users.length === 1 ? users : named
  const [only] = chosen
  if (only !== undefined && chosen.length === 1) return only
  const found = users.map(({ object }) => `${object.kind} ${object.name} (${object.file})`)
  throw new ReanchorError({
    what:
      users.length === 0
        ? `nothing in this repository installs ${title} with this values file`
        : `several objects install ${title} with this values file`,
    where: { file: place.file, field: `spec.${field}.${site.name}` },
    expected:
      'one Argo CD Application with this file among its valueFiles, or one HelmRelease with it in valuesFiles or in a ConfigMap of valuesFrom',
    found: users.length === 0 ? 'none' : found.join(', '),
    todo: `name the Application or HelmRelease of this site as ${field}; values that a person or a pipeline applies cannot be wired`,
  })
}

/** The object as its cluster gets it: with what the kustomization of `folder`, or the Flux Kustomization of it, makes of it. */
function builtObject(files: FileTree, folder: string, installer: ChartInstaller): ManifestObject | null {
  const { kind, name } = installer.object
  const flux = fluxObjects(files).kustomizations.filter(each => each.path === folder)
  const references = [
    ...flux.map(({ name, namespace, file }) => ({ kind: 'flux' as const, name, namespace, file })),
    { kind: 'folder' as const, path: folder },
  ]
  for (const reference of references) {
    try {
      const found = builtObjects(files, reference).objects.filter(
        ({ object }) => object.kind === kind && object.metadata.name === name,
      )
      const [only] = found
      if (only !== undefined && found.length === 1) return only.object
    } catch (error) {
      // A folder that does not build here is refused by what builds it; then the object counts as it is written.
      if (!(error instanceof ReanchorError)) throw error
    }
  }
  return null
}

// ------------------------------------------------------------------------------------------------------- the wiring

function purposeOf(install: HelmInstall): string {
  return `lets the site's folder set ${install.sets}`
}

const moved = 'inline values win, so this key moves into the site’s folder'

/** The edits by which a HelmRelease or an Application takes the chart's values from the site's folder. */
export function helmPoints(
  declaration: Declaration,
  install: HelmInstall,
  site: Site,
  files: FileTree,
): readonly WiringPoint[] {
  const installer = installerOf(install, site, files)
  refuseShared(declaration, install, site, installer)
  return installer.kind === 'helmRelease'
    ? releasePoints(install, site, installer)
    : applicationPoints(declaration, install, site, installer, files)
}

/** The folder of one site cannot speak for another. A HelmRelease that several sites build reads each site's own ConfigMap. */
function refuseShared(declaration: Declaration, install: HelmInstall, site: Site, installer: ChartInstaller): void {
  if (installer.kind === 'helmRelease') return
  const { file, name } = installer.object
  const other = declaration.sites.find(each => {
    const place = install.places[each.name]
    return each.name !== site.name && place?.file === file && place.name === name
  })
  if (other === undefined) return
  throw new ReanchorError({
    what: `sites ${site.name} and ${other.name} share one Application, which can read the values of one folder only`,
    where: { file, object: `Application ${name}` },
    expected: 'an Application for each site',
    todo: `give each site an Application of its own, and name them as ${install.field} in rotation.yaml`,
    exit: exitCodes.refused,
  })
}

function selectorOf(object: FluxHelmRelease | ArgoApplication): DocumentSelector {
  return { kind: object.kind, name: object.name, namespace: object.namespace }
}

function releasePoints(
  install: HelmInstall,
  site: Site,
  installer: Extract<ChartInstaller, { kind: 'helmRelease' }>,
): readonly WiringPoint[] {
  const { object, under } = installer
  const document = selectorOf(object)
  const points: WiringPoint[] = inlinePaths(install, object.values, under).map(path => ({
    site: site.name,
    file: object.file,
    purpose: moved,
    edit: { kind: 'remove', document, at: ['spec', 'values', ...path] },
  }))
  // The last of valuesFrom wins over those before it.
  for (const value of ownSources(install, under)) {
    points.push({
      site: site.name,
      file: object.file,
      purpose: purposeOf(install),
      edit: { kind: 'listItem', document, at: ['spec', 'valuesFrom'], value },
    })
  }
  return points
}

/** Entries of a HelmRelease's `valuesFrom` that name what lies in the site's folder. */
function ownSources(install: HelmInstall, under: readonly string[]): readonly Readonly<Record<string, string>>[] {
  const { valuesName, secret } = install
  const values = (secret?.values ?? []).map(({ key, path }) => ({
    kind: 'Secret',
    name: secret?.name ?? '',
    valuesKey: key,
    targetPath: pathText([...under, ...path]),
  }))
  return [{ kind: 'ConfigMap', name: valuesName }, ...values]
}

/** As `helm --set` and Flux's targetPath write a path. */
function pathText(path: readonly string[]): string {
  return path.map(key => key.replaceAll('.', '\\.')).join('.')
}

function inlinePaths(install: HelmInstall, values: Plain, under: readonly string[]): readonly (readonly string[])[] {
  return install.managed.map(path => [...under, ...path]).filter(path => valueAt(values, path) !== undefined)
}

/**
 * The values file is the last one that the chart takes: by its path where the chart lies in this repository, else through a
 * source that names this repository.
 */
function applicationPoints(
  declaration: Declaration,
  install: HelmInstall,
  site: Site,
  installer: Extract<ChartInstaller, { kind: 'application' }>,
  files: FileTree,
): readonly WiringPoint[] {
  const purpose = purposeOf(install)
  const { object, source, index, under } = installer
  const document = selectorOf(object)
  const point = (why: string, edit: WiringPoint['edit']): WiringPoint => ({
    site: site.name,
    file: object.file,
    purpose: why,
    edit,
  })
  const points: WiringPoint[] = []
  const at = index === null ? ['spec', 'source'] : ['spec', 'sources', String(index)]
  const values = `${site.path}/${install.valuesFile}`
  const inline = (inList: readonly string[]) => [
    ...parameterPoints(install, object, source, under, inList, point),
    ...inlinePoints(install, object, source, under, inList, point),
  ]
  // From a chart in this repository a path leads to the site's folder.
  if (source.path !== null && isHere(site, source, source.path, files)) {
    const value = posix.relative(source.path, values)
    points.push(point(purpose, { kind: 'listItem', document, at: [...at, 'helm', 'valueFiles'], value }))
    return [...points, ...inline(at)]
  }
  const repoURL = repositoryURL(site, object)
  const base = site.base ?? declaration.base
  const known = object.sources.find(
    each =>
      each.ref !== null &&
      each.repoURL !== null &&
      repositoryAddress(each.repoURL) === repositoryAddress(repoURL) &&
      [null, 'HEAD', base].includes(each.targetRevision),
  )
  const inList = index === null ? ['spec', 'sources', '0'] : at
  if (index === null) {
    points.push(
      point('Argo CD reads a values file of another repository only through `sources`', {
        kind: 'intoList',
        document,
        at: ['spec', 'source'],
        to: 'sources',
      }),
    )
  }
  const ref = known?.ref ?? freeReference(object)
  if (known === undefined || ref === ownReference) {
    refuseProject(object, repoURL, files)
    points.push(
      point('names this repository, so that the chart can take values from it', {
        kind: 'listItem',
        document,
        at: ['spec', 'sources'],
        value: known === undefined ? { repoURL, targetRevision: base, ref } : writtenSource(object, ref),
      }),
    )
  }
  points.push(
    point(purpose, { kind: 'listItem', document, at: [...inList, 'helm', 'valueFiles'], value: `$${ref}/${values}` }),
  )
  return [...points, ...inline(inList)]
}

function isHere(site: Site, source: ArgoSource, path: string, files: FileTree): boolean {
  const own = site.delivery.kind === 'argocd' ? site.delivery.repoURL : null
  if (own !== null && source.repoURL !== null) return repositoryAddress(own) === repositoryAddress(source.repoURL)
  return files.has(posix.join(path, 'Chart.yaml'))
}

const ownReference = 'reanchor'

function freeReference(object: ArgoApplication): string {
  return object.sources.some(each => each.ref === ownReference) ? `${ownReference}-fleet` : ownReference
}

/** A source that an earlier adopt wrote, as it stands. */
function writtenSource(object: ArgoApplication, ref: string): unknown {
  const { sources } = object.object.spec as { readonly sources?: readonly unknown[] }
  return sources?.find(each => isPlain(each) && each.ref === ref)
}

function repositoryURL(site: Site, object: ArgoApplication): string {
  const repoURL = site.delivery.kind === 'argocd' ? site.delivery.repoURL : null
  if (repoURL !== null) return repoURL
  throw new ReanchorError({
    what: 'the Application’s chart lies elsewhere, so it needs the address of this repository for a second source',
    where: { file: object.file, object: `Application ${object.name}` },
    expected: `delivery.argocd.repoURL of site ${site.name}`,
    found: 'none',
    todo: 'add repoURL to the site in rotation.yaml',
    example: 'delivery: {argocd: {application: argocd/trust, repoURL: https://git.example.com/platform/fleet.git}}',
  })
}

/** A project that does not allow this repository would make Argo CD refuse the whole Application. */
function refuseProject(object: ArgoApplication, repoURL: string, files: FileTree): void {
  const project = argoObjects(files).projects.find(each => each.name === object.project)
  if (project === undefined || project.sourceRepos.length === 0) return
  const allowed = project.sourceRepos.some(pattern => {
    const text = pattern
      .split('*')
      .map(part => repositoryAddress(part).replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')
    return pattern === '*' || new RegExp(`^${text}$`).test(repositoryAddress(repoURL))
  })
  if (allowed) return
  throw new ReanchorError({
    what: `AppProject ${project.name} does not let Application ${object.name} read this repository`,
    where: { file: project.file, object: `AppProject ${project.name}`, field: 'spec.sourceRepos' },
    expected: repoURL,
    found: project.sourceRepos.join(', '),
    todo: 'add the address to sourceRepos, in a change of its own',
    exit: exitCodes.refused,
  })
}

/** Parameters win over everything, so those that set what reanchor manages move into the site's folder; the others stay. */
function parameterPoints(
  install: HelmInstall,
  object: ArgoApplication,
  source: ArgoSource,
  under: readonly string[],
  at: readonly string[],
  point: (why: string, edit: WiringPoint['edit']) => WiringPoint,
): readonly WiringPoint[] {
  const document = selectorOf(object)
  const names = install.managed.map(path => pathText([...under, ...path]))
  const list = [...at, 'helm', 'parameters']
  const taken = source.helm.parameters.filter(({ name }) => names.includes(name))
  if (taken.length === 0) return []
  if (taken.length === source.helm.parameters.length) return [point(moved, { kind: 'remove', document, at: list })]
  return [...new Set(taken.map(({ name }) => name))].map(name =>
    point(moved, { kind: 'dropItem', document, at: list, key: 'name', value: name }),
  )
}

function inlinePoints(
  install: HelmInstall,
  object: ArgoApplication,
  source: ArgoSource,
  under: readonly string[],
  at: readonly string[],
  point: (why: string, edit: WiringPoint['edit']) => WiringPoint,
): readonly WiringPoint[] {
  const document = selectorOf(object)
  if (source.helm.valuesObject !== null) {
    return inlinePaths(install, source.helm.valuesObject, under).map(path =>
      point(moved, { kind: 'remove', document, at: [...at, 'helm', 'valuesObject', ...path] }),
    )
  }
  const { values } = source.helm
  const paths = values === null ? [] : inlinePaths(install, parsedValues(values), under)
  if (values === null || paths.length === 0) return []
  throw new ReanchorError({
    what: 'inline values of the Application would win over the site’s folder',
    where: { file: object.file, object: `Application ${object.name}`, field: `${at.join('.')}.helm.values` },
    expected: 'a text of values that does not set what reanchor manages',
    found: paths.map(path => path.join('.')).join(', '),
    todo: 'move these keys into a values file of the Application, or write the values as valuesObject, in a change of its own',
    exit: exitCodes.refused,
  })
}

/**
 * Argo CD looks at an Application with this annotation only when a path in it changed: the site's folder has to be among them
 * (argo-cd docs/operator-manual/high_availability.md, "Manifest Paths Annotation").
 */
export function manifestPathsPoints(
  charts: ChartNames,
  site: Site,
  files: FileTree,
  points: readonly WiringPoint[],
): readonly WiringPoint[] {
  const annotation = 'argocd.argoproj.io/manifest-generate-paths'
  if (![...files.values()].some(text => text.includes(annotation))) return []
  const wired = new Set(points.map(point => point.file))
  const folders = new Set(
    points.flatMap(point =>
      point.edit.kind === 'listItem' && point.edit.at.at(-1) === 'components' ? [folderOf(point.file)] : [],
    ),
  )
  return argoObjects(files).applications.flatMap(application => {
    const paths = application.object.metadata.annotations?.[annotation]
    if (
      paths === undefined ||
      (application.name === site.delivery.name && application.namespace === site.delivery.namespace)
    )
      return []
    const takes =
      (wired.has(application.file) && chartInApplication(files, application, charts) !== null) ||
      application.sources.some(({ path }) => path !== null && folders.has(path))
    if (!takes) return []
    const value = paths.split(';').includes(`/${site.path}`) ? paths : `${paths};/${site.path}`
    return [
      {
        site: site.name,
        file: application.file,
        purpose: 'Argo CD looks at this Application only when one of these paths changed',
        edit: { kind: 'set', document: selectorOf(application), at: ['metadata', 'annotations', annotation], value },
      },
    ]
  })
}

// ---------------------------------------------------------------------------------------------- equal before and after

export interface ValuesChange {
  readonly path: string
  readonly before: unknown
  readonly after: unknown
}

/**
 * Where values before and after `adopt` would differ. What reanchor manages may be new (it is what the cluster runs with now,
 * wherever that came from), but never another value or gone; everything else is equal. Pure.
 */
export function changedValues(
  install: Pick<HelmInstall, 'managed' | 'same'>,
  before: Plain,
  after: Plain,
  under: readonly string[] = [],
): readonly ValuesChange[] {
  const managed = install.managed.map(path => [...under, ...path])
  // The chart prints both: "true" and true are one value.
  const same = install.same ?? ((_path, old, now) => String(old) === String(now))
  const changes: ValuesChange[] = []
  for (const [index, path] of managed.entries()) {
    const old = valueAt(before, path)
    const now = valueAt(after, path)
    if (old !== undefined && (now === undefined || !same(install.managed[index] ?? path, old, now)))
      changes.push({ path: path.join('.'), before: old, after: now })
  }
  collectChanges(before, after, [], managed, changes)
  return changes
}

function collectChanges(
  before: unknown,
  after: unknown,
  path: readonly string[],
  managed: readonly (readonly string[])[],
  changes: ValuesChange[],
): void {
  if (managed.some(each => isDeepStrictEqual(each, path))) return
  const leadsToManaged = managed.some(
    each => each.length > path.length && path.every((key, index) => each[index] === key),
  )
  const maps =
    (isPlain(before) || (before === undefined && leadsToManaged)) &&
    (isPlain(after) || (after === undefined && leadsToManaged))
  if (!maps) {
    if (!isDeepStrictEqual(before, after)) changes.push({ path: path.join('.'), before, after })
    return
  }
  const [old, now] = [before ?? {}, after ?? {}] as [Plain, Plain]
  for (const key of new Set([...Object.keys(old), ...Object.keys(now)])) {
    collectChanges(old[key], now[key], [...path, key], managed, changes)
  }
}

export interface AdoptedValues {
  readonly install: HelmInstall
  readonly site: Site
  /** The base branch as it is. */
  readonly files: FileTree
  readonly points: readonly WiringPoint[]
  /** The values file of the step adopt. */
  readonly delivered: string
  /** What a HelmRelease takes from the Secret of the site's folder, by key, as it will be unsealed. @default {} */
  readonly secret?: Readonly<Record<string, string>>
}

/**
 * Refuses a wiring after which the chart would be installed with other values than before. Both sides are read as the cluster gets
 * them: with every Component, patch and overlay of the kustomization that builds the object.
 */
export function refuseChangedValues(inputs: AdoptedValues): void {
  const { install, site, files, points } = inputs
  const wired = wiredTree(files, points)
  // Wired by an earlier rotation: then its folder says what the values are, and no edit changes them.
  if (wired === null) return
  const place = placeOf(install, site)
  const before = valuesAt(install, site, files, null)
  const after = valuesAt(install, site, wired, inputs)
  if (!after.reached) {
    throw new ReanchorError({
      what: `the object that installs ${install.title} would not take its values from the site’s folder`,
      where: { file: place.file, object: `site ${site.name}` },
      expected: 'valuesFrom or valueFiles as the file has them, up to the cluster',
      found: `a kustomization of ${place.path === '' ? '.' : place.path} that replaces them`,
      todo: `name the file that has the last word as ${install.field} of this site, or take the list out of the patch`,
      exit: exitCodes.refused,
    })
  }
  const [over] = after.overriding
  if (over !== undefined) {
    throw new ReanchorError({
      what: 'a value that reanchor manages would win over the site’s folder',
      where: { file: place.file, object: `site ${site.name}`, field: over },
      expected: 'no layer after the site’s folder that sets it',
      found: `${over} is set after the site’s folder, by a patch on the way to the cluster`,
      todo: `take ${over} out of the patches that ${place.path === '' ? '.' : place.path} is built with`,
      exit: exitCodes.refused,
    })
  }
  const [first, ...rest] = changedValues(install, before.values, after.values, before.under)
  if (first === undefined) return
  const shown = [first, ...rest].map(
    ({ path, before: old, after: now }) => `${path}: ${valueText(old)} becomes ${valueText(now)}`,
  )
  throw new ReanchorError({
    what: `adopt would change the values that ${install.title} is installed with`,
    where: { file: place.file, object: `site ${site.name}`, field: first.path },
    expected: 'the same merged values before and after',
    found: shown.join('; '),
    todo: `let the declared values and the running ${install.title} agree first: what reanchor takes over is what runs now`,
    exit: exitCodes.refused,
  })
}

/** A value as an error may show it: values of charts hold private keys too. */
function valueText(value: unknown): string {
  const text = JSON.stringify(value) ?? 'unset'
  return holdsPrivateKey(text) ? '(a private key)' : text
}

/** What the chart is installed with now, below the keys of a chart that wraps it. */
export function presentValues(install: HelmInstall, site: Pick<Site, 'name' | 'path'>, files: FileTree): HelmValues {
  const { values, opaque, under } = valuesAt(install, site, files, null)
  const own = valueAt(values, under)
  return { values: isPlain(own) ? own : {}, opaque }
}

/** What it would be installed with if the site's folder were empty: a value that still stands here is in Git beside that folder. */
export function valuesBeside(
  install: HelmInstall,
  site: Pick<Site, 'name' | 'path'>,
  files: FileTree,
  points: readonly WiringPoint[],
): Plain {
  return presentValues(install, site, wiredTree(files, points) ?? files).values
}

/** The tree with the edits made; null where all of them hold already. */
function wiredTree(files: FileTree, points: readonly WiringPoint[]): FileTree | null {
  const tree = new Map(files)
  shareParsed(files, tree)
  let touched = false
  for (const point of points) {
    const { text, changed } = applyWiring(tree.get(point.file) ?? null, point.edit, point.file)
    if (!changed) continue
    tree.set(point.file, text)
    if (point.edit.kind !== 'create') touched = true
  }
  return touched ? tree : null
}

interface ValuesAt extends HelmValues {
  readonly under: readonly string[]
  /** The site's folder has its place among the values, the last of those that are not inline. */
  readonly reached: boolean
  /** Managed values that are inline or parameters, and so win over the site's folder. */
  readonly overriding: readonly string[]
}

/** Values of the chart's installation at a site. `folder`: what lies in the site's folder, null where nothing does yet. */
function valuesAt(
  install: HelmInstall,
  site: Pick<Site, 'name' | 'path'>,
  files: FileTree,
  folder: Pick<AdoptedValues, 'delivered' | 'secret'> | null,
): ValuesAt {
  const place = placeOf(install, site)
  const installer = installerOf(install, site, files)
  const object = builtObject(files, place.path, installer) ?? installer.object.object
  const delivered = folder?.delivered ?? null
  if (installer.kind === 'helmRelease') {
    const release = helmReleaseOf(object, installer.object.file, 0) ?? installer.object
    const known = configMapsOf(files)
    const map = delivered === null ? null : parsedValues(delivered).data
    const own = isPlain(map) && typeof map['values.yaml'] === 'string' ? map['values.yaml'] : null
    const lookup = (kind: string, name: string, key: string): string | null => {
      if (kind === 'Secret' && name === install.secret?.name) return folder?.secret?.[key] ?? null
      return name === install.valuesName ? own : known(kind, name, key)
    }
    const wanted = ownSources(install, installer.under).map(({ name }) => name)
    const last = release.valuesFrom.slice(-wanted.length).map(({ name }) => name)
    const reached = isDeepStrictEqual(last, wanted)
    const overriding = inlinePaths(install, release.values, installer.under).map(path => path.join('.'))
    return { ...releaseValues(files, release, lookup), under: installer.under, reached, overriding }
  }
  const application = applicationOf(object, installer.object.file, 0) ?? installer.object
  const found = chartInApplication(files, application, install.charts)
  const source = found?.source ?? installer.source
  const path = `${site.path}/${install.valuesFile}`
  const tree = new Map(files)
  shareParsed(files, tree)
  if (delivered === null) tree.delete(path)
  else tree.set(path, delivered)
  const last = source.helm.valueFiles.at(-1)
  const reached = last !== undefined && valueFilePath(application, source, last) === path
  const inline = source.helm.valuesObject ?? parsedValues(source.helm.values ?? '')
  const parameters = source.helm.parameters.map(({ name }) => name)
  const named = install.managed.map(each => pathText([...installer.under, ...each]))
  const overriding = [
    ...inlinePaths(install, inline, installer.under).map(each => each.join('.')),
    ...named.filter(name => parameters.includes(name)),
  ]
  return { ...applicationValues(tree, application, source), under: installer.under, reached, overriding }
}
