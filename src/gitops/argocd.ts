import type { FileTree } from '../rotation.ts'
import { type Located, objectsWith, textMap } from './flux.ts'
import type { KustomizationOverlay } from './kustomize-load.ts'
import { at, groupOf, isPlain, listAt, type ManifestObject, type Plain, stringsAt, textAt } from './manifests.ts'
import { fromRoot } from './paths.ts'

export interface ArgoSource {
  readonly repoURL: string | null
  readonly targetRevision: string | null
  /** From the repository's root, '' for the root; null for a chart of a Helm repository, or a path that leaves the tree. */
  readonly path: string | null
  /** A chart of a Helm repository. */
  readonly chart: string | null
  /** Name under which other sources take values files from this one. */
  readonly ref: string | null
  readonly recurse: boolean
  /** Patterns of the manifests that a folder without kustomization gives; null: all, and none. */
  readonly include: string | null
  readonly exclude: string | null
  readonly helm: {
    readonly releaseName: string | null
    /** As written: relative to the path, or `$ref/…`. */
    readonly valueFiles: readonly string[]
    /** `values` as text, where it is given so. */
    readonly values: string | null
    readonly valuesObject: Plain | null
    /** A value counts as `helm --set` takes it, unless `forceString`. */
    readonly parameters: readonly { readonly name: string; readonly value: string; readonly forceString: boolean }[]
  }
  /** What Argo CD adds to the folder's kustomization. */
  readonly overlay: KustomizationOverlay
}

export interface ArgoApplication extends Located {
  readonly kind: 'Application'
  readonly project: string
  readonly sources: readonly ArgoSource[]
  /** Whether it says `sources`; then Argo CD ignores `source`. */
  readonly multiSource: boolean
  readonly destination: {
    readonly server: string | null
    readonly name: string | null
    readonly namespace: string | null
  }
  readonly automated: boolean
  readonly prune: boolean
  readonly syncOptions: readonly string[]
  readonly object: ManifestObject
}

/** A template of Applications: what it will make is not computed. */
export interface ArgoApplicationSet extends Located {
  readonly kind: 'ApplicationSet'
  /** Paths that its generators and template name, as written. */
  readonly paths: readonly string[]
  readonly object: ManifestObject
}

export interface ArgoProject extends Located {
  readonly kind: 'AppProject'
  readonly sourceRepos: readonly string[]
  readonly destinations: readonly { readonly server: string | null; readonly namespace: string | null }[]
}

export interface ArgoObjects {
  readonly applications: readonly ArgoApplication[]
  readonly applicationSets: readonly ArgoApplicationSet[]
  readonly projects: readonly ArgoProject[]
}

const group = 'argoproj.io'

/** Every Argo CD object that stands in the tree's files. */
export function argoObjects(files: FileTree): ArgoObjects {
  const applications: ArgoApplication[] = []
  const applicationSets: ArgoApplicationSet[] = []
  const projects: ArgoProject[] = []
  for (const { object, file, document } of objectsWith(files, `${group}/`)) {
    if (groupOf(object.apiVersion) !== group) continue
    const application = applicationOf(object, file, document)
    if (application !== null) applications.push(application)
    const place: Located = {
      file,
      document,
      name: object.metadata.name,
      namespace: textAt(object, 'metadata', 'namespace'),
    }
    if (object.kind === 'ApplicationSet')
      applicationSets.push({ ...place, kind: 'ApplicationSet', paths: pathsIn(object.spec), object })
    if (object.kind === 'AppProject') {
      projects.push({
        ...place,
        kind: 'AppProject',
        sourceRepos: stringsAt(object, 'spec', 'sourceRepos'),
        destinations: listAt(object, 'spec', 'destinations').map(item => ({
          server: textAt(item, 'server'),
          namespace: textAt(item, 'namespace'),
        })),
      })
    }
  }
  return { applications, applicationSets, projects }
}

/** The object as an Application, or null. */
export function applicationOf(object: ManifestObject, file: string, document: number): ArgoApplication | null {
  if (object.kind !== 'Application' || groupOf(object.apiVersion) !== group) return null
  const several = listAt(object, 'spec', 'sources')
  const single = at(object, 'spec', 'source')
  const sources = several.length > 0 ? several : isPlain(single) ? [single] : []
  return {
    file,
    document,
    name: object.metadata.name,
    namespace: textAt(object, 'metadata', 'namespace'),
    kind: 'Application',
    project: textAt(object, 'spec', 'project') ?? 'default',
    sources: sources.filter(isPlain).map(sourceOf),
    multiSource: several.length > 0,
    destination: {
      server: textAt(object, 'spec', 'destination', 'server'),
      name: textAt(object, 'spec', 'destination', 'name'),
      namespace: textAt(object, 'spec', 'destination', 'namespace'),
    },
    automated:
      isPlain(at(object, 'spec', 'syncPolicy', 'automated')) &&
      at(object, 'spec', 'syncPolicy', 'automated', 'enabled') !== false,
    prune: at(object, 'spec', 'syncPolicy', 'automated', 'prune') === true,
    syncOptions: stringsAt(object, 'spec', 'syncPolicy', 'syncOptions'),
    object,
  }
}

