import { exitCodes, ReanchorError } from '../errors.ts'
import type { Context } from './context.ts'
import { type NextOutcome, next, stopObserving } from './next.ts'
import type { OpenRotation } from './rotation.ts'

export interface RunOptions {
  readonly rotation: string | null
  readonly base: string | null
  readonly once: boolean
  /** Milliseconds between two rounds. */
  readonly interval: number
  /** @default never stopped */
  readonly stop?: Stop
}

/** Somebody wants it to end. */
export interface Stop {
  readonly signal: Promise<'stopped'>
  readonly is: () => boolean
}

/** What a round told, or why it could not be gone through now: another runner was first, or the rotation is paused or not planned yet. */
export type Round =
  | { readonly kind: 'told'; readonly outcome: NextOutcome }
  | { readonly kind: 'later'; readonly error: ReanchorError }

/**
 * Rounds of `next` until the rotation is done. What only has to be waited for is tried again; a refusal ends the loop: it needs a person. What is green
 * because it was seen is so only while this observes, so whatever ends the loop takes that back; one round by itself is repeated by whoever asked for it.
 */
export async function runRounds(
  context: Context,
  { rotation, base, once, interval, stop }: RunOptions,
  tell: (round: Round) => Promise<void>,
): Promise<{ readonly rotation: OpenRotation; readonly outcome: NextOutcome | { readonly kind: 'stopped' } }> {
  const asked = {
    rotation,
    base,
    variant: 'step',
    runner: true,
    ...(stop === undefined ? {} : { stopped: stop.is }),
  } as const
  const unlessStopped = <T>(going: Promise<T>): Promise<T | 'stopped'> =>
    stop === undefined ? going : Promise.race([going, stop.signal])
  const leave = async () => ({ rotation: await stopObserving(context, asked), outcome: { kind: 'stopped' } as const })
  for (;;) {
    try {
      const round = await unlessStopped(next(context, asked))
      if (round === 'stopped') return await leave()
      if (once || round.outcome.kind === 'done') return round
      await tell({ kind: 'told', outcome: round.outcome })
    } catch (error) {
      if (once || !(error instanceof ReanchorError) || error.exit !== exitCodes.waiting) {
        if (!once) await stopObserving(context, asked).catch(() => null)
        throw error
      }
      await tell({ kind: 'later', error })
    }
    if ((await unlessStopped(context.sleep(interval))) === 'stopped') return await leave()
  }
}
