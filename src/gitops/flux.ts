import type { FileTree } from '../rotation.ts'
import type { KustomizationOverlay } from './kustomize-load.ts'
import {
  at,
  groupOf,
  isManifest,
  isPlain,
  isYamlPath,
  listAt,
  type ManifestObject,
  type Plain,
  parsedFile,
  stringsAt,
  textAt,
} from './manifests.ts'
import { fromRoot } from './paths.ts'

/** Where an object stands in the tree. */
export interface Located {
  readonly file: string
  /** 0-based document in that file. */
  readonly document: number
  readonly name: string
  /** As written; null where the file leaves it to a kustomization. */
  readonly namespace: string | null
}

export interface FluxGitRepository extends Located {
  readonly kind: 'GitRepository'
  readonly url: string | null
  readonly branch: string | null
  /** spec.ignore, in the syntax of .gitignore; null: the defaults. */
  readonly ignore: string | null
  /** spec.sparseCheckout: only these folders are there. Empty: all. */
  readonly sparseCheckout: readonly string[]
  readonly suspended: boolean
}

export interface FluxKustomization extends Located {
  readonly kind: 'Kustomization'
  /** spec.path from the repository's root, '' for the root itself; null where it leaves the repository. */
  readonly path: string | null
  readonly source: { readonly kind: string; readonly name: string; readonly namespace: string | null }
  readonly components: readonly string[]
  readonly dependsOn: readonly { readonly name: string; readonly namespace: string | null }[]
  readonly prune: boolean
  readonly suspended: boolean
  readonly wait: boolean
  readonly targetNamespace: string | null
  /** Names the cluster where spec.kubeConfig sends the objects elsewhere. */
  readonly kubeConfig: string | null
  readonly decryption: { readonly provider: string | null; readonly secret: string | null } | null
  /** What Flux adds to the folder's kustomization (kustomize-controller, fluxcd/pkg/kustomize WriteFile). */
  readonly overlay: KustomizationOverlay
  readonly object: ManifestObject
}

export interface FluxHelmRelease extends Located {
  readonly kind: 'HelmRelease'
  readonly chart: string | null
  readonly chartVersion: string | null
  /** spec.chartRef where the chart is an object of its own. */
  readonly chartRef: { readonly kind: string; readonly name: string } | null
  readonly targetNamespace: string | null
  readonly releaseName: string | null
  readonly values: Plain
  readonly valuesFrom: readonly {
    readonly kind: string
    readonly name: string
    readonly key: string
    readonly targetPath: string | null
    readonly optional: boolean
  }[]
  readonly suspended: boolean
  readonly object: ManifestObject
}

export interface FluxObjects {
  readonly repositories: readonly FluxGitRepository[]
  readonly kustomizations: readonly FluxKustomization[]
  readonly releases: readonly FluxHelmRelease[]
}

const groups = {
  kustomize: 'kustomize.toolkit.fluxcd.io',
  source: 'source.toolkit.fluxcd.io',
  helm: 'helm.toolkit.fluxcd.io',
} as const

/** Every Flux object that stands in the tree's YAML files, whoever delivers it. Files that are no YAML are passed over. */
export function fluxObjects(files: FileTree): FluxObjects {
  const repositories: FluxGitRepository[] = []
  const kustomizations: FluxKustomization[] = []
  const releases: FluxHelmRelease[] = []
  for (const { object, file, document } of objectsWith(files, '.toolkit.fluxcd.io/')) {
    const repository = gitRepositoryOf(object, file, document)
    if (repository !== null) repositories.push(repository)
    const kustomization = fluxKustomizationOf(object, file, document)
    if (kustomization !== null) kustomizations.push(kustomization)
    const release = helmReleaseOf(object, file, document)
    if (release !== null) releases.push(release)
  }
  return { repositories, kustomizations, releases }
}

/** Objects of files whose text contains a marker: most files of a repository need not be parsed. */
export function* objectsWith(
  files: FileTree,
  marker: string,
): Generator<{ readonly object: ManifestObject; readonly file: string; readonly document: number }> {
  for (const [file, text] of files) {
    if (!(isYamlPath(file) || file.endsWith('.json')) || !text.includes(marker)) continue
    for (const { value, document } of parsedFile(files, file)?.documents ?? []) {
      const items =
        isPlain(value) && typeof value.kind === 'string' && value.kind.endsWith('List')
          ? listAt(value, 'items')
          : [value]
      for (const object of items) if (isManifest(object)) yield { object, file, document }
    }
  }
}

function located(object: ManifestObject, file: string, document: number): Located {
  return { file, document, name: object.metadata.name, namespace: textAt(object, 'metadata', 'namespace') }
}

