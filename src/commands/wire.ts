import { builderOf, carriesPatch, isMarked } from '../gitops/wiring.ts'
import { applyWiring, wiringHolds } from '../gitops/yaml-edit.ts'
import { Remembered } from '../remember.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import type { FileChanges, Plan, WiringPoint } from '../rotation.ts'
import { filesForWiring } from './files.ts'
import { planAt } from './rotation.ts'

export interface Wired {
  readonly plan: Plan
  readonly snapshot: Snapshot
}

/** Adds the wiring of `sites` to `changes`, as edits of the users' files as they are now. */
export async function addWiring(
  wired: Wired,
  sites: readonly string[],
  changes: Map<string, string | null>,
): Promise<void> {
  for (const point of wired.plan.wiring.filter(each => sites.includes(each.site))) {
    const before = changes.get(point.file) ?? (await wired.snapshot.read(point.file))
    const { text, changed } = applyWiring(before, point.edit, point.file)
    if (changed) changes.set(point.file, text)
  }
}

export interface MissingWiring {
  readonly point: WiringPoint
  readonly found: string
}

/**
 * The wiring points of `sites` that the users' files no longer carry, with `changes` made to them: as text, and as built. A Component whose target matches
 * nothing builds without a word, so the owner's kustomization is built and searched for what the Component marks.
 */
export async function missingWiring(
  wired: Wired,
  sites: readonly string[],
  changes: FileChanges = new Map(),
): Promise<readonly MissingWiring[]> {
  const { plan, snapshot } = wired
  const points = plan.wiring.filter(each => sites.includes(each.site))
  if (points.length === 0) return []
  if (changes.size > 0) return await missingOf(wired, points, changes)
  const key = `${snapshot.commit} ${JSON.stringify([plan.metadata.name, plan.follows ?? null, points])}`
  const known = onCommit.peek(key)
  if (known !== undefined) return known
  const missing = await missingOf(wired, points, changes)
  onCommit.set(key, missing)
  return missing
}

/** While a rotation waits, the same commit is asked about again and again; its files do not change. */
const onCommit = new Remembered<readonly MissingWiring[]>(64)

async function missingOf(
  { plan, snapshot }: Wired,
  points: readonly WiringPoint[],
  changes: FileChanges,
): Promise<readonly MissingWiring[]> {
  const missing: MissingWiring[] = []
  for (const point of points) {
    const changed = changes.get(point.file)
    const text = changed === undefined ? await snapshot.read(point.file) : changed
    const held = wiringHolds(text, point.edit, point.file)
    if (!held.holds) missing.push({ point, found: held.found })
  }
  if (missing.length > 0) return missing
  const files = new Map(await filesForWiring(snapshot))
  for (const [path, text] of changes) {
    if (text === null) files.delete(path)
    else files.set(path, text)
  }
  for (const point of points) {
    const builder = builderOf(point)
    if (builder === null) continue
    const carried = carriesPatch(files, builder, object => marked(object, plan))
    if (!carried.carries)
      missing.push({ point, found: `${point.file}: ${carried.why ?? 'nothing that it builds is patched'}` })
  }
  return missing
}

/** Marked by this rotation, or by the one before, whose final folder is this one's phase 0. */
function marked(object: Parameters<typeof isMarked>[0], plan: Plan): boolean {
  return isMarked(object, plan.metadata.name) || (plan.follows !== undefined && isMarked(object, plan.follows))
}

export async function loadForWiring(repository: Repository, name: string): Promise<Wired> {
  const snapshot = repository.snapshot(await repository.head('main'))
  const plan = await planAt(snapshot, name)
  if (plan === null) throw new Error(`no plan of ${name}`)
  return { plan, snapshot }
}
