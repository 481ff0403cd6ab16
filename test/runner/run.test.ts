import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { identityToRecipient } from 'age-encryption'
import { describe, expect, test } from 'vitest'
import type { Context } from '../../src/commands/context.ts'
import { jointStatus } from '../../src/commands/joint-gates.ts'
import { plan } from '../../src/commands/plan.ts'
import { type Round, type RunOptions, runRounds } from '../../src/commands/run.ts'
import { runInit } from '../../src/declaration/init.ts'
import { exitCodes, ReanchorError } from '../../src/errors.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import { isLock, lockRef, takeLock } from '../../src/runner/lock.ts'
import { userGit } from '../repository/temporary.ts'
import { commit, contextOf, identity, plannedWorld, refsOf, rotation, start, temporary } from '../scenarios/world.ts'

const minute = 60_000
const once = { rotation: null, base: null, once: true, interval: minute } as const
const holder = { holder: 'this one', lasts: 10 * minute }

function told(rounds: Round[]): (round: Round) => Promise<void> {
  return async round => void rounds.push(round)
}

function nameOf(round: Round): string | null {
  return round.kind === 'told' ? round.rotation.name : round.rotation
}

/** A repository with the rotations `east` and `west`, each of a cluster of its own, both planned and merged. */
async function twoRotations() {
  const folder = temporary()
  const bare = join(folder, 'fleet.git')
  mkdirSync(bare, { recursive: true })
  userGit(bare, 'init', '-q', '--bare', '-b', 'main', '.')
  const repository = await openRepository(bare)
  const age = await identityToRecipient(identity)
  const fleet = demoFleet({ sites: ['eu-1', 'us-1'], ageRecipient: age })
  let head = await commit(repository, null, fleet, 'The fleet as it is')
  for (const [name, site] of [
    ['east', 'eu-1'],
    ['west', 'us-1'],
  ] as const) {
    const declared = await runInit({
      files: fleet,
      flags: {
        name,
        site: [`${site}=trust/${site}`],
        context: [`${site}=${site}`],
        delivery: [`${site}=flux:flux-system/trust`],
        age: [age],
        forge: 'local',
      },
      existing: () => null,
      now: start,
      ask: null,
    })
    head = await commit(repository, head, new Map([[declared.path, declared.text]]), `Declare ${name}`)
  }
  const forge = await openLocalForge(repository, { now: () => start })
  for (const name of ['east', 'west']) {
    const options = {
      rotation: name,
      base: null,
      rootKeyOut: join(folder, `${name}.age`),
      chain: null,
      acceptOutage: false,
    }
    await plan(contextOf(repository), options)
    for (const { number } of await forge.list('open'))
      await forge.merge(number, { method: 'merge', by: author, at: start })
  }
  return { repository, forge, bare }
}

const author = { name: 'Ada', email: 'ada@example.com' }

async function request(repository: Repository, branch: string, path: string) {
  const forge = await openLocalForge(repository, { now: () => start })
  const base = await repository.head('main')
  await commit(repository, base, new Map([[path, 'a: 1\n']]), `Change ${path}`, branch)
  const opened = await forge.open({ title: branch, body: '', branch, base: 'main' })
  return { gate: async () => await forge.status(opened.head, 'reanchor/gate') }
}

async function pause(repository: Repository, name: string): Promise<void> {
  const path = `rotations/${name}/rotation.yaml`
  const head = await repository.head('main')
  const text = (await repository.snapshot(head).read(path)) ?? ''
  await commit(repository, head, new Map([[path, text.replace('spec:\n', 'spec:\n  paused: true\n')]]), 'pause')
}

describe('a runner of all rotations', () => {
  test('goes through each, and gives one word on what concerns several', async () => {
    const { repository, forge } = await twoRotations()
    const readme = await request(repository, 'readme', 'README.txt')
    const east = await request(repository, 'east', 'trust/eu-1/mine.yaml')
    const rounds: Round[] = []
    const end = await runRounds(contextOf(repository), { ...once, lock: holder }, told(rounds))
    expect(end).toMatchObject({ kind: 'ended', rounds: [{ kind: 'told' }, { kind: 'told' }] })
    expect(rounds.map(round => [nameOf(round), round.kind === 'told' && round.outcome.kind])).toEqual([
      ['east', 'opened'],
      ['west', 'opened'],
    ])
    const open = await forge.listOpen('main')
    for (const { branch, head } of open.filter(each => each.branch.startsWith('reanchor/')))
      expect(await forge.status(head, 'reanchor/gate'), branch).toMatchObject({
        state: 'success',
        description: 'nothing precedes this step',
      })
    expect(await readme.gate()).toMatchObject({ state: 'success', description: 'no change of trust' })
    expect((await east.gate())?.state).not.toBe('success')
  })

  test('goes on with the others where one waits, and is not green where that one has a word', async () => {
    const { repository } = await twoRotations()
    await pause(repository, 'west')
    const readme = await request(repository, 'readme', 'README.txt')
    const wests = await request(repository, 'wests', 'rotations/west/note.txt')
    const rounds: Round[] = []
    await runRounds(contextOf(repository), once, told(rounds))
    expect(rounds.map(round => [nameOf(round), round.kind])).toEqual([
      ['east', 'told'],
      ['west', 'later'],
    ])
    expect(await readme.gate()).toMatchObject({ state: 'success' })
    expect(await wests.gate()).toMatchObject({
      state: 'pending',
      description: 'rotation west was not judged: the rotation is paused',
    })
  })

  test('holds a lock of each while it works, and none afterwards', async () => {
    const { repository, bare } = await twoRotations()
    const locks = () => Object.keys(refsOf(bare)).filter(ref => ref.startsWith('refs/reanchor/lock/'))
    let during: readonly string[] = []
    await runRounds(contextOf(repository), { ...once, lock: holder }, async () => {
      during = locks()
    })
    expect(during).toEqual([lockRef('east'), lockRef('west')])
    expect(locks()).toEqual([])
  })
})

