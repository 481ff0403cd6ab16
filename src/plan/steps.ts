import type { Plan, PlannedPhase, PlannedSite, PlannedStep, PlannedTree } from '../rotation.ts'

/** One step of a plan with the phase that it belongs to. */
export interface PlanStep {
  /** Position in the order of all steps, from 0. */
  readonly index: number
  readonly phase: PlannedPhase
  readonly step: PlannedStep
}

/** The trees that a step may have at a site: its own, the way back, and the same trust with one more repeat. */
export const variants = ['step', 'undo', 'nudge'] as const
export type Variant = (typeof variants)[number]

/** Every step in the order in which sites pass them. */
export function stepsOf(plan: Pick<Plan, 'phases'>): readonly PlanStep[] {
  const steps: PlanStep[] = []
  for (const phase of plan.phases) for (const step of phase.steps) steps.push({ index: steps.length, phase, step })
  return steps
}

export function findStep(plan: Plan, phase: number, step: number): PlanStep | null {
  return stepsOf(plan).find(each => each.phase.number === phase && each.step.number === step) ?? null
}

/** `2-trust-both/1-data` */
export function stepFolder(at: PlanStep): string {
  return `${at.phase.number}-${at.phase.name}/${at.step.number}-${at.step.name}`
}

/** `2-trust-both-1-data`, as in branch names. */
function stepSlug(at: PlanStep): string {
  return stepFolder(at).replace('/', '-')
}

/** Name of the evidence file of a step: a phase of one step goes by the phase's name alone. */
export function evidenceName(at: PlanStep, batch: string | null): string {
  const name = at.phase.steps.length === 1 ? `${at.phase.number}-${at.phase.name}` : stepSlug(at)
  return `${name}${batch === null ? '' : `-${batch}`}.yaml`
}

export function rotationFolder(rotation: string): string {
  return `rotations/${rotation}`
}

/** Folder of the rendered bytes of a step, its undo or its nudge at one site. */
export function treeFolder(rotation: string, at: PlanStep, variant: Variant, site: string): string {
  const base = `${rotationFolder(rotation)}/phases/${stepFolder(at)}`
  return variant === 'step' ? `${base}/${site}` : `${base}/${variant}/${site}`
}

export function plannedTree(site: PlannedSite | undefined, variant: Variant): PlannedTree | null {
  if (site === undefined) return null
  if (variant === 'step') return site
  return site[variant]
}

/** Branch of a step's pull request: `reanchor/mesh-2026/2-trust-both-1-data[-batch]`. */
export function stepBranch(rotation: string, at: PlanStep, batch: string | null, variant: Variant = 'step'): string {
  const parts = [stepSlug(at), ...(variant === 'step' ? [] : [variant]), ...(batch === null ? [] : [batch])]
  return `reanchor/${rotation}/${parts.join('-')}`
}

export function planBranch(rotation: string): string {
  return `reanchor/${rotation}/plan`
}

/** Branch of the pull request with which cert-manager is asked to mint the new CA. */
export function mintBranch(rotation: string): string {
  return `reanchor/${rotation}/mint`
}

export function closeBranch(rotation: string, plan: Plan): string {
  return `reanchor/${rotation}/${plan.phases.length}-close`
}

/** How a batch is called in names: null for the only one, its site's name for one of a single site, else `batch-2`. */
export function batchName(plan: Plan, batch: number): string | null {
  if (plan.batches.length <= 1) return null
  const sites = plan.batches[batch] ?? []
  return sites.length === 1 && sites[0] !== undefined ? sites[0] : `batch-${batch + 1}`
}
