import { parseAllDocuments, type ScalarTag, type Tags } from 'yaml'
import type { FileTree } from '../rotation.ts'
import { type ArgoApplication, type ArgoSource, applicationOf, argoObjects } from './argocd.ts'
import { type FluxHelmRelease, fluxObjects, helmReleaseOf } from './flux.ts'
import { at, isPlain, listAt, type ManifestObject, type Plain, parsedFile, stringsAt, textAt } from './manifests.ts'
import { folderOf, fromRoot, inRepository, join } from './paths.ts'

/** What a release is installed with, as far as the repository tells; the chart's own defaults are not part of it. */
export interface HelmValues {
  readonly values: Plain
  /** Sources of values that the repository does not show: Secrets, other repositories. */
  readonly opaque: readonly string[]
}

/**
 * Deep merge of values that a user gives, as Helm and Flux do it: maps key by key, everything else is replaced, by null too
 * (helm pkg/cli/values, mergeMaps; fluxcd/pkg chartutil MergeMaps).
 */
export function mergeValues(base: Plain, over: Plain): Plain {
  const result: Plain = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const own = Object.hasOwn(result, key) ? result[key] : undefined
    const merged = isPlain(own) && isPlain(value) ? mergeValues(own, value) : value
    Object.defineProperty(result, key, { value: merged, enumerable: true, configurable: true, writable: true })
  }
  return result
}

/**
 * The values of a chart under those of its user: null takes a key of the chart's away, and stays where the chart has none
 * (helm pkg/chartutil/coalesce.go, coalesceValues).
 */
export function withDefaults(chart: Plain, user: Plain): Plain {
  const result = mergeValues(chart, user)
  for (const [key, own] of Object.entries(chart)) {
    if (!Object.hasOwn(user, key)) continue
    const over = user[key]
    if (over === null) delete result[key]
    else if (isPlain(own) && isPlain(over)) {
      const value = withDefaults(own, over)
      Object.defineProperty(result, key, { value, enumerable: true, configurable: true, writable: true })
    }
  }
  return result
}

/** The value at a path of keys, or undefined. */
export function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((here, key) => (isPlain(here) && Object.hasOwn(here, key) ? here[key] : undefined), value)
}

/** Values as YAML text, as Helm reads it; what is no map counts as none. */
export function parsedValues(text: string): Plain {
  try {
    const [document] = parseAllDocuments(text, { version: '1.1', uniqueKeys: false, customTags: helmTags })
    if (document === undefined || !('toJS' in document) || document.errors.length > 0) return {}
    const value: unknown = document.toJS({ maxAliasCount: 100 })
    return isPlain(value) ? value : {}
  } catch {
    // Aliases that unfold without bound.
    return {}
  }
}

/**
 * What sigs.k8s.io/yaml, and with it Helm 3, makes of scalars: YAML 1.1 as Go has it. `012` is 10 and `yes` is true; but times and numbers
 * to the base of 60 stay text, and `0o12` is a number (goyaml.v2, resolve.go).
 */
function helmTags(tags: Tags): Tags {
  const kept = tags.filter(
    tag => typeof tag === 'object' && !/:(int|float|timestamp|binary|set|omap|pairs)$/.test(tag.tag),
  )
  return [...kept, goInteger, goFloat, goBinary]
}

const goInteger: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  test: /^[-+]?(?:0[xX][\da-fA-F_]*[\da-fA-F][\da-fA-F_]*|0[bB]_*[01][01_]*|0[oO]_*[0-7][0-7_]*|\d[\d_]*)$/,
  resolve(text) {
    const [, sign = '', digits = ''] = /^([-+]?)(.*)$/.exec(text.replaceAll('_', '')) ?? []
    const size = Number(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits)
    return sign === '-' && size !== 0 ? -size : size
  },
}

const goFloat: ScalarTag = {
  tag: 'tag:yaml.org,2002:float',
  default: true,
  test: /^[-+]?(?:\.\d[\d_]*|\d[\d_]*(?:\.[\d_]*)?)(?:[eE][-+]?\d+)?$/,
  resolve(text) {
    const value = Number(text.replaceAll('_', ''))
    // A number that does not fit stays text.
    return Number.isFinite(value) ? value : text
  },
}

const goBinary: ScalarTag = {
  tag: 'tag:yaml.org,2002:binary',
  resolve: text => Buffer.from(text, 'base64').toString(),
}

/** Puts a value at `a.b\.c.d`, as `helm --set` and Flux's targetPath do. False where the path is of another form. */
function setAtPath(values: Plain, path: string, value: unknown): Plain | null {
  if (/[[\],{}=]/.test(path)) return null
  const keys = path.split(/(?<!\\)\./).map(key => key.replaceAll('\\.', '.'))
  if (keys.includes('')) return null
  return mergeValues(values, keys.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as Plain)
}

/** What `helm --set` makes of a text (helm pkg/strvals, typedVal). */
function typedValue(text: string): unknown {
  const word = text.toLowerCase()
  if (word === 'true') return true
  if (word === 'false') return false
  if (word === 'null') return null
  return /^(?:0|[+-]?[1-9]\d*)$/.test(text) ? Number(text) : text
}

