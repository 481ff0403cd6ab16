import type { GateResult, Plan, SitePosition, Verdict } from '../rotation.ts'
import { batchName, findStep, type PlanStep, stepFolder, stepsOf } from './steps.ts'

/** What one site's gates say of the step that the site is at. */
export interface SiteVerdict {
  readonly verdict: Verdict
  readonly gates: readonly GateResult[]
}

export type NextAction =
  | {
      readonly kind: 'open'
      readonly at: PlanStep
      readonly sites: readonly string[]
      readonly batch: string | null
      /** The step before, whose evidence rides in this pull request; null before the first. */
      readonly after: PlanStep | null
    }
  | { readonly kind: 'close'; readonly after: PlanStep }
  | { readonly kind: 'done' }
  /** Gates that do not hold, with the worst verdict among them. */
  | { readonly kind: 'wait'; readonly verdict: Exclude<Verdict, 'holds'>; readonly gates: readonly GateResult[] }
  | { readonly kind: 'refuse'; readonly site: string; readonly why: string }

export interface Situation {
  readonly plan: Plan
  readonly closed: boolean
  readonly positions: Readonly<Record<string, SitePosition>>
  /** Of every site that is at a step; a site that is missing here was not looked at, which is unknown. */
  readonly verdicts: Readonly<Record<string, SiteVerdict>>
}

/** How far a site is: the index of the last step that holds in its folder, −1 before `adopt`; null where that cannot be told. */
export function progressOf(plan: Plan, position: SitePosition): number | null {
  if (position.kind === 'absent') return -1
  if (position.kind !== 'at') return null
  const at = findStep(plan, position.phase, position.step)
  if (at === null) return null
  // Going back from any step of a phase leads to before that phase: its first step is the next one again.
  if (position.variant === 'undo') return (findStep(plan, position.phase, 1)?.index ?? 0) - 1
  return at.index
}

/**
 * The one thing that comes next, from where every site is and what its gates say. Between steps there is always a barrier
 * over all sites: none enters a step before all have completed the one before.
 */
export function decideNext(situation: Situation): NextAction {
  const { plan, closed, positions, verdicts } = situation
  if (closed) return { kind: 'done' }
  const progress = new Map<string, number>()
  for (const { name } of plan.sites) {
    const position = positions[name] ?? { kind: 'absent' }
    const index = progressOf(plan, position)
    if (index === null) return { kind: 'refuse', site: name, why: positionText(position) }
    progress.set(name, index)
  }
  const reached = [...progress.values()]
  const last = Math.min(...reached)
  if (Math.max(...reached) - last > 1) return apart(plan, progress)

  const open = [...progress]
    .filter(([site, index]) => index >= 0 && verdicts[site]?.verdict !== 'holds')
    .map(([site]) => site)
  if (open.length > 0) return waitFor(open, verdicts)

  const steps = stepsOf(plan)
  const after = steps[last] ?? null
  const at = steps[last + 1]
  if (at === undefined) return after === null ? { kind: 'done' } : { kind: 'close', after }
  for (const [number, batch] of plan.batches.entries()) {
    const sites = batch.filter(site => progress.get(site) === last)
    if (sites.length > 0) return { kind: 'open', at, sites, batch: batchName(plan, number), after }
  }
  return { kind: 'refuse', site: plan.sites[0]?.name ?? '', why: 'no batch of the plan holds the sites that come next' }
}

export function positionText(position: SitePosition): string {
  switch (position.kind) {
    case 'absent':
      return 'the folder does not exist'
    case 'at':
      return `at phase ${position.phase}, step ${position.step}${position.variant === 'step' ? '' : `, ${position.variant}`}`
    case 'mixed':
      return `mixed: ${position.why}${oddFiles(position.files)}`
    case 'unknown':
      return `the folder matches no step of the plan: ${position.changed.map(file => `${file.path} ${file.what}`).join(', ')}`
  }
}

/** By name, the files of every step but the one that most files are of. */
function oddFiles(files: Extract<SitePosition, { kind: 'mixed' }>['files']): string {
  const counts = new Map<string | null, number>()
  for (const { matches } of files) if (matches !== null) counts.set(matches, (counts.get(matches) ?? 0) + 1)
  const [most] = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name)
  const odd = files.filter(file => file.matches !== most)
  return odd.length === 0 ? '' : ` (${odd.map(file => `${file.path}: ${file.matches ?? 'of none'}`).join(', ')})`
}

const severity: readonly Verdict[] = ['holds', 'pending', 'unknown', 'violated']

function waitFor(sites: readonly string[], verdicts: Situation['verdicts']): NextAction {
  let worst: Exclude<Verdict, 'holds'> = 'pending'
  const gates: GateResult[] = []
  for (const site of sites) {
    const verdict = verdicts[site]?.verdict ?? 'unknown'
    if (verdict !== 'holds' && severity.indexOf(verdict) > severity.indexOf(worst)) worst = verdict
    gates.push(...(verdicts[site]?.gates.filter(gate => gate.verdict !== 'holds') ?? []))
  }
  return { kind: 'wait', verdict: worst, gates }
}

function apart(plan: Plan, progress: ReadonlyMap<string, number>): NextAction {
  const steps = stepsOf(plan)
  const name = (index: number) => {
    const step = steps[index]
    return step === undefined ? 'before adopt' : stepFolder(step)
  }
  const sorted = [...progress].sort((a, b) => a[1] - b[1])
  const [first, last] = [sorted[0], sorted[sorted.length - 1]]
  const why = `site ${first?.[0]} is at ${name(first?.[1] ?? -1)} while ${last?.[0]} is at ${name(last?.[1] ?? -1)}: more than one step apart`
  return { kind: 'refuse', site: last?.[0] ?? '', why }
}
