import { ReanchorError } from '../errors.ts'
import { rotationAnnotation } from '../names.ts'
import type { DocumentSelector, FileTree, WiringPoint } from '../rotation.ts'
import { argoObjects } from './argocd.ts'
import { fluxObjects } from './flux.ts'
import { type BuildResult, type BuiltObject, buildKustomization } from './kustomize.ts'
import { join } from './paths.ts'
import { wiringHolds } from './yaml-edit.ts'

export interface CheckedPoint {
  readonly point: WiringPoint
  readonly holds: boolean
  /** What was found instead; null where it holds. */
  readonly why: string | null
}

/** Whether each wiring point is in place in the files, as text. What comes out of the build is for `builtObjects`. */
export function checkWiring(files: FileTree, points: readonly WiringPoint[]): readonly CheckedPoint[] {
  return points.map(point => {
    try {
      const held = wiringHolds(files.get(point.file) ?? null, point.edit, point.file)
      return { point, holds: held.holds, why: held.holds ? null : held.found }
    } catch (error) {
      if (!(error instanceof ReanchorError)) throw error
      return { point, holds: false, why: error.found ?? error.what }
    }
  })
}

/** What builds objects: a folder as it is, a Flux Kustomization, or an Argo CD Application. */
export type BuilderReference =
  | { readonly kind: 'folder'; readonly path: string }
  | {
      readonly kind: 'flux' | 'argocd'
      readonly name: string
      readonly namespace: string | null
      readonly file: string | null
    }

/**
 * The objects that a builder applies, as its cluster gets them: the owner's kustomization with every Component, patch and
 * overlay. Throws a `ReanchorError` where it does not build, or where there is no such builder.
 */
export function builtObjects(files: FileTree, reference: BuilderReference): BuildResult {
  if (reference.kind === 'folder')
    return buildKustomization(files, reference.path, { directory: 'flux', yamlOnly: true })
  const matches = (each: { readonly name: string; readonly namespace: string | null; readonly file: string }) =>
    each.name === reference.name &&
    (reference.namespace === null || each.namespace === null || each.namespace === reference.namespace) &&
    (reference.file === null || each.file === reference.file)
  if (reference.kind === 'flux') {
    const found = fluxObjects(files).kustomizations.find(matches)
    if (found === undefined || found.path === null) throw noBuilder(reference, 'Kustomization')
    return buildKustomization(files, found.path, { ...found.overlay, directory: 'flux', yamlOnly: true })
  }
  const found = argoObjects(files).applications.find(matches)
  if (found === undefined) throw noBuilder(reference, 'Application')
  // A chart makes objects of its own, which only Helm can tell.
  const charts = found.sources.filter(
    source => source.chart !== null || (source.path !== null && files.has(join(source.path, 'Chart.yaml'))),
  )
  const results = found.sources
    .filter(source => source.path !== null && source.ref === null && !charts.includes(source))
    .map(source =>
      buildKustomization(files, source.path ?? '', {
        ...source.overlay,
        yamlOnly: true,
        directory: source.recurse ? 'recurse' : 'flat',
      }),
    )
  return {
    objects: results.flatMap(result => result.objects),
    unsupported: [
      ...results.flatMap(result => result.unsupported),
      ...charts.map(source => `${found.file}: Helm chart ${source.chart ?? source.path}`),
    ],
    read: results.flatMap(result => result.read),
  }
}

function noBuilder(reference: Exclude<BuilderReference, { kind: 'folder' }>, kind: string): ReanchorError {
  return new ReanchorError({
    what: 'the object that should build the manifests is not in the repository',
    where: reference.file === null ? {} : { file: reference.file },
    expected: `${kind} ${reference.namespace === null ? '' : `${reference.namespace}/`}${reference.name} with a path inside the repository`,
    found: 'none',
    todo: 'restore it, or correct rotation.yaml',
  })
}

export interface CarriedPatch {
  readonly carries: boolean
  /** Why not, in one phrase; null where it does. */
  readonly why: string | null
  /** The objects that carry it. */
  readonly carriers: readonly BuiltObject[]
  /** Parts of the build that were not computed, and so might hide the truth. */
  readonly unsupported: readonly string[]
}

/**
 * Whether the owner's kustomization as built carries a patch: at least one object satisfies `expected`. A Component whose
 * target matches nothing builds without a word, so that a list item in `components` proves nothing by itself.
 */
export function carriesPatch(
  files: FileTree,
  reference: BuilderReference,
  expected: (object: BuiltObject) => boolean,
): CarriedPatch {
  try {
    const { objects, unsupported } = builtObjects(files, reference)
    const carriers = objects.filter(expected)
    if (carriers.length > 0) return { carries: true, why: null, carriers, unsupported }
    return {
      carries: false,
      why: `none of the ${objects.length} objects that are built carries it`,
      carriers,
      unsupported,
    }
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return {
      carries: false,
      why: error.message
        .split('\n')
        .map(line => line.trim())
        .join('; '),
      carriers: [],
      unsupported: [],
    }
  }
}

/** The mark of a rotation that each Component sets: `reanchor.dev/rotation`. */
export function isMarked(object: BuiltObject, rotation: string): boolean {
  return object.object.metadata.annotations?.[rotationAnnotation] === rotation
}

/** The folder or Flux Kustomization that a point's edit concerns, as something that can be built; null where it is neither. */
export function builderOf(point: WiringPoint): BuilderReference | null {
  const { edit, file } = point
  if (edit.kind !== 'listItem' || edit.at.at(-1) !== 'components') return null
  const { document }: { document: DocumentSelector } = edit
  if (document === 'single')
    return { kind: 'folder', path: file.includes('/') ? file.slice(0, file.lastIndexOf('/')) : '' }
  if (document.kind === 'Kustomization')
    return { kind: 'flux', name: document.name, namespace: document.namespace, file }
  if (document.kind === 'Application')
    return { kind: 'argocd', name: document.name, namespace: document.namespace, file }
  return null
}