// ------------------------------------------------------------------------------------------------------ which chart

interface ChartPlace {
  /** Name of a chart elsewhere; for a path its last part. */
  readonly name: string | null
  /** Folder of this repository that may hold the chart. */
  readonly folder: string | null
}

/** Names under which one chart is published. */
export type ChartNames = ReadonlySet<string>

/** Whether any chart at all is installed from this place: a folder without a Chart.yaml is none. */
function chartUnder(files: FileTree, place: ChartPlace, charts: ChartNames): readonly string[] | null {
  const chart = place.folder === null ? undefined : parsedFile(files, join(place.folder, 'Chart.yaml'))?.documents[0]
  if (chart === undefined) return charts.has(place.name ?? '') ? [] : null
  if (charts.has(textAt(chart.value, 'name') ?? '')) return []
  const dependency = listAt(chart.value, 'dependencies').find(each => charts.has(textAt(each, 'name') ?? ''))
  if (dependency === undefined) return null
  return [textAt(dependency, 'alias') ?? textAt(dependency, 'name') ?? '']
}

/** Keys under which a HelmRelease takes the values of a chart (of a chart that wraps it: its name there); null: it installs another. */
function chartInRelease(files: FileTree, release: FluxHelmRelease, charts: ChartNames): readonly string[] | null {
  if (release.chart === null) return chartUnder(files, { name: release.chartRef?.name ?? null, folder: null }, charts)
  const kind = textAt(release.object, 'spec', 'chart', 'spec', 'sourceRef', 'kind')
  const folder = kind === 'GitRepository' || kind === 'Bucket' ? fromRoot(release.chart) : null
  return chartUnder(files, { name: lastPart(release.chart), folder }, charts)
}

function lastPart(path: string): string | null {
  return path.replace(/\/+$/, '').split('/').at(-1) ?? null
}

export interface ChartSource {
  /** Its place in `spec.sources`; null: it is `spec.source`. */
  readonly index: number | null
  readonly source: ArgoSource
  /** Keys of a chart that wraps it. */
  readonly under: readonly string[]
}

/** The source of an Application that installs a chart, or null. */
export function chartInApplication(
  files: FileTree,
  application: ArgoApplication,
  charts: ChartNames,
): ChartSource | null {
  for (const [index, source] of application.sources.entries()) {
    const oci = source.repoURL?.startsWith('oci://') === true ? lastPart(source.repoURL) : null
    const name = source.chart ?? oci ?? (source.path === null ? null : lastPart(source.path))
    const isChart = source.chart !== null || oci !== null || source.path === null
    const folder = source.path
    // A folder of this repository without a Chart.yaml holds manifests, whatever its name.
    if (!isChart && folder !== null && !files.has(join(folder, 'Chart.yaml')) && hasFiles(files, folder)) continue
    const under = chartUnder(files, { name, folder }, charts)
    if (under !== null) return { index: application.multiSource ? index : null, source, under }
  }
  return null
}

function hasFiles(files: FileTree, folder: string): boolean {
  for (const path of files.keys()) if (path.startsWith(`${folder}/`)) return true
  return false
}

// ----------------------------------------------------------------------------------------------------------- values

/** What a HelmRelease installs its chart with: valuesFrom in order, then inline values, which win. */
export function releaseValues(
  files: FileTree,
  release: FluxHelmRelease,
  lookup: (kind: string, name: string, key: string) => string | null,
): HelmValues {
  const opaque: string[] = []
  // These take the place of the chart's own values.
  let defaults: Plain = {}
  for (const path of listAt(release.object, 'spec', 'chart', 'spec', 'valuesFiles')) {
    const file = typeof path === 'string' ? fromRoot(path) : null
    const text = file === null ? undefined : files.get(file)
    if (text === undefined) opaque.push(`values file ${String(path)}`)
    else defaults = mergeValues(defaults, parsedValues(text))
  }
  let values: Plain = {}
  for (const { kind, name, key, targetPath } of release.valuesFrom) {
    const text = lookup(kind, name, key)
    const next =
      text === null
        ? null
        : targetPath === null
          ? mergeValues(values, parsedValues(text))
          : setAtPath(values, targetPath, text)
    if (next === null) opaque.push(`${kind} ${name}`)
    else values = next
  }
  return { values: withDefaults(defaults, mergeValues(values, release.values)), opaque }
}

