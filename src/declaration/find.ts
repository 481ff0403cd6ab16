import { ReanchorError } from '../errors.ts'
import { applicationOf as readApplication } from '../gitops/argocd.ts'
import { chartValuesOf, valueFilePath } from '../gitops/helm.ts'
import { buildKustomization } from '../gitops/kustomize.ts'
import { kustomizationFile } from '../gitops/kustomize-load.ts'
import {
  at,
  groupOf,
  isManifest,
  isYamlPath,
  listAt,
  type ManifestObject,
  parsedFile,
  textAt,
} from '../gitops/manifests.ts'
import { fromRoot } from '../gitops/paths.ts'
import { rotationAnnotation } from '../names.ts'
import type { FileTree } from '../rotation.ts'
import { istiodCharts } from '../systems/istio/istiod-chart.ts'
import type { IstioInstall } from '../systems/istio/settings.ts'
import { parseDuration } from './values.ts'

/** What `init` can tell from the repository alone. Everything is as it stands in files; nothing here was seen in a cluster. */
export interface Findings {
  readonly controlPlanes: readonly FoundControlPlane[]
  readonly kustomizations: readonly FoundDeliverer[]
  readonly applications: readonly FoundDeliverer[]
  /** Files with a ztunnel, which only an ambient mesh has. */
  readonly ambient: readonly string[]
  /** Text of .sops.yaml in the repository's root. */
  readonly sopsRules: string | null
  /** PEM files that look like the public certificate of a SealedSecrets controller. */
  readonly sealingCertificates: readonly string[]
  /** Kustomizations and Applications that could not be built, and why: what they deliver is not known. */
  readonly unread: readonly string[]
}

export interface FoundControlPlane {
  readonly install: IstioInstall
  readonly file: string
  readonly name: string
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly trustDomain: string | null
  /** SECRET_TTL of the proxies, where the mesh sets one. */
  readonly leafTTL: string | null
}

/** A Flux Kustomization or an Argo CD Application. */
export interface FoundDeliverer {
  readonly namespace: string
  readonly name: string
  readonly file: string
  /** Folder that it applies, '' for the root; null where it applies no folder of this repository. */
  readonly folder: string | null
  /** Flux: the GitRepository. Argo CD: null. */
  readonly source: { readonly namespace: string; readonly name: string } | null
  /** Argo CD: the repository's address and project. Flux: null. */
  readonly repoURL: string | null
  readonly project: string | null
  /** Files of the objects that it applies. */
  readonly files: ReadonlySet<string>
  /** Kinds of the workloads that it applies, without those of Flux itself. */
  readonly workloads: readonly WorkloadKind[]
}

export type WorkloadKind = 'Deployment' | 'StatefulSet' | 'DaemonSet'
const workloadKinds: readonly WorkloadKind[] = ['Deployment', 'StatefulSet', 'DaemonSet']

interface Located {
  readonly file: string
  readonly object: ManifestObject
}

/** What reanchor itself rendered for an earlier rotation is no declaration of the user's. */
function isRendered(object: ManifestObject): boolean {
  return object.metadata.annotations?.[rotationAnnotation] !== undefined
}

export function findInRepository(files: FileTree): Findings {
  const kinds = ['Istio', 'HelmRelease', 'Kustomization', 'Application', 'ZTunnel']
  const objects: Located[] = []
  for (const [file, text] of files) {
    if (!isYamlPath(file) || file.startsWith('rotations/')) continue
    // A look at the text is far cheaper than parsing every file of a large repository.
    if (!kinds.some(kind => text.includes(kind))) continue
    for (const { value } of parsedFile(files, file)?.documents ?? [])
      if (isManifest(value) && !isRendered(value)) objects.push({ file, object: value })
  }
  const unread: string[] = []
  return {
    controlPlanes: objects.flatMap(found => controlPlaneOf(found, files)),
    kustomizations: objects.flatMap(found => kustomizationOf(found, files, unread)),
    applications: objects.flatMap(found => applicationOf(found, files, unread)),
    ambient: [...new Set(objects.filter(isZtunnel).map(found => found.file))],
    sopsRules: files.get('.sops.yaml') ?? null,
    sealingCertificates: [...files]
      .filter(
        ([path, text]) =>
          /seal/i.test(path) && /\.(pem|crt|cert)$/.test(path) && text.includes('-----BEGIN CERTIFICATE-----'),
      )
      .map(([path]) => path),
    unread,
  }
}

function isKind(object: ManifestObject, group: string, kind: string): boolean {
  return object.kind === kind && groupOf(object.apiVersion) === group
}

/** Name of the Helm chart that a HelmRelease or an Application installs, or null. */
function chartOf(object: ManifestObject): string | null {
  if (isKind(object, 'helm.toolkit.fluxcd.io', 'HelmRelease')) {
    return textAt(object, 'spec', 'chart', 'spec', 'chart') ?? textAt(object, 'spec', 'chartRef', 'name')
  }
  if (!isKind(object, 'argoproj.io', 'Application')) return null
  const sources = [at(object, 'spec', 'source'), ...listAt(object, 'spec', 'sources')]
  return sources.map(source => textAt(source, 'chart')).find(chart => chart !== null) ?? null
}

function isZtunnel({ object }: Located): boolean {
  return isKind(object, 'sailoperator.io', 'ZTunnel') || chartOf(object) === 'ztunnel'
}

