/** Where a site stands: which planned tree its folder holds, told from bytes alone. */
import { type Variant, variants } from '../plan/steps.ts'
import type { FileTree, Plan, SitePosition } from '../rotation.ts'
import { asFile, type FileBytes, type Folder, treeDigest } from './tree-digest.ts'

/** A planned tree: one step's folder at one site, its way back, or its nudge. */
export interface Place {
  readonly phase: number
  readonly step: number
  readonly variant: Variant
}

/** What was rendered at `plan` for a place, or null where it is not at hand. */
export type Planned = (phase: number, step: number, variant: Variant) => FileTree | null

/**
 * How a folder relates to the planned one where they differ in sealed values only. `recipients`: the same ciphertext,
 * sealed to others. `values`: sealed anew; whether to the same plain text cannot be told without a key.
 */
export type Resealed = 'recipients' | 'values'

type Unknown = Extract<SitePosition, { readonly kind: 'unknown' }>

export type Position =
  | Exclude<SitePosition, Unknown>
  | (Unknown & {
      /** The place that differs least, which `changed` was told against; null: nothing rendered was at hand. */
      readonly nearest: Place | null
      /** Set where nothing but sealing differs from the nearest place. */
      readonly resealed: Resealed | null
    })

/**
 * Exact digests first, prior ones of a step that was sealed again included. What matches none is `mixed` where its files
 * come from two or more planned trees, and otherwise `unknown`, compared with the nearest.
 */
export function positionOf(folder: FileTree | Folder, plan: Plan, site: string, planned: Planned): Position {
  if (folder.size === 0) return { kind: 'absent' }
  const exact = exactPlace(treeDigest(folder), plan, site)
  if (exact !== null) return { kind: 'at', ...exact }

  const trees = placesOf(plan, site).flatMap(place => {
    const tree = planned(place.phase, place.step, place.variant)
    return tree === null ? [] : [{ place, tree }]
  })
  const nearest = trees
    .map(({ place, tree }) => ({ place, tree, changed: differences(tree, folder) }))
    // Line 1 of trust.txt names one place only: among equals it tells which one the folder was meant to be.
    .sort((a, b) => a.changed.length - b.changed.length || named(b.tree, folder) - named(a.tree, folder))[0]
  if (nearest === undefined) {
    const changed = [...folder.keys()].sort().map(path => ({ path, what: 'added' as const }))
    return { kind: 'unknown', changed, nearest: null, resealed: null }
  }

  const files = [...folder.keys()].sort().map(path => {
    const file = folder.get(path) as string | FileBytes
    const inNearest = sameFile(nearest.tree.get(path), file)
    const other = inNearest ? undefined : trees.find(({ tree }) => sameFile(tree.get(path), file))
    const place = inNearest ? nearest.place : (other?.place ?? null)
    return { path, matches: place === null ? null : placeName(plan, place), foreign: other !== undefined }
  })
  const matched = files.filter(file => file.matches !== null)
  if (matched.some(file => file.foreign) && new Set(matched.map(file => file.matches)).size > 1) {
    const names = [...new Set(matched.map(file => file.matches))].join(' and ')
    return {
      kind: 'mixed',
      files: files.map(({ path, matches }) => ({ path, matches })),
      why: `the files are those of ${names}`,
    }
  }
  return { kind: 'unknown', changed: nearest.changed, nearest: nearest.place, resealed: resealed(nearest.tree, folder) }
}

/** `2-trust-both/1-data`, with ` undo` or ` nudge`: as line 1 of trust.txt has it. */
function placeName(plan: Plan, place: Place): string {
  const phase = plan.phases.find(one => one.number === place.phase)
  const step = phase?.steps.find(one => one.number === place.step)
  const variant = place.variant === 'step' ? '' : ` ${place.variant}`
  return `${place.phase}-${phase?.name ?? ''}/${place.step}-${step?.name ?? ''}${variant}`
}

function exactPlace(digest: string, plan: Plan, site: string): Place | null {
  let wanted = digest
  // A step can be sealed again more than once; the bound ends a circle that a hand-edited plan could hold.
  for (let hop = 0; hop <= Object.keys(plan.formerDigests).length; hop += 1) {
    const place = placesOf(plan, site).find(one => digestOf(plan, site, one) === wanted)
    if (place !== undefined) return place
    if (!Object.hasOwn(plan.formerDigests, wanted)) return null
    wanted = plan.formerDigests[wanted] as string
  }
  return null
}

function placesOf(plan: Plan, site: string): readonly Place[] {
  const places: Place[] = []
  for (const phase of plan.phases) {
    for (const step of phase.steps) {
      for (const variant of variants) {
        const place = { phase: phase.number, step: step.number, variant }
        if (digestOf(plan, site, place) !== null) places.push(place)
      }
    }
  }
  return places
}

function digestOf(plan: Plan, site: string, place: Place): string | null {
  const step = plan.phases.find(one => one.number === place.phase)?.steps.find(one => one.number === place.step)
  if (step === undefined || !Object.hasOwn(step.sites, site)) return null
  const planned = step.sites[site]
  if (planned === undefined) return null
  return (place.variant === 'step' ? planned : planned[place.variant])?.digest ?? null
}

function differences(planned: FileTree, folder: FileTree | Folder): Unknown['changed'] {
  const paths = [...new Set([...planned.keys(), ...folder.keys()])].sort()
  return paths.flatMap((path): Unknown['changed'] => {
    const [was, is] = [planned.get(path), folder.get(path)]
    if (is === undefined) return [{ path, what: 'removed' }]
    if (was === undefined) return [{ path, what: 'added' }]
    return sameFile(was, is) ? [] : [{ path, what: 'changed' }]
  })
}

function sameFile(planned: string | undefined, file: string | FileBytes): boolean {
  if (planned === undefined) return false
  const { mode, bytes } = asFile(file)
  return mode === '100644' && Buffer.from(planned, 'utf8').equals(bytes)
}

function named(tree: FileTree, folder: FileTree | Folder): number {
  const file = folder.get('trust.txt')
  return file !== undefined && sameFile(tree.get('trust.txt'), file) ? 1 : 0
}

function resealed(planned: FileTree, folder: FileTree | Folder): Resealed | null {
  let answer: Resealed = 'recipients'
  if (differences(planned, folder).some(change => change.what !== 'changed')) return null
  for (const [path, file] of folder) {
    const was = planned.get(path) ?? ''
    if (sameFile(was, file)) continue
    const { mode, bytes } = asFile(file)
    const is = Buffer.from(bytes).toString('utf8')
    if (mode !== '100644') return null
    if (withoutSops(was) === withoutSops(is) && hasSops(is)) continue
    if (!hasSops(is) || withoutSealed(withoutSops(was)) !== withoutSealed(withoutSops(is))) return null
    answer = 'values'
  }
  return answer
}

function hasSops(yaml: string): boolean {
  return /^sops:/m.test(yaml)
}

/** The `sops` map that SOPS appends to a document: recipients, the sealed data key, time and MAC. */
function withoutSops(yaml: string): string {
  return yaml.replace(/^sops:[^\n]*\n(?:[ \t][^\n]*(?:\n|$)|\n)*/gm, '')
}

function withoutSealed(yaml: string): string {
  return yaml.replace(/ENC\[AES256_GCM,[^\]]*\]/g, 'ENC[]')
}
