import { describe, expect, test } from 'vitest'
import type { Repository } from '../../src/repository/repository.ts'
import { heldLocks } from '../../src/runner/held-locks.ts'
import {
  type HeldElsewhere,
  heldElsewhere,
  isLock,
  type Lock,
  type LockMeans,
  lockRef,
  takeLock,
} from '../../src/runner/lock.ts'
import { seededRandom } from '../custody/secrets.ts'
import { author, bareRepository, cloneOf, opened, userGit } from '../repository/temporary.ts'

const noon = Date.parse('2026-11-29T12:00:00Z')
const minute = 60_000

interface Runner extends LockMeans {
  at: number
}

/** With a clock that the test moves by hand. */
function runner(repository: Repository, holder: string, at = noon): Runner {
  const means: Runner = {
    repository,
    random: seededRandom(holder),
    author,
    holder,
    lasts: 10 * minute,
    at,
    now: () => new Date(means.at),
  }
  return means
}

/** Two runners, each with a clone of its own, and the repository that both push to. */
async function two() {
  const bare = await bareRepository()
  const one = runner(await opened(cloneOf(bare), { remote: 'origin' }), 'one')
  const other = runner(await opened(cloneOf(bare), { remote: 'origin' }), 'other')
  const refs = () => userGit(bare, 'for-each-ref', '--format=%(refname)', 'refs/reanchor').split('\n').filter(Boolean)
  return { bare, one, other, refs }
}

async function taken(means: LockMeans, rotation = 'mesh-2026'): Promise<Lock> {
  const found = await takeLock(means, rotation)
  if (!isLock(found)) throw new Error(`held by ${found.holder}`)
  return found
}

async function refused(means: LockMeans, rotation = 'mesh-2026'): Promise<HeldElsewhere> {
  const found = await takeLock(means, rotation)
  if (isLock(found)) throw new Error('it was free')
  return found
}

describe('a lock', () => {
  test('is held by one runner, who is named to the other with until when, and is free once given back', async () => {
    const { one, other, refs } = await two()
    const lock = await taken(one)
    expect(refs()).toEqual([lockRef('mesh-2026')])
    const held = await refused(other)
    expect(held).toMatchObject({ holder: 'one', since: new Date(noon), until: new Date(noon + 10 * minute) })
    expect(heldElsewhere(held).message).toContain('held by one since 2026-11-29T12:00:00Z, until 2026-11-29T12:10:00Z')
    expect(heldElsewhere(held).exit).toBe(3)
    await lock.release()
    expect(refs()).toEqual([])
    await taken(other)
  })

  test('is another for each rotation', async () => {
    const { one, other } = await two()
    await taken(one, 'mesh-2026')
    await taken(other, 'mesh-2027')
  })

  test('of a runner that was killed is taken over once its time and what clocks may differ by are over, and not before', async () => {
    const { one, other } = await two()
    const lock = await taken(one)
    other.at = noon + 11 * minute
    await refused(other)
    other.at += 1
    await taken(other)
    // Who was thought dead writes nothing more, and takes nothing away from the new one.
    expect(await lock.renew()).toBe(false)
    await lock.release()
    one.at = other.at
    expect(await refused(one)).toMatchObject({ holder: 'other' })
  })

  test('that is renewed lasts longer', async () => {
    const { one, other } = await two()
    const lock = await taken(one)
    one.at = noon + 9 * minute
    expect(await lock.renew()).toBe(true)
    other.at = noon + 15 * minute
    expect(await refused(other)).toMatchObject({ until: new Date(noon + 19 * minute) })
  })

  test('is won by exactly one of many that reach for it at the same time', async () => {
    const { bare } = await two()
    const many = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async name => runner(await opened(cloneOf(bare), { remote: 'origin' }), name)),
    )
    const found = await Promise.all(many.map(means => takeLock(means, 'mesh-2026')))
    expect(found.filter(isLock)).toHaveLength(1)
  })

  test('is taken over by exactly one', async () => {
    const { bare, one } = await two()
    await taken(one)
    const late = noon + 20 * minute
    const many = await Promise.all(
      ['a', 'b', 'c'].map(async name => runner(await opened(cloneOf(bare), { remote: 'origin' }), name, late)),
    )
    const found = await Promise.all(many.map(means => takeLock(means, 'mesh-2026')))
    expect(found.filter(isLock)).toHaveLength(1)
  })

  test('cannot claim more than a day, whatever its commit says', async () => {
    const { one, other } = await two()
    await taken({ ...one, lasts: 400 * 24 * 60 * minute })
    expect((await refused(other)).until).toEqual(new Date(noon + 24 * 60 * minute))
  })

  test('of somebody else’s making is held like any other, and says so', async () => {
    const { bare, one, other } = await two()
    const foreign = await one.repository.commit({
      parent: null,
      changes: new Map([['x', 'x']]),
      message: 'by hand',
      trailers: { 'Reanchor-Lock-Seconds': 'many' },
      author,
      at: new Date(noon),
    })
    await one.repository.publish([{ ref: lockRef('mesh-2026'), from: null, to: foreign }])
    expect(userGit(bare, 'rev-parse', lockRef('mesh-2026'))).toBe(foreign)
    expect(await refused(other)).toMatchObject({
      holder: 'somebody who does not say',
      until: new Date(noon + 10 * minute),
    })
  })

  test('works in a bare repository that has no remote', async () => {
    const bare = await bareRepository()
    const one = runner(await opened(bare), 'one')
    const other = runner(await opened(bare), 'other')
    const lock = await taken(one)
    expect((await refused(other)).holder).toBe('one')
    await lock.release()
    await taken(other)
  })
})

describe('the locks of a runner', () => {
  test('are all or none, so that two runners never have a part each', async () => {
    const { one, other, refs } = await two()
    const second = await taken(other, 'b')
    const locks = heldLocks(one)
    const why = await locks.ensure(['c', 'a', 'b'])
    expect(why?.message).toContain('held by other')
    expect(refs()).toEqual([lockRef('b')])
    await second.release()
    expect(await locks.ensure(['c', 'a', 'b'])).toBeNull()
    expect(refs()).toEqual(['a', 'b', 'c'].map(lockRef))
    expect(await locks.ensure(['a'])).toBeNull()
    expect(refs()).toEqual([lockRef('a')])
    await locks.release()
    expect(refs()).toEqual([])
  })

  test('are renewed between rounds, and one that was lost in between is said to be', async () => {
    const { bare, one, other } = await two()
    const locks = heldLocks(one)
    await locks.ensure(['a'])
    const before = userGit(bare, 'rev-parse', lockRef('a'))
    one.at += 2 * minute
    await locks.ensure(['a'])
    expect(userGit(bare, 'rev-parse', lockRef('a'))).toBe(before)
    one.at += 2 * minute
    await locks.ensure(['a'])
    expect(userGit(bare, 'rev-parse', lockRef('a'))).not.toBe(before)
    other.at = one.at + 12 * minute
    await taken(other, 'a')
    one.at = other.at
    expect(locks.lost()).toBe(false)
    await locks.renew()
    expect(locks.lost()).toBe(true)
    expect((await locks.ensure(['a']))?.message).toContain('held by other')
  })
})