function controlPlaneOf({ file, object }: Located, files: FileTree): readonly FoundControlPlane[] {
  const name = object.metadata.name
  if (isKind(object, 'sailoperator.io', 'Istio')) {
    const namespace = textAt(object, 'spec', 'namespace') ?? 'istio-system'
    return [{ install: 'sail', file, name, namespace, ...meshOf(at(object, 'spec', 'values')) }]
  }
  // Null for a release of another chart, which is most of what a repository holds.
  const found = chartValuesOf(files, object, file, istiodCharts)
  if (found === null) return []
  const install = object.kind === 'HelmRelease' ? 'helmRelease' : 'argoApplication'
  const target =
    install === 'helmRelease'
      ? (textAt(object, 'spec', 'targetNamespace') ?? object.metadata.namespace)
      : textAt(object, 'spec', 'destination', 'namespace')
  return [{ install, file, name, namespace: target ?? 'istio-system', ...meshOf(found.values) }]
}

function meshOf(values: unknown): Pick<FoundControlPlane, 'trustDomain' | 'leafTTL'> {
  const leafTTL = textAt(values, 'meshConfig', 'defaultConfig', 'proxyMetadata', 'SECRET_TTL')
  return {
    trustDomain: textAt(values, 'meshConfig', 'trustDomain'),
    leafTTL: leafTTL !== null && parseDuration(leafTTL) !== null ? leafTTL : null,
  }
}

function kustomizationOf({ file, object }: Located, files: FileTree, unread: string[]): readonly FoundDeliverer[] {
  if (!isKind(object, 'kustomize.toolkit.fluxcd.io', 'Kustomization')) return []
  const namespace = object.metadata.namespace ?? 'flux-system'
  const folder = fromRoot(textAt(object, 'spec', 'path') ?? '')
  const source = {
    namespace: textAt(object, 'spec', 'sourceRef', 'namespace') ?? namespace,
    name: textAt(object, 'spec', 'sourceRef', 'name') ?? 'flux-system',
  }
  const built = builtBy(`Kustomization ${namespace}/${object.metadata.name}`, folder, 'flux', files, unread)
  return [{ namespace, name: object.metadata.name, file, folder, source, repoURL: null, project: null, ...built }]
}

function applicationOf({ file, object }: Located, files: FileTree, unread: string[]): readonly FoundDeliverer[] {
  if (!isKind(object, 'argoproj.io', 'Application')) return []
  const namespace = object.metadata.namespace ?? 'argocd'
  const sources = [at(object, 'spec', 'source'), ...listAt(object, 'spec', 'sources')]
  const source = sources.find(each => textAt(each, 'path') !== null && textAt(each, 'chart') === null)
  const path = textAt(source, 'path')
  const folder = path === null ? null : fromRoot(path)
  const isChart = folder !== null && files.has(folder === '' ? 'Chart.yaml' : `${folder}/Chart.yaml`)
  const here = folder !== null && [...files.keys()].some(each => each.startsWith(folder === '' ? '' : `${folder}/`))
  const mode = at(source, 'directory', 'recurse') === true ? 'recurse' : 'flat'
  // A chart's templates are no manifests: what it makes is Helm's to tell.
  const built =
    here && !isChart
      ? builtBy(`Application ${namespace}/${object.metadata.name}`, folder, mode, files, unread)
      : { files: new Set<string>(), workloads: [] }
  return [
    {
      namespace,
      name: object.metadata.name,
      file,
      folder: here && !isChart ? folder : null,
      source: null,
      repoURL: here ? textAt(source, 'repoURL') : valuesRepository(object, file, files),
      project: textAt(object, 'spec', 'project'),
      ...built,
    },
  ]
}

/** Address of the source from which a chart elsewhere takes a values file that lies in this repository, or null. */
function valuesRepository(object: ManifestObject, file: string, files: FileTree): string | null {
  const application = readApplication(object, file, 0)
  for (const source of application?.sources ?? []) {
    for (const entry of source.helm.valueFiles) {
      const reference = application?.sources.find(each => each.ref !== null && entry.startsWith(`$${each.ref}/`))
      if (application === null || reference === undefined) continue
      const path = valueFilePath(application, source, entry)
      if (path !== null && files.has(path)) return reference.repoURL
    }
  }
  return null
}

function builtBy(
  who: string,
  folder: string | null,
  directory: 'flux' | 'flat' | 'recurse',
  files: FileTree,
  unread: string[],
): Pick<FoundDeliverer, 'files' | 'workloads'> {
  if (folder === null) return { files: new Set(), workloads: [] }
  try {
    const { objects } = buildKustomization(files, folder, { directory })
    // Flux's own controllers lie in flux-system/gotk-components.yaml and are no part of the mesh.
    const kinds = objects.filter(({ file }) => !file.endsWith('gotk-components.yaml')).map(({ object }) => object.kind)
    return {
      files: new Set(objects.map(({ file }) => file)),
      workloads: workloadKinds.filter(kind => kinds.includes(kind)),
    }
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    unread.push(`${who}: ${error.message.split('\n', 1)[0]}`)
    return { files: new Set(), workloads: [] }
  }
}

/** Whether a kustomization file stands in the folder, so that a Component can be listed there. */
export function hasKustomization(files: FileTree, folder: string): boolean {
  return kustomizationFile(files, folder) !== null
}
