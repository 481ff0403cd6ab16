import { exitCodes, ReanchorError } from '../errors.ts'
import type { Person, Repository } from '../repository/repository.ts'

/**
 * One runner at a time for each rotation: a ref on the remote that only a push that finds it as expected can make or move. It holds a commit whose own
 * time says since when, and whose trailer says for how long, so that a runner that was killed is followed by another.
 */
export interface LockMeans {
  readonly repository: Repository
  readonly now: () => Date
  readonly random: (size: number) => Buffer
  readonly author: Person
  /** Who holds it, for people: a host and a process. One line. */
  readonly holder: string
  /** Milliseconds that it is held without being renewed. */
  readonly lasts: number
}

export interface Lock {
  readonly rotation: string
  /** From now on for the same time again. False: somebody else has it now, and nothing may be written any more. */
  renew(): Promise<boolean>
  /** Gives it back where it is still held. Never throws for somebody else's. */
  release(): Promise<void>
}

export interface HeldElsewhere {
  readonly rotation: string
  readonly holder: string
  readonly since: Date
  readonly until: Date
}

export function lockRef(rotation: string): string {
  return `refs/reanchor/lock/${rotation}`
}

/** Clocks of two runners may differ by this much, in milliseconds, before one takes the other's lock too early. */
const skew = 60_000
/** What a lock may claim for itself at the most, in milliseconds: it is read from a commit that anybody who may push can write. */
const longest = 24 * 3_600_000
/** Of a lock that does not say. */
const usual = 600_000

const holderTrailer = 'Reanchor-Lock-Holder'
const lastsTrailer = 'Reanchor-Lock-Seconds'

/** Takes a rotation's lock, a free one or one whose time is over. Otherwise says who has it. */
export async function takeLock(means: LockMeans, rotation: string): Promise<Lock | HeldElsewhere> {
  const ref = lockRef(rotation)
  const found = await means.repository.refNow(ref)
  const held = found === null ? null : await readLock(means.repository, rotation, found)
  if (held !== null && means.now().getTime() <= held.until.getTime() + skew) return held
  const own = await lockCommit(means, rotation)
  const taken = await means.repository.publish([{ ref, from: found, to: own }])
  if (taken.ok) return lockOf(means, rotation, own)
  const winner = await means.repository.refNow(ref)
  if (winner !== null) return await readLock(means.repository, rotation, winner)
  const now = means.now()
  return { rotation, holder: 'somebody who has given it back since', since: now, until: now }
}

function lockOf(means: LockMeans, rotation: string, first: string): Lock {
  const ref = lockRef(rotation)
  let own: string | null = first
  // Renewals come from a timer and from rounds: one push at a time.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    const next = turn.then(run, run)
    turn = next.catch(() => null)
    return next
  }
  return {
    rotation,
    renew: () =>
      inTurn(async () => {
        if (own === null) return false
        const next = await lockCommit(means, rotation)
        const moved = await means.repository.publish([{ ref, from: own, to: next }])
        own = moved.ok ? next : null
        return moved.ok
      }),
    release: () =>
      inTurn(async () => {
        if (own === null) return
        const mine = own
        own = null
        await means.repository.publish([{ ref, from: mine, to: null }])
      }),
  }
}

async function lockCommit(means: LockMeans, rotation: string): Promise<string> {
  const { repository, now, random, author, holder, lasts } = means
  // Two locks of one second would be one commit, and each runner would take the other's for its own.
  const nonce = random(16).toString('hex')
  return await repository.commit({
    parent: null,
    changes: new Map([['lock', `${rotation} ${nonce}\n`]]),
    message: `reanchor run: ${rotation} is held`,
    trailers: { [holderTrailer]: holder.replace(/\s+/g, ' '), [lastsTrailer]: String(Math.ceil(lasts / 1000)) },
    author,
    at: now(),
  })
}

async function readLock(repository: Repository, rotation: string, commit: string): Promise<HeldElsewhere> {
  const { committer, trailers } = await repository.commitFacts(commit)
  const seconds = Number(trailers[lastsTrailer])
  const lasts = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, longest) : usual
  return {
    rotation,
    holder: trailers[holderTrailer] ?? 'somebody who does not say',
    since: committer.at,
    until: new Date(committer.at.getTime() + lasts),
  }
}

export function isLock(taken: Lock | HeldElsewhere): taken is Lock {
  return 'release' in taken
}

/** Waiting: the other one does what is to be done. */
export function heldElsewhere({ rotation, holder, since, until }: HeldElsewhere): ReanchorError {
  const ref = lockRef(rotation)
  return new ReanchorError({
    what: 'another runner works at this rotation',
    where: { object: ref },
    expected: 'a lock that is free, or whose time is over',
    found: `held by ${holder} since ${since.toISOString().slice(0, 19)}Z, until ${until.toISOString().slice(0, 19)}Z`,
    todo: `nothing, it is taken up then; where that runner is known to be gone, or its clock is wrong: git push origin --delete ${ref}`,
    exit: exitCodes.waiting,
  })
}