function sourceOf(source: Plain): ArgoSource {
  const chart = textAt(source, 'chart')
  const path = textAt(source, 'path')
  const valuesObject = at(source, 'helm', 'valuesObject')
  return {
    repoURL: textAt(source, 'repoURL'),
    targetRevision: textAt(source, 'targetRevision'),
    path: chart !== null || path === null ? null : fromRoot(path),
    chart,
    ref: textAt(source, 'ref'),
    recurse: at(source, 'directory', 'recurse') === true,
    include: textAt(source, 'directory', 'include') || null,
    exclude: textAt(source, 'directory', 'exclude') || null,
    helm: {
      releaseName: textAt(source, 'helm', 'releaseName'),
      valueFiles: stringsAt(source, 'helm', 'valueFiles'),
      values: textAt(source, 'helm', 'values'),
      valuesObject: isPlain(valuesObject) ? valuesObject : null,
      parameters: listAt(source, 'helm', 'parameters').map(item => ({
        name: textAt(item, 'name') ?? '',
        value: String(at(item, 'value') ?? ''),
        forceString: at(item, 'forceString') === true,
      })),
    },
    overlay: overlayOf(source),
  }
}

function overlayOf(source: Plain): KustomizationOverlay {
  const components = stringsAt(source, 'kustomize', 'components')
  const targetNamespace = textAt(source, 'kustomize', 'namespace')
  const namePrefix = textAt(source, 'kustomize', 'namePrefix')
  const nameSuffix = textAt(source, 'kustomize', 'nameSuffix')
  const patches = listAt(source, 'kustomize', 'patches').filter(isPlain)
  return {
    ...(components.length === 0 ? {} : { components }),
    ...(at(source, 'kustomize', 'ignoreMissingComponents') === true ? { ignoreMissingComponents: true } : {}),
    ...(targetNamespace === null ? {} : { targetNamespace }),
    ...(namePrefix === null ? {} : { namePrefix }),
    ...(nameSuffix === null ? {} : { nameSuffix }),
    ...(patches.length === 0 ? {} : { patches }),
    commonLabels: textMap(at(source, 'kustomize', 'commonLabels')),
    commonAnnotations: textMap(at(source, 'kustomize', 'commonAnnotations')),
  }
}

/** Whether a source gives a manifest of its folder; `path` is relative to it (argo-cd reposerver/repository, getPotentiallyValidManifestFile). */
export function givesManifest({ include, exclude }: ArgoSource, path: string): boolean {
  if (exclude !== null && globPattern(exclude).test(path)) return false
  return include === null || globPattern(include).test(path)
}

/** As gobwas/glob without separators: `*` crosses folders, `{a,b}` is a choice. */
function globPattern(glob: string): RegExp {
  let depth = 0
  const parts = [...glob.matchAll(/\\.|\[[^\]]*\]|\*+|[\s\S]/g)].map(([part]) => {
    if (part.startsWith('*')) return '.*'
    if (part === '?') return '.'
    if (part.length > 2 && part.startsWith('[')) return part.replace(/^\[!/, '[^')
    if (part === '{') depth++
    if (part === '{') return '(?:'
    if (part === '}' && depth > 0) {
      depth--
      return ')'
    }
    if (part === ',' && depth > 0) return '|'
    const literal = part.startsWith('\\') ? part.slice(1) : part
    return literal.replace(/[.+?^${}()|[\]\\*]/g, '\\$&')
  })
  try {
    return new RegExp(`^${parts.join('')}$`, 's')
  } catch {
    // Argo CD passes a pattern that it cannot read over: nothing fits it.
    return /(?!)/
  }
}

/** Every string under a key named `path`, at any depth. */
function pathsIn(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap(pathsIn)
  if (!isPlain(value)) return []
  return Object.entries(value).flatMap(([key, item]) =>
    key === 'path' && typeof item === 'string' ? [item] : pathsIn(item),
  )
}