/** The object as a GitRepository, or null. */
function gitRepositoryOf(object: ManifestObject, file: string, document: number): FluxGitRepository | null {
  if (object.kind !== 'GitRepository' || groupOf(object.apiVersion) !== groups.source) return null
  return {
    ...located(object, file, document),
    kind: 'GitRepository',
    url: textAt(object, 'spec', 'url'),
    branch: textAt(object, 'spec', 'ref', 'branch'),
    ignore: textAt(object, 'spec', 'ignore'),
    sparseCheckout: stringsAt(object, 'spec', 'sparseCheckout'),
    suspended: at(object, 'spec', 'suspend') === true,
  }
}

/** The object as Flux's Kustomization, or null. */
export function fluxKustomizationOf(object: ManifestObject, file: string, document: number): FluxKustomization | null {
  if (object.kind !== 'Kustomization' || groupOf(object.apiVersion) !== groups.kustomize) return null
  const decryption = at(object, 'spec', 'decryption')
  return {
    ...located(object, file, document),
    kind: 'Kustomization',
    path: fromRoot(textAt(object, 'spec', 'path') ?? './'),
    source: {
      kind: textAt(object, 'spec', 'sourceRef', 'kind') ?? 'GitRepository',
      name: textAt(object, 'spec', 'sourceRef', 'name') ?? '',
      namespace: textAt(object, 'spec', 'sourceRef', 'namespace'),
    },
    components: stringsAt(object, 'spec', 'components'),
    dependsOn: listAt(object, 'spec', 'dependsOn').map(item => ({
      name: textAt(item, 'name') ?? '',
      namespace: textAt(item, 'namespace'),
    })),
    prune: at(object, 'spec', 'prune') === true,
    suspended: at(object, 'spec', 'suspend') === true,
    wait: at(object, 'spec', 'wait') === true,
    targetNamespace: textAt(object, 'spec', 'targetNamespace'),
    kubeConfig:
      textAt(object, 'spec', 'kubeConfig', 'secretRef', 'name') ??
      textAt(object, 'spec', 'kubeConfig', 'configMapRef', 'name'),
    decryption: isPlain(decryption)
      ? { provider: textAt(decryption, 'provider'), secret: textAt(decryption, 'secretRef', 'name') }
      : null,
    overlay: overlayOf(object),
    object,
  }
}

function overlayOf(object: ManifestObject): KustomizationOverlay {
  const components = stringsAt(object, 'spec', 'components')
  const targetNamespace = textAt(object, 'spec', 'targetNamespace')
  const namePrefix = textAt(object, 'spec', 'namePrefix')
  const nameSuffix = textAt(object, 'spec', 'nameSuffix')
  const patches = listAt(object, 'spec', 'patches').filter(isPlain)
  const images = listAt(object, 'spec', 'images').filter(isPlain)
  return {
    ...(components.length === 0 ? {} : { components }),
    ...(at(object, 'spec', 'ignoreMissingComponents') === true ? { ignoreMissingComponents: true } : {}),
    ...(targetNamespace === null ? {} : { targetNamespace }),
    ...(namePrefix === null ? {} : { namePrefix }),
    ...(nameSuffix === null ? {} : { nameSuffix }),
    ...(patches.length === 0 ? {} : { patches }),
    ...(images.length === 0 ? {} : { images }),
    commonLabels: textMap(at(object, 'spec', 'commonMetadata', 'labels')),
    commonAnnotations: textMap(at(object, 'spec', 'commonMetadata', 'annotations')),
  }
}

export function textMap(value: unknown): Record<string, string> {
  if (!isPlain(value)) return {}
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]))
}

/** The object as a HelmRelease, or null. */
export function helmReleaseOf(object: ManifestObject, file: string, document: number): FluxHelmRelease | null {
  if (object.kind !== 'HelmRelease' || groupOf(object.apiVersion) !== groups.helm) return null
  const values = at(object, 'spec', 'values')
  const chartRef = textAt(object, 'spec', 'chartRef', 'name')
  return {
    ...located(object, file, document),
    kind: 'HelmRelease',
    chart: textAt(object, 'spec', 'chart', 'spec', 'chart'),
    chartVersion: textAt(object, 'spec', 'chart', 'spec', 'version'),
    chartRef: chartRef === null ? null : { kind: textAt(object, 'spec', 'chartRef', 'kind') ?? '', name: chartRef },
    targetNamespace: textAt(object, 'spec', 'targetNamespace'),
    releaseName: textAt(object, 'spec', 'releaseName'),
    values: isPlain(values) ? values : {},
    valuesFrom: listAt(object, 'spec', 'valuesFrom').map(item => ({
      kind: textAt(item, 'kind') ?? '',
      name: textAt(item, 'name') ?? '',
      key: textAt(item, 'valuesKey') ?? 'values.yaml',
      targetPath: textAt(item, 'targetPath'),
      optional: at(item, 'optional') === true,
    })),
    suspended: at(object, 'spec', 'suspend') === true,
    object,
  }
}
