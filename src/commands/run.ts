import { exitCodes, ReanchorError } from '../errors.ts'
import { backOff } from '../runner/back-off.ts'
import { type HeldLocks, heldLocks } from '../runner/held-locks.ts'
import type { Context } from './context.ts'
import { type JointGates, jointGates, type Unjudged } from './joint-gates.ts'
import { type NextOutcome, next, stopObserving } from './next.ts'
import { loadRotation, type OpenRotation } from './rotation.ts'
import { rotationsToRun } from './rotations-to-run.ts'
import { unreadable } from './unreadable.ts'

export interface RunOptions {
  /** Null: every rotation of the repository that is open. */
  readonly rotation: string | null
  readonly base: string | null
  readonly once: boolean
  /** Milliseconds between two rounds. */
  readonly interval: number
  /** Goes on where every rotation is closed: a new one may come. @default false */
  readonly forever?: boolean
  /** @default never stopped */
  readonly stop?: Stop
  /** @default no lock is taken */
  readonly lock?: RunLock
}

/** How this runner keeps others away from the rotations that it works at. */
export interface RunLock {
  /** One line for people: a host and a process. */
  readonly holder: string
  /** Milliseconds that a lock is held without being renewed. */
  readonly lasts: number
  /** Calls again and again while a round takes long; the answer ends that. @default locks are renewed between rounds alone */
  readonly every?: (milliseconds: number, call: () => Promise<void>) => () => void
}

/** Somebody wants it to end. */
export interface Stop {
  readonly signal: Promise<'stopped'>
  readonly is: () => boolean
}

/** How a round of one rotation went, `took` milliseconds long. `rotation` null: it did not come so far that one was known. */
export type Round = { readonly took: number } & (
  | { readonly kind: 'told'; readonly rotation: OpenRotation; readonly outcome: NextOutcome }
  /** It could not be gone through now: another runner is at it, or it is paused or not planned yet. */
  | { readonly kind: 'later'; readonly rotation: string | null; readonly error: ReanchorError }
  /** It is tried again in `again` milliseconds; null: it needs a person. */
  | {
      readonly kind: 'failed'
      readonly rotation: string | null
      readonly error: ReanchorError
      readonly again: number | null
    }
)

export type RunEnd =
  | { readonly kind: 'stopped'; readonly rotations: readonly OpenRotation[] }
  /** The last round of each. */
  | { readonly kind: 'ended'; readonly rounds: readonly Round[] }

/**
 * Rounds of `next` until every rotation is done. What only has to be waited for is tried again, and so is, with longer and longer pauses, what fails and
 * may not fail later; a refusal needs a person: it ends the loop, unless there is another rotation to go on with. What is green because it was seen is so
 * only while this observes, so whatever ends the loop takes that back; one round by itself is repeated by whoever asked for it.
 */
export async function runRounds(
  context: Context,
  options: RunOptions,
  tell: (round: Round) => Promise<void>,
): Promise<RunEnd> {
  const locks = options.lock === undefined ? null : heldLocks({ ...context, ...options.lock })
  const quiet = options.lock?.every?.(options.lock.lasts / 3, async () => await locks?.renew())
  try {
    return await rounds(context, options, tell, locks)
  } finally {
    quiet?.()
    await locks?.release()
  }
}

async function rounds(
  context: Context,
  options: RunOptions,
  tell: (round: Round) => Promise<void>,
  locks: HeldLocks | null,
): Promise<RunEnd> {
  const { once, interval, forever = false, stop } = options
  const unlessStopped = <T>(going: Promise<T>): Promise<T | 'stopped'> =>
    stop === undefined ? going : Promise.race([going, stop.signal])
  const failing: Failing = new Map()
  let names: readonly (string | null)[] = [options.rotation]
  for (;;) {
    let last: readonly Round[]
    try {
      const going = oneRound(context, options, locks, failing, known => {
        names = known
      })
      const seen = await unlessStopped(going)
      if (seen === 'stopped') return { kind: 'stopped', rotations: await leave(context, options, names) }
      last = seen
    } catch (error) {
      // A defect of ours.
      if (!once) await leave(context, options, names)
      throw error
    }
    for (const round of last) await tell(round)
    if (once || last.every(isOver(forever))) {
      if (!once) await leave(context, options, names)
      const [only] = last
      if (last.length === 1 && only !== undefined && only.kind !== 'told') throw only.error
      return { kind: 'ended', rounds: last }
    }
    const pause = pauseAfter(last, interval)
    if ((await unlessStopped(context.sleep(pause))) === 'stopped')
      return { kind: 'stopped', rotations: await leave(context, options, names) }
  }
}

/** Failures in a row of each rotation, and when it is tried again, in milliseconds since 1970. */
type Failing = Map<string | null, { readonly count: number; readonly until: number; readonly error: ReanchorError }>