/** File of this repository that an entry of `valueFiles` names; null: it lies elsewhere. */
export function valueFilePath(application: ArgoApplication, source: ArgoSource, entry: string): string | null {
  const reference = /^\$([^/]+)\/(.*)$/.exec(entry)
  if (reference !== null) {
    const target = application.sources.find(each => each.ref === reference[1])
    return target === undefined ? null : fromRoot(reference[2] ?? '')
  }
  if (source.path === null || /^[a-z]+:\/\//i.test(entry)) return null
  // Argo CD takes an absolute path from the repository's root.
  return entry.startsWith('/') ? fromRoot(entry) : inRepository(source.path, entry)
}

/**
 * What an Application installs a chart with: the value files in order, then `values` (or `valuesObject`, which replaces it),
 * then parameters (argo-cd docs/user-guide/helm.md, "Helm Value Precedence").
 */
export function applicationValues(files: FileTree, application: ArgoApplication, source: ArgoSource): HelmValues {
  const opaque: string[] = []
  const own = source.path === null ? undefined : files.get(join(source.path, 'values.yaml'))
  let values: Plain = {}
  for (const entry of source.helm.valueFiles) {
    const path = valueFilePath(application, source, entry)
    const text = path === null ? undefined : files.get(path)
    if (text === undefined) opaque.push(`values file ${entry}`)
    else values = mergeValues(values, parsedValues(text))
  }
  const inline = source.helm.valuesObject ?? (source.helm.values === null ? {} : parsedValues(source.helm.values))
  values = mergeValues(values, inline)
  for (const { name, value, forceString } of source.helm.parameters) {
    const next = setAtPath(values, name, forceString ? value : typedValue(value))
    if (next === null) opaque.push(`parameter ${name}`)
    else values = next
  }
  return { values: own === undefined ? values : withDefaults(parsedValues(own), values), opaque }
}

/** The values that an object gives a chart; null: it is no HelmRelease and no Application of it. */
export function chartValuesOf(
  files: FileTree,
  object: ManifestObject,
  file: string,
  charts: ChartNames,
): HelmValues | null {
  const application = applicationOf(object, file, 0)
  const found = application === null ? null : chartInApplication(files, application, charts)
  if (application !== null && found !== null)
    return below(applicationValues(files, application, found.source), found.under)
  const release = helmReleaseOf(object, file, 0)
  const under = release === null ? null : chartInRelease(files, release, charts)
  if (release === null || under === null) return null
  return below(releaseValues(files, release, configMapsOf(files)), under)
}

function below(found: HelmValues, under: readonly string[]): HelmValues {
  const values = valueAt(found.values, under)
  return { values: isPlain(values) ? values : {}, opaque: found.opaque }
}

/** Texts of the ConfigMaps that are written in the repository under a name that stands there once. */
export function configMapsOf(files: FileTree): (kind: string, name: string, key: string) => string | null {
  return (kind, name, key) => {
    if (kind !== 'ConfigMap') return null
    const texts: string[] = []
    for (const [path, text] of files) {
      if (!/\.ya?ml$/.test(path) || !text.includes(name) || !text.includes('ConfigMap')) continue
      for (const { value } of parsedFile(files, path)?.documents ?? []) {
        if (textAt(value, 'kind') !== 'ConfigMap' || textAt(value, 'metadata', 'name') !== name) continue
        const found = at(value, 'data', key)
        if (typeof found === 'string') texts.push(found)
      }
    }
    return texts.length === 1 ? (texts[0] ?? null) : null
  }
}

// --------------------------------------------------------------------------------------------------- who installs it

/** A HelmRelease or Application that installs a chart. */
export type ChartInstaller =
  | { readonly kind: 'helmRelease'; readonly object: FluxHelmRelease; readonly under: readonly string[] }
  | {
      readonly kind: 'application'
      readonly object: ArgoApplication
      readonly source: ArgoSource
      readonly index: number | null
      readonly under: readonly string[]
    }

/** Every one that stands in the repository. */
export function chartInstallers(files: FileTree, charts: ChartNames): readonly ChartInstaller[] {
  const releases = fluxObjects(files).releases.flatMap((object): ChartInstaller[] => {
    const under = chartInRelease(files, object, charts)
    return under === null ? [] : [{ kind: 'helmRelease', object, under }]
  })
  const applications = argoObjects(files).applications.flatMap((object): ChartInstaller[] => {
    const found = chartInApplication(files, object, charts)
    return found === null ? [] : [{ kind: 'application', object, ...found }]
  })
  return [...releases, ...applications]
}

/** Whether a file of the repository is among the values that it gives the chart. */
export function takesValues(installer: ChartInstaller, file: string, files: FileTree): boolean {
  if (installer.kind === 'application') {
    return installer.object.sources.some(source =>
      source.helm.valueFiles.some(entry => valueFilePath(installer.object, source, entry) === file),
    )
  }
  const { object } = installer.object
  if (stringsAt(object, 'spec', 'chart', 'spec', 'valuesFiles').some(path => fromRoot(path) === file)) return true
  return installer.object.valuesFrom.some(({ kind, name }) => kind === 'ConfigMap' && generatesFrom(files, name, file))
}

/** Whether a kustomization generates ConfigMap `name` from the file. */
function generatesFrom(files: FileTree, name: string, file: string): boolean {
  for (const [path, text] of files) {
    if (!text.includes('configMapGenerator') || !text.includes(name)) continue
    const base = folderOf(path)
    const generators = parsedValues(text).configMapGenerator
    if (!Array.isArray(generators)) continue
    for (const generator of generators) {
      if (textAt(generator, 'name') !== name) continue
      const inputs = stringsAt(generator, 'files').map(entry => entry.slice(entry.indexOf('=') + 1))
      if (inputs.some(input => inRepository(base, input) === file)) return true
    }
  }
  return false
}
