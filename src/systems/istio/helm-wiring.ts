import { posix } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type ArgoApplication, type ArgoSource, applicationOf, argoObjects } from '../../gitops/argocd.ts'
import { type FluxHelmRelease, fluxObjects, helmReleaseOf } from '../../gitops/flux.ts'
import {
  applicationValues,
  configMapsOf,
  type HelmValues,
  type IstiodInstaller,
  istiodInApplication,
  istiodInstallers,
  parsedValues,
  releaseValues,
  takesValues,
  valueAt,
  valueFilePath,
} from '../../gitops/helm.ts'
import { isPlain, type ManifestObject, type Plain, shareParsed } from '../../gitops/manifests.ts'
import { folderOf } from '../../gitops/paths.ts'
import { repositoryAddress } from '../../gitops/reach.ts'
import { builtObjects } from '../../gitops/wiring.ts'
import { applyWiring } from '../../gitops/yaml-edit.ts'
import type { Declaration, DocumentSelector, FileTree, Site, WiringPoint } from '../../rotation.ts'
import { helmValuesName } from './observe-objects.ts'
import { multirootSetting, xdsAgentSetting } from './phases.ts'
import { istioOf } from './settings.ts'

/** The HelmRelease or Application that installs istiod, and where its chart takes istiod's values. */
export interface HelmCarrier {
  readonly kind: 'helmRelease' | 'application'
  readonly file: string
  readonly name: string
  /** As it is written in the file; null: something else gives it. */
  readonly written: string | null
  /** As it is in the cluster, where the repository tells. */
  readonly namespace: string | null
  /** Keys of a chart that wraps istiod's. */
  readonly under: readonly string[]
}

/** Chart values that reanchor's steps set, below `HelmCarrier.under`. */
export const managedPaths: readonly (readonly string[])[] = [
  ['pilot', 'env', multirootSetting],
  ['meshConfig', 'defaultConfig', 'proxyMetadata', xdsAgentSetting],
  ['pilot', 'podAnnotations', 'reanchor.dev/trust'],
]

/** File in the site's folder that holds the values: for a HelmRelease within a ConfigMap, else by itself. */
const valuesFile = 'istiod-values.yaml'

// ------------------------------------------------------------------------------------------------------ the carrier

/** What installs istiod at a site. Null where that is no chart (Sail), or where the declaration does not say. */
export function helmCarrier(declaration: Declaration, site: Site, files: FileTree): HelmCarrier | null {
  const place = istioOf(declaration).controlPlane[site.name]
  if (place === undefined || istioOf(declaration).install === 'sail') return null
  const installer = installerOf(declaration, site, files)
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

function installerOf(declaration: Declaration, site: Site, files: FileTree): IstiodInstaller {
  const place = istioOf(declaration).controlPlane[site.name]
  if (place === undefined) throw new Error(`no control plane declared for ${site.name}`)
  const { install } = istioOf(declaration)
  if (install === 'helmValues') {
    const itself = istiodInstallers(files).filter(
      ({ object }) => object.file === place.file && object.name === place.name,
    )
    const [one] = itself
    return one !== undefined && itself.length === 1 ? one : userOfValues(site, place, files)
  }
  const kind = install === 'helmRelease' ? 'HelmRelease' : 'Application'
  const found = istiodInstallers(files).filter(
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
          ? `${kind} ${place.name} does not install the chart istiod`
          : `no ${kind} ${place.name} in this file`,
    where: { file: place.file, object: `${kind} ${place.name}` },
    expected: `the ${kind} that installs istiod, or a chart that wraps it`,
    ...(written && found.length === 0
      ? { found: 'another chart, or one whose Chart.yaml names no dependency istiod' }
      : {}),
    todo: `correct istio.controlPlane of site ${site.name} in rotation.yaml`,
  })
}

/** Of a values file: the one release or Application of istiod that takes it. */
function userOfValues(
  site: Site,
  place: { readonly file: string; readonly name: string },
  files: FileTree,
): IstiodInstaller {
  const users = istiodInstallers(files).filter(installer => takesValues(installer, place.file, files))
  const named = users.filter(({ object }) => object.name === place.name)
  const chosen = users.length === 1 ? users : named
  const [only] = chosen
  if (only !== undefined && chosen.length === 1) return only
  const found = users.map(({ object }) => `${object.kind} ${object.name} (${object.file})`)
  throw new ReanchorError({
    what:
      users.length === 0
        ? 'nothing in this repository installs istiod with this values file'
        : 'several objects install istiod with this values file',
    where: { file: place.file, field: `spec.istio.controlPlane.${site.name}` },
    expected:
      'one Argo CD Application with this file among its valueFiles, or one HelmRelease with it in valuesFiles or in a ConfigMap of valuesFrom',
    found: users.length === 0 ? 'none' : found.join(', '),
    todo: 'name the Application or HelmRelease of this site as istio.controlPlane; values that a person or a pipeline applies cannot be wired',
  })
}