async function oneRound(
  context: Context,
  options: RunOptions,
  locks: HeldLocks | null,
  failing: Failing,
  known: (names: readonly (string | null)[]) => void,
): Promise<readonly Round[]> {
  const started = context.now().getTime()
  const took = (): number => context.now().getTime() - started
  let names: readonly (string | null)[]
  try {
    const found = options.rotation === null ? await rotationsToRun(context, options.base) : [options.rotation]
    // Where there is none, `next` says what is missing.
    names = found.length === 0 ? [null] : found
    known(names)
    const held = await locks?.ensure(found)
    if (held !== undefined && held !== null)
      return names.map(rotation => ({ kind: 'later', rotation, error: held, took: took() }))
    failing.delete(null)
  } catch (caught) {
    const error = unreadable(caught, null)
    if (!(error instanceof ReanchorError)) throw error
    return [await failed(context, options, failing, null, error, took())]
  }
  const joint = names.length > 1 ? jointGates(context.repository) : null
  const all: Round[] = []
  for (const name of names) {
    const waits = failing.get(name)
    if (names.length > 1 && waits !== undefined && waits.until > context.now().getTime())
      all.push({
        kind: 'failed',
        rotation: name,
        error: waits.error,
        again: waits.until - context.now().getTime(),
        took: 0,
      })
    else all.push(await roundOf(context, options, { name, locks, failing, joint }))
  }
  try {
    await joint?.finish(await unjudgedOf(context, options, all))
    return all
  } catch (error) {
    // What they say together could not be posted.
    if (!(error instanceof ReanchorError)) throw error
    return [...all, await failed(context, options, failing, null, error, took())]
  }
}

interface RoundScene {
  readonly name: string | null
  readonly locks: HeldLocks | null
  readonly failing: Failing
  readonly joint: JointGates | null
}

async function roundOf(
  context: Context,
  options: RunOptions,
  { name, locks, failing, joint }: RoundScene,
): Promise<Round> {
  const started = context.now().getTime()
  const took = (): number => context.now().getTime() - started
  try {
    const { rotation, outcome } = await next(context, {
      rotation: name,
      base: options.base,
      variant: 'step',
      runner: true,
      stopped: () => options.stop?.is() === true || locks?.lost() === true,
      ...(joint === null ? {} : { post: joint.post }),
    })
    failing.delete(name)
    return { kind: 'told', rotation, outcome, took: took() }
  } catch (caught) {
    const error = unreadable(caught, null)
    if (!(error instanceof ReanchorError)) throw error
    return await failed(context, options, failing, name, error, took())
  }
}

async function failed(
  context: Context,
  options: RunOptions,
  failing: Failing,
  rotation: string | null,
  error: ReanchorError,
  took: number,
): Promise<Round> {
  if (error.exit === exitCodes.waiting && !error.transient) return { kind: 'later', rotation, error, took }
  const count = (failing.get(rotation)?.count ?? 0) + 1
  // What could not even be asked cannot be called seen: `next` takes that back itself where it comes so far.
  if (count === 1 && !options.once) await stopObserving(context, { ...options, rotation }).catch(() => null)
  const retried = error.transient || error.exit === exitCodes.violated
  const again = backOff(count, options.interval, context.random)
  failing.set(rotation, { count, until: context.now().getTime() + again, error })
  return { kind: 'failed', rotation, error, again: retried ? again : null, took }
}

/** What has no word of its own in this round, with its plan where that can be read. */
async function unjudgedOf(context: Context, { base }: RunOptions, all: readonly Round[]): Promise<readonly Unjudged[]> {
  const found: Unjudged[] = []
  for (const round of all) {
    if (round.kind === 'told') continue
    const rotation = round.rotation ?? ''
    const plan = await loadRotation(context.repository, { rotation, base }).then(
      loaded => loaded.plan,
      () => null,
    )
    found.push({ rotation, plan, why: round.error.what })
  }
  return found
}

/** Whether nothing is left to go on with in a rotation. */
function isOver(forever: boolean): (round: Round) => boolean {
  return round => {
    if (round.kind === 'told') return round.outcome.kind === 'done' && !forever
    return round.kind === 'failed' && round.again === null
  }
}

function pauseAfter(last: readonly Round[], interval: number): number {
  const pauses = last.map(round => (round.kind === 'failed' ? (round.again ?? interval) : interval))
  return Math.max(interval, Math.min(...pauses))
}

/** Takes back what is green only while this observes. What cannot be reached keeps until when its green is good. */
async function leave(
  context: Context,
  { base }: RunOptions,
  names: readonly (string | null)[],
): Promise<readonly OpenRotation[]> {
  const left: OpenRotation[] = []
  for (const rotation of names) {
    const found = await stopObserving(context, { rotation, base }).catch(() => null)
    if (found !== null) left.push(found)
  }
  return left
}
