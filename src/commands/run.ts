import { exitCodes, ReanchorError } from '../errors.ts'
import type { Context } from './context.ts'
import { type NextOutcome, next } from './next.ts'
import type { OpenRotation } from './rotation.ts'

export interface RunOptions {
  readonly rotation: string | null
  readonly base: string | null
  readonly once: boolean
  /** Milliseconds between two rounds. */
  readonly interval: number
}

/** What a round told, or why it could not be gone through now: another runner was first, or the rotation is paused or not planned yet. */
export type Round =
  | { readonly kind: 'told'; readonly outcome: NextOutcome }
  | { readonly kind: 'later'; readonly error: ReanchorError }

/** Rounds of `next` until the rotation is done. What only has to be waited for is tried again; a refusal ends the loop: it needs a person. */
export async function runRounds(
  context: Context,
  { rotation, base, once, interval }: RunOptions,
  tell: (round: Round) => Promise<void>,
): Promise<{ readonly rotation: OpenRotation; readonly outcome: NextOutcome }> {
  for (;;) {
    try {
      const round = await next(context, { rotation, base, variant: 'step' })
      if (once || round.outcome.kind === 'done') return round
      await tell({ kind: 'told', outcome: round.outcome })
    } catch (error) {
      if (once || !(error instanceof ReanchorError) || error.exit !== exitCodes.waiting) throw error
      await tell({ kind: 'later', error })
    }
    await context.sleep(interval)
  }
}
