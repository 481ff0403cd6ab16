import { exitCodes, ReanchorError } from '../errors.ts'
import type { PlanStep, Variant } from '../plan/steps.ts'
import type { Repository } from '../repository/repository.ts'

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

export interface NewBranch {
  readonly branch: string
  readonly from: string | null
  readonly to: string
  /** The branch that it is to be merged into, and its commit that all was read from. */
  readonly base: string
  readonly read: string
  /** Which files what was read rests on. */
  readonly concerns: (path: string) => boolean
}

/**
 * A request's branch comes into being only while the base branch still has what it rests on as it was read: where another runner's request was merged
 * meanwhile, and its branch removed, the same change would go out a second time.
 */
export async function publishNew(repository: Repository, wanted: NewBranch): Promise<void> {
  const ref = `refs/heads/${wanted.branch}`
  const base = `refs/heads/${wanted.base}`
  let seen = wanted.read
  for (;;) {
    const result = await repository.publish([
      { ref, from: wanted.from, to: wanted.to },
      { ref: base, from: seen, to: seen },
    ])
    if (result.ok) return
    if (result.ref !== base) throw somebodyElse(result.ref)
    await repository.fetch()
    const now = await repository.head(wanted.base)
    // Others' commits on a busy branch are no reason to look at every cluster again.
    const changed = now === seen ? [] : [...(await repository.changedPaths(seen, now)).keys()]
    if (now === seen || changed.some(wanted.concerns)) throw somebodyElse(base)
    seen = now
  }
}
