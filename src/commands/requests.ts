import { exitCodes, ReanchorError } from '../errors.ts'
import type { PlanStep, Variant } from '../plan/steps.ts'

/** What a pull request does to the base branch, apart from the evidence that it brings. */
export interface Request {
  readonly kind: 'step' | 'close'
  readonly at: PlanStep
  readonly variant: Variant
  readonly sites: readonly string[]
  readonly batch: string | null
  readonly branch: string
  readonly after: PlanStep | null
}

/** A branch that was moved meanwhile: waiting, since the same command may go through now. */
export function somebodyElse(ref: string): ReanchorError {
  return new ReanchorError({
    what: 'somebody else moved the branch first',
    where: { object: ref },
    expected: 'the branch as it was read',
    todo: 'run the same command again: it takes up what is there now',
    exit: exitCodes.waiting,
  })
}
