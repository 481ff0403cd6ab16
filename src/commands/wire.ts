import { applyWiring, wiringHolds } from '../gitops/yaml-edit.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import type { Plan, WiringPoint } from '../rotation.ts'
import { planAt } from './rotation.ts'

export interface Wired {
  readonly plan: Plan
  readonly snapshot: Snapshot
}

/** Adds the wiring of `sites` to `changes`, as edits of the users' files as they are now. */
export async function addWiring(wired: Wired, sites: readonly string[], changes: Map<string, string | null>): Promise<void> {
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

/** The wiring points of `sites` that the users' files no longer carry. */
export async function missingWiring(wired: Wired, sites: readonly string[]): Promise<readonly MissingWiring[]> {
  const missing: MissingWiring[] = []
  for (const point of wired.plan.wiring.filter(each => sites.includes(each.site))) {
    const held = wiringHolds(await wired.snapshot.read(point.file), point.edit, point.file)
    if (!held.holds) missing.push({ point, found: held.found })
  }
  return missing
}

export async function loadForWiring(repository: Repository, name: string): Promise<Wired> {
  const snapshot = repository.snapshot(await repository.head('main'))
  const plan = await planAt(snapshot, name)
  if (plan === null) throw new Error(`no plan of ${name}`)
  return { plan, snapshot }
}