/** The object as its cluster gets it: with what the kustomization of `folder`, or the Flux Kustomization of it, makes of it. */
function builtObject(files: FileTree, folder: string, installer: IstiodInstaller): ManifestObject | null {
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

const purpose = "lets the site's folder set istiod's flags and restart token"
const moved = 'inline values win, so this key moves into the site’s folder'

/** The edits by which a HelmRelease or an Application takes istiod's values from the site's folder. */
export function helmPoints(declaration: Declaration, site: Site, files: FileTree): readonly WiringPoint[] {
  const installer = installerOf(declaration, site, files)
  refuseShared(declaration, site, installer)
  return installer.kind === 'helmRelease'
    ? releasePoints(site, installer)
    : applicationPoints(declaration, site, installer, files)
}

/** The folder of one site cannot speak for another. A HelmRelease that several sites build reads each site's own ConfigMap. */
function refuseShared(declaration: Declaration, site: Site, installer: IstiodInstaller): void {
  if (installer.kind === 'helmRelease') return
  const { file, name } = installer.object
  const other = declaration.sites.find(each => {
    const place = istioOf(declaration).controlPlane[each.name]
    return each.name !== site.name && place?.file === file && place.name === name
  })
  if (other === undefined) return
  throw new ReanchorError({
    what: `sites ${site.name} and ${other.name} share one Application, which can read the values of one folder only`,
    where: { file, object: `Application ${name}` },
    expected: 'an Application for each site',
    todo: 'give each site an Application of its own, and name them as istio.controlPlane in rotation.yaml',
    exit: exitCodes.refused,
  })
}

function selectorOf(object: FluxHelmRelease | ArgoApplication): DocumentSelector {
  return { kind: object.kind, name: object.name, namespace: object.namespace }
}

function releasePoints(
  site: Site,
  installer: Extract<IstiodInstaller, { kind: 'helmRelease' }>,
): readonly WiringPoint[] {
  const { object, under } = installer
  const document = selectorOf(object)
  const points: WiringPoint[] = inlinePaths(object.values, under).map(path => ({
    site: site.name,
    file: object.file,
    purpose: moved,
    edit: { kind: 'remove', document, at: ['spec', 'values', ...path] },
  }))
  // The last of valuesFrom wins over those before it.
  points.push({
    site: site.name,
    file: object.file,
    purpose,
    edit: {
      kind: 'listItem',
      document,
      at: ['spec', 'valuesFrom'],
      value: { kind: 'ConfigMap', name: helmValuesName },
    },
  })
  return points
}

function inlinePaths(values: Plain, under: readonly string[]): readonly (readonly string[])[] {
  return managedPaths.map(path => [...under, ...path]).filter(path => valueAt(values, path) !== undefined)
}

/**
 * The values file is the last one that the chart takes: by its path where the chart lies in this repository, else through a
 * source that names this repository.
 */
function applicationPoints(
  declaration: Declaration,
  site: Site,
  installer: Extract<IstiodInstaller, { kind: 'application' }>,
  files: FileTree,
): readonly WiringPoint[] {
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
  refuseParameters(object, source, under)
  const values = `${site.path}/${valuesFile}`
  // From a chart in this repository a path leads to the site's folder.
  if (source.path !== null && isHere(site, source, source.path, files)) {
    const value = posix.relative(source.path, values)
    points.push(point(purpose, { kind: 'listItem', document, at: [...at, 'helm', 'valueFiles'], value }))
    return [...points, ...inlinePoints(object, source, under, at, point)]
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
  return [...points, ...inlinePoints(object, source, under, inList, point)]
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

/** Parameters win over everything, and a list of them cannot lose one without being written anew. */
function refuseParameters(object: ArgoApplication, source: ArgoSource, under: readonly string[]): void {
  const managed = managedPaths.map(path => [...under, ...path].map(key => key.replaceAll('.', '\\.')).join('.'))
  const taken = source.helm.parameters.find(({ name }) => managed.includes(name))
  if (taken === undefined) return
  throw new ReanchorError({
    what: `parameter ${taken.name} of the Application would win over the site's folder`,
    where: { file: object.file, object: `Application ${object.name}`, field: 'spec.source.helm.parameters' },
    expected: 'no parameter that sets what reanchor manages',
    found: `${taken.name}=${taken.value}`,
    todo: 'remove the parameter and write the value into a values file first',
    exit: exitCodes.refused,
  })
}

function inlinePoints(
  object: ArgoApplication,
  source: ArgoSource,
  under: readonly string[],
  at: readonly string[],
  point: (why: string, edit: WiringPoint['edit']) => WiringPoint,
): readonly WiringPoint[] {
  const document = selectorOf(object)
  if (source.helm.valuesObject !== null) {
    return inlinePaths(source.helm.valuesObject, under).map(path =>
      point(moved, { kind: 'remove', document, at: [...at, 'helm', 'valuesObject', ...path] }),
    )
  }
  const { values } = source.helm
  const paths = values === null ? [] : inlinePaths(parsedValues(values), under)
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
      (wired.has(application.file) && istiodInApplication(files, application) !== null) ||
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
export function changedValues(before: Plain, after: Plain, under: readonly string[] = []): readonly ValuesChange[] {
  const managed = managedPaths.map(path => [...under, ...path])
  const changes: ValuesChange[] = []
  for (const path of managed) {
    const old = valueAt(before, path)
    const now = valueAt(after, path)
    // The chart prints both: "true" and true are one value.
    if (old !== undefined && (now === undefined || String(old) !== String(now)))
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
  readonly declaration: Declaration
  readonly site: Site
  /** The base branch as it is. */
  readonly files: FileTree
  readonly points: readonly WiringPoint[]
  /** `istiod-values.yaml` of the step adopt. */
  readonly delivered: string
}

/**
 * Refuses a wiring after which istiod would be installed with other values than before. Both sides are read as the cluster gets
 * them: with every Component, patch and overlay of the kustomization that builds the object.
 */
export function refuseChangedValues(inputs: AdoptedValues): void {
  const { declaration, site, files, points, delivered } = inputs
  if (helmCarrier(declaration, site, files) === null) return
  const wired = wiredTree(files, points)
  // Wired by an earlier rotation: then its folder says what the values are, and no edit changes them.
  if (wired === null) return
  const place = istioOf(declaration).controlPlane[site.name]
  const before = valuesAt(declaration, site, files, null)
  const after = valuesAt(declaration, site, wired, delivered)
  if (place === undefined) return
  if (!after.reached) {
    throw new ReanchorError({
      what: 'the object that installs istiod would not take its values from the site’s folder',
      where: { file: place.file, object: `site ${site.name}` },
      expected: 'valuesFrom or valueFiles as the file has them, up to the cluster',
      found: `a kustomization of ${place.path === '' ? '.' : place.path} that replaces them`,
      todo: 'name the file that has the last word as istio.controlPlane of this site, or take the list out of the patch',
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
  const [first, ...rest] = changedValues(before.values, after.values, before.under)
  if (first === undefined) return
  const shown = [first, ...rest].map(
    ({ path, before: old, after: now }) =>
      `${path}: ${JSON.stringify(old) ?? 'unset'} becomes ${JSON.stringify(now) ?? 'unset'}`,
  )
  throw new ReanchorError({
    what: 'adopt would change the values that istiod is installed with',
    where: { file: place.file, object: `site ${site.name}`, field: first.path },
    expected: 'the same merged values before and after',
    found: shown.join('; '),
    todo: 'let the declared values and the running istiod agree first: what reanchor takes over is what runs now',
    exit: exitCodes.refused,
  })
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
  /** Managed values that are inline, and so win over the site's folder. */
  readonly overriding: readonly string[]
}

/** Values of istiod's installation at a site. `delivered`: what lies in the site's folder, null where nothing does yet. */
function valuesAt(declaration: Declaration, site: Site, files: FileTree, delivered: string | null): ValuesAt {
  const place = istioOf(declaration).controlPlane[site.name]
  const installer = installerOf(declaration, site, files)
  const object = builtObject(files, place?.path ?? '', installer) ?? installer.object.object
  if (installer.kind === 'helmRelease') {
    const release = helmReleaseOf(object, installer.object.file, 0) ?? installer.object
    const known = configMapsOf(files)
    const map = delivered === null ? null : parsedValues(delivered).data
    const own = isPlain(map) && typeof map['values.yaml'] === 'string' ? map['values.yaml'] : null
    const lookup = (kind: string, name: string, key: string): string | null =>
      name === helmValuesName ? own : known(kind, name, key)
    const reached = release.valuesFrom.at(-1)?.name === helmValuesName
    const overriding = inlinePaths(release.values, installer.under).map(path => path.join('.'))
    return { ...releaseValues(files, release, lookup), under: installer.under, reached, overriding }
  }
  const application = applicationOf(object, installer.object.file, 0) ?? installer.object
  const found = istiodInApplication(files, application)
  const source = found?.source ?? installer.source
  const path = `${site.path}/${valuesFile}`
  const tree = new Map(files)
  shareParsed(files, tree)
  if (delivered === null) tree.delete(path)
  else tree.set(path, delivered)
  const last = source.helm.valueFiles.at(-1)
  const reached = last !== undefined && valueFilePath(application, source, last) === path
  const inline = source.helm.valuesObject ?? parsedValues(source.helm.values ?? '')
  const overriding = inlinePaths(inline, installer.under).map(path => path.join('.'))
  return { ...applicationValues(tree, application, source), under: installer.under, reached, overriding }
}