describe('a runner', () => {
  test('does nothing where another one is at it, and takes over once that one is gone for long enough', async () => {
    const world = await plannedWorld()
    const context = world.context()
    const other = await takeLock({ ...context, holder: 'the other', lasts: 5 * minute }, rotation)
    expect(isLock(other)).toBe(true)
    const before = refsOf(world.bare)
    await expect(runRounds(context, { ...once, lock: holder }, async () => {})).rejects.toMatchObject({
      exit: exitCodes.waiting,
      what: 'another runner works at this rotation',
    })
    expect(refsOf(world.bare)).toEqual(before)
    const rounds: Round[] = []
    const stop = stopAfter(8)
    await runRounds(context, { ...once, once: false, lock: holder, stop: stop.stop }, async round => {
      rounds.push(round)
      stop.count()
    })
    const kinds = rounds.map(round => (round.kind === 'told' ? round.outcome.kind : round.kind))
    // The clock moves by the pauses alone: five minutes of lock and one for clocks that differ.
    expect(kinds).toEqual(['later', 'later', 'later', 'later', 'later', 'later', 'later', 'opened'])
    expect(refsOf(world.bare)[lockRef(rotation)]).toBeUndefined()
  })

  test('tries again with longer and longer pauses what may not fail later, and goes on', async () => {
    const world = await plannedWorld()
    const slept: number[] = []
    let failures = 4
    const down = new ReanchorError({ what: 'the remote cannot be fetched', transient: true })
    const context: Context = {
      ...world.context(),
      repository: {
        ...world.repository,
        fetch: async () => {
          failures -= 1
          if (failures >= 0) throw down
        },
      },
      sleep: async milliseconds => void slept.push(milliseconds),
      random: size => Buffer.alloc(size, 0xff),
    }
    const rounds: Round[] = []
    const stop = stopAfter(5)
    await runRounds(context, { ...once, once: false, interval: 1000, stop: stop.stop }, async round => {
      rounds.push(round)
      stop.count()
    })
    expect(rounds.map(round => (round.kind === 'told' ? round.outcome.kind : round.kind))).toEqual([
      'failed',
      'failed',
      'failed',
      'failed',
      'opened',
    ])
    expect(slept.slice(0, 4)).toEqual([5_000, 10_000, 20_000, 40_000])
  })

  test('ends at once where it is refused, and at the first failure of its only round', async () => {
    const world = await plannedWorld()
    const down = new ReanchorError({ what: 'the remote cannot be fetched', transient: true })
    const context = world.context({
      repository: { ...world.repository, fetch: async () => Promise.reject(down) },
    })
    await expect(runRounds(context, once, async () => {})).rejects.toBe(down)
    const head = await world.repository.head('main')
    await commit(world.repository, head, new Map([['trust/eu-1/mine.yaml', 'a: 1\n']]), 'by hand')
    await expect(runRounds(world.context(), { ...once, once: false }, async () => {})).rejects.toMatchObject({
      exit: exitCodes.refused,
    })
  })

  test('renews its lock while a round takes long, by a timer that ends with it', async () => {
    const world = await plannedWorld()
    const calls: (() => Promise<void>)[] = []
    let ended = 0
    const every = (milliseconds: number, call: () => Promise<void>) => {
      expect(milliseconds).toBe((10 * minute) / 3)
      calls.push(call)
      return () => {
        ended += 1
      }
    }
    const lockNow = () => refsOf(world.bare)[lockRef(rotation)]
    const seen: unknown[] = []
    await runRounds(world.context(), { ...once, lock: { ...holder, every } }, async () => {
      seen.push(lockNow())
      await calls[0]?.()
      seen.push(lockNow())
    })
    expect(seen[0]).toMatch(/^[0-9a-f]{40}$/)
    expect(seen[1]).toMatch(/^[0-9a-f]{40}$/)
    expect(seen[1]).not.toBe(seen[0])
    expect([calls.length, ended, lockNow()]).toEqual([1, 1, undefined])
  })
})

describe('one word of several', () => {
  const word = (state: 'success' | 'pending' | 'failure', description: string) => ({
    context: 'reanchor/gate',
    state,
    description,
  })
  const forever = word('success', 'no change of trust')
  const long = word('success', 'safe, good until 2026-12-24T00:00:00Z')
  const short = word('success', 'safe, good until 2026-12-01T00:00:00Z')

  test('is the worst, and of green ones the one that ends first', () => {
    expect(jointStatus([forever, word('failure', 'breaks'), word('pending', 'x')], null).description).toBe('breaks')
    expect(jointStatus([forever, word('pending', 'x')], null).description).toBe('x')
    expect(jointStatus([forever, long, short], null)).toBe(short)
    expect(jointStatus([forever], null)).toBe(forever)
  })

  test('is green only where everybody had one', () => {
    const missing = { rotation: 'west', why: 'the rotation is paused' }
    expect(jointStatus([long], missing)).toMatchObject({ state: 'pending' })
    expect(jointStatus([word('failure', 'breaks')], missing).description).toBe('breaks')
    expect(jointStatus([], null).state).toBe('pending')
  })
})

/** Stops after so many rounds. */
function stopAfter(rounds: number): { readonly stop: NonNullable<RunOptions['stop']>; readonly count: () => void } {
  let left = rounds
  let ring = (): void => {}
  const signal = new Promise<'stopped'>(resolve => {
    ring = () => resolve('stopped')
  })
  return {
    stop: { signal, is: () => left <= 0 },
    count() {
      left -= 1
      if (left <= 0) ring()
    },
  }
}
