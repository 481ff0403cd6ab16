import type { Plan, SitePosition } from '../rotation.ts'
import { findStep, type PlanStep, plannedTree, stepsOf } from './steps.ts'

/** The step whose planned way back comes next, and the sites that take it. */
export interface WayBack {
  readonly at: PlanStep
  readonly sites: readonly string[]
  /** These sites have gone back once already: this is the way back from the phase before, once the first has reached everyone. */
  readonly undone: boolean
}

/** From the step that the foremost sites are at; null where that has no such tree, or no site is at a step. */
export function wayBack(
  plan: Plan,
  positions: Readonly<Record<string, SitePosition>>,
  variant: 'undo' | 'nudge' = 'undo',
): WayBack | null {
  const sites = foremost(plan, positions).filter(each => plannedTree(each.at.step.sites[each.site], variant) !== null)
  const at = sites[0]?.at
  if (at === undefined) return null
  return { at, sites: sites.map(each => each.site), undone: sites.some(each => each.undone) }
}

interface Reached {
  readonly site: string
  readonly at: PlanStep
  readonly undone: boolean
}

/** The sites that have come furthest, each with the step that would be taken back. */
export function foremost(plan: Plan, positions: Readonly<Record<string, SitePosition>>): readonly Reached[] {
  const reached = plan.sites.flatMap(({ name }): readonly Reached[] => {
    const position = positions[name]
    if (position?.kind !== 'at') return []
    const at = findStep(plan, position.phase, position.step)
    if (at === null) return []
    if (position.variant !== 'undo') return [{ site: name, at, undone: false }]
    // Undone already: going further back is the undo of the phase before, once this one's has reached everyone.
    const before = stepsOf(plan)[at.index - at.step.number]
    return before === undefined ? [] : [{ site: name, at: before, undone: true }]
  })
  const furthest = Math.max(-1, ...reached.map(each => each.at.index))
  return reached.filter(each => each.at.index === furthest)
}
