import { execFileSync } from 'node:child_process'
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { playing } from '../../safety/crash/tape.ts'
import type { Context } from '../../src/commands/context.ts'
import { next } from '../../src/commands/next.ts'
import { plan } from '../../src/commands/plan.ts'
import { planAt } from '../../src/commands/rotation.ts'
import { type Round, runRounds } from '../../src/commands/run.ts'
import { ageDecrypt } from '../../src/custody/age.ts'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { readRootKeyHeader } from '../../src/custody/root-key.ts'
import { decryptSopsSecret } from '../../src/custody/sops.ts'
import { ReanchorError } from '../../src/errors.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import { userGit } from '../repository/temporary.ts'
import { gateSuite } from './gates.ts'
import { type Act, type Recording, recordRotation, rerun, stageOf } from './record.ts'
import { reportSuite } from './report.ts'
import {
  asked,
  commit,
  contextOf,
  countWrites,
  declaredWorld,
  forkAt,
  identity,
  Killed,
  newKeys,
  plannedWorld,
  planOptions,
  refsOf,
  rotation,
  selfSignedCluster,
  temporary,
} from './world.ts'

let recorded: Recording

beforeAll(async () => {
  recorded = await recordRotation()
}, 240_000)

afterAll(() => {
  if (recorded === undefined) return
  recorded.world.repository.close()
  rmSync(recorded.world.folder, { recursive: true, force: true, maxRetries: 3 })
})

function actOf(part: string): Act {
  const found = recorded.acts.find(act => act.name.includes(part))
  if (found === undefined) throw new Error(`no act ${part}`)
  return found
}

test('a plan in which two sites lead to one cluster is refused before it reads a CA twice (F27)', async () => {
  const world = await declaredWorld({ sites: ['eu-1', 'us-1'] })
  const context = world.context({ clusters: () => selfSignedCluster() })
  await expect(plan(context, planOptions(world))).rejects.toMatchObject({
    exit: 5,
    what: 'two sites lead to one cluster, so that one of them would adopt the CA of the other',
    where: { object: 'site us-1' },
    found: expect.stringMatching(/ at eu-1 and at us-1$/),
  })
})

describe('a whole rotation', () => {
  test('goes from the plan to the closing pull request, one for each step, without a failed handshake', () => {
    expect(recorded.acts.map(act => act.name.replace(`reanchor/${rotation}/`, ''))).toEqual([
      'plan',
      '0-adopt-1-adopt',
      '1-enable-multiroot-1-data',
      '1-enable-multiroot-2-restart',
      '2-trust-both-1-data',
      '2-trust-both-2-restart',
      '3-issue-new-1-data',
      '3-issue-new-2-restart',
      '4-trust-new-1-data',
      '4-trust-new-2-restart',
      '5-close',
    ])
    expect(recorded.handshakes.attempted).toBeGreaterThan(1_000)
    expect(recorded.handshakes.failed).toBe(0)
  })

  test('leaves the evidence of every step on the base branch, each in the pull request after it, and no sealed copy', async () => {
    const files = userGit(recorded.world.bare, 'ls-tree', '-r', '--name-only', 'main', `rotations/${rotation}`).split(
      '\n',
    )
    expect(files.filter(file => file.includes('/evidence/'))).toHaveLength(9)
    expect(files.filter(file => file.includes('/phases/'))).toEqual([])
    for (const act of recorded.acts.slice(2)) {
      const brought = userGit(
        recorded.world.bare,
        'diff',
        '--name-only',
        '--diff-filter=A',
        act.before['refs/heads/main'] ?? '',
        act.name,
      )
      expect(
        brought.split('\n').filter(file => file.includes('/evidence/')),
        act.name,
      ).toHaveLength(1)
    }
  })

  test('ends in the same refs when every command is run again with the same time, keys and answers', async () => {
    for (const act of recorded.acts) {
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      await rerun(act, { folder })
      expect(refsOf(bare), act.name).toEqual(act.after)
    }
  })
})

describe('a kill at any write (F2, F25)', () => {
  test('of plan or next, followed by the same command, ends in the same bytes', { timeout: 180_000 }, async () => {
    let kills = 0
    for (const act of recorded.acts) {
      const writes = await writesOf(act)
      // A commit and its branch; the pull request and, for next, its status, each a commit and a ref of the forge.
      expect(writes.length, act.name).toBeGreaterThanOrEqual(act.command === 'plan' ? 5 : 6)
      for (const when of ['before', 'after'] as const) {
        for (const [index, what] of writes.entries()) {
          const folder = temporary()
          const bare = stageOf(recorded, act, folder)
          const { hook } = countWrites({ number: index + 1, when })
          const at = `${act.name}: killed ${when} write ${index + 1}, ${what}`
          await expect(rerun(act, { folder, hook }), at).rejects.toThrow(Killed)
          await rerun(act, { folder })
          expect(refsOf(bare), at).toEqual(act.after)
          if (act.command === 'plan') await expectRootKeyOf(folder, bare)
          rmSync(folder, { recursive: true, force: true })
          kills += 1
        }
      }
    }
    expect(kills).toBeGreaterThan(100)
  })

  test('of plan, followed by a run that draws other random numbers, leaves one plan whose root has the key in the file', {
    timeout: 60_000,
  }, async () => {
    const act = actOf('plan')
    const writes = await writesOf(act)
    for (const when of ['before', 'after'] as const) {
      for (const index of writes.keys()) {
        const folder = temporary()
        const bare = stageOf(recorded, act, folder)
        const { hook } = countWrites({ number: index + 1, when })
        await expect(rerun(act, { folder, hook, seed: 'first' })).rejects.toThrow(Killed)
        await rerun(act, { folder, seed: 'second' })
        const at = `killed ${when} write ${index + 1}, ${writes[index]}`
        expect(Object.keys(refsOf(bare)), at).toEqual(Object.keys(act.after))
        await expectRootKeyOf(folder, bare)
        expect(
          (await requestsOf(bare)).map(request => request.state),
          at,
        ).toEqual(['open'])
      }
    }
  })

  test('of next, followed by a run half a minute later, brings the same tree in one pull request', {
    timeout: 60_000,
  }, async () => {
    for (const act of [actOf('0-adopt'), actOf('3-issue-new-1'), actOf('5-close')]) {
      const writes = await writesOf(act)
      const wanted = treeOf(recorded.world.bare, act.after[`refs/heads/${act.name}`])
      for (const index of writes.keys()) {
        const folder = temporary()
        const bare = stageOf(recorded, act, folder)
        const { hook } = countWrites({ number: index + 1, when: 'after' })
        await expect(rerun(act, { folder, hook })).rejects.toThrow(Killed)
        await rerun(act, { folder, now: new Date(act.now.getTime() + 30_000) })
        const at = `${act.name}: killed after write ${index + 1}, ${writes[index]}`
        expect(treeOf(bare, `refs/heads/${act.name}`), at).toBe(wanted)
        expect(
          (await requestsOf(bare)).filter(request => request.state === 'open').map(request => request.branch),
          at,
        ).toEqual([act.name])
      }
    }
  })
})

describe('two runners at once (F25)', () => {
  test('open one pull request, whoever is first', async () => {
    for (const act of [actOf('0-adopt'), actOf('2-trust-both-1'), actOf('5-close')]) {
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      const both = await Promise.allSettled([
        rerun(act, { folder }),
        rerun(act, { folder, now: new Date(act.now.getTime() + 1_000) }),
      ])
      expectAtMostALostRace(both)
      const open = (await requestsOf(bare)).filter(request => request.state === 'open')
      expect(open.map(request => request.branch)).toEqual([act.name])
    }
  })

  test('plan once, whoever is first', async () => {
    for (let round = 0; round < 5; round += 1) {
      const act = actOf('plan')
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      const both = await Promise.allSettled([rerun(act, { folder, seed: 'one' }), rerun(act, { folder, seed: 'two' })])
      // The loser finds the branch moved (3), or the root key file taken before it made a key (2) or after (5).
      expectAtMostALostRace(both, [2, 3, 5])
      expect(await requestsOf(bare)).toHaveLength(1)
      await expectRootKeyOf(folder, bare)
    }
  })
})

describe('a runner that is overtaken in the middle (F25)', () => {
  /** Holds `next` or `plan` before a write, does `then`, and lets it go on; tells how it ended. */
  async function overtaken(act: Act, folder: string, write: number, then: () => Promise<unknown>, seed = 'slow') {
    let count = 0
    const hook: WriteHook = async (_, when) => {
      if (when === 'before') count += 1
      if (when === 'before' && count === write) await then()
    }
    return await rerun(act, { folder, hook, ...(act.command === 'plan' ? { seed } : {}) }).catch(
      (error: unknown) => error,
    )
  }

  /** Squashes what `next` opened, as a person does, and removes its branch, as some forges do. */
  async function mergeOpened(bare: string, branch: string, remove: boolean): Promise<void> {
    const repository = await openRepository(bare)
    const at = new Date('2026-03-02T12:00:00Z')
    const forge = await openLocalForge(repository, { now: () => at })
    const request = await forge.find(branch)
    await forge.merge(request?.number ?? 0, { method: 'squash', by: { name: 'Ada', email: 'ada@example.com' }, at })
    if (remove) await repository.publish([{ ref: `refs/heads/${branch}`, from: request?.head ?? null, to: null }])
    repository.close()
  }

  test.each([
    { write: 2, what: 'its branch comes into being', remove: true },
    { write: 3, what: 'its request is opened', remove: true },
    { write: 3, what: 'its request is opened', remove: false },
  ])('brings no step back that was merged before $what, the branch removed: $remove', async ({ write, remove }) => {
    const act = actOf('2-trust-both-1')
    const folder = temporary()
    const bare = stageOf(recorded, act, folder)
    const ended = await overtaken(act, folder, write, async () => {
      await rerun(act, { folder, now: new Date(act.now.getTime() + 1_000) })
      await mergeOpened(bare, act.name, remove)
    })
    expect(ended).toMatchObject({
      exit: 3,
      what: expect.stringMatching(remove ? /moved the branch first/ : /merged already/),
    })
    expect((await requestsOf(bare)).filter(request => request.state === 'open')).toEqual([])
    if (remove) expect(refsOf(bare)).not.toHaveProperty(`refs/heads/${act.name}`)
  })

  test('goes on where others’ commits moved the base branch, without looking at every cluster again', async () => {
    const act = actOf('2-trust-both-1')
    const folder = temporary()
    const bare = stageOf(recorded, act, folder)
    const ended = await overtaken(act, folder, 2, async () => {
      const repository = await openRepository(bare)
      await commit(repository, await repository.head('main'), new Map([['apps/other.txt', 'theirs\n']]), 'theirs')
      repository.close()
    })
    expect(ended).toMatchObject({ kind: 'opened' })
  })

  test('leaves no plan behind that nobody can finish, where another plan’s root key took the file', async () => {
    const act = actOf('plan')
    for (const write of [1, 2, 3]) {
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      const ended = await overtaken(act, folder, write, () => rerun(act, { folder, seed: 'quick' }))
      expect(ended, `write ${write}`).toMatchObject({ exit: 5 })
      expect(Object.keys(refsOf(bare)), `write ${write}`).toEqual(Object.keys(act.after))
      expect(readdirSync(folder), `write ${write}`).toEqual(['fleet.git', 'root.key.age'])
      await expectRootKeyOf(folder, bare)
    }
  })
})

describe('a branch that a killed run left', () => {
  test('is passed over where it does not hold the step: no request is opened for other bytes (F25)', async () => {
    const act = actOf('2-trust-both-1')
    const folder = temporary()
    const bare = stageOf(recorded, act, folder)
    const repository = await openRepository(bare)
    const head = await repository.head('main')
    const edited = new Map([['trust/eu-1/trust.txt', 'of an older plan\n']])
    const left = await commit(repository, head, edited, 'left behind', act.name)
    repository.close()
    expect(await rerun(act, { folder })).toMatchObject({ kind: 'opened', branch: `${act.name}.2` })
    expect(refsOf(bare)[`refs/heads/${act.name}`]).toBe(left)
  })
})

describe('run', () => {
  test('tries again where it only has to wait, and ends where it is refused or asked for one round', async () => {
    const world = await plannedWorld()
    const path = `rotations/${rotation}/rotation.yaml`
    const head = await world.repository.head('main')
    const text = (await world.repository.snapshot(head).read(path)) ?? ''
    const paused = text.replace('spec:\n', 'spec:\n  paused: true\n')
    expect(paused).not.toBe(text)
    const stopped = await commit(world.repository, head, new Map([[path, paused]]), 'pause')
    const rounds: string[] = []
    const context: Context = {
      ...world.context(),
      // Meanwhile somebody lets it go on, then somebody breaks what was planned.
      sleep: async () => {
        const now = await world.repository.head('main')
        const changes = now === stopped ? new Map([[path, text]]) : new Map([['trust/eu-1/mine.yaml', 'a: 1\n']])
        await commit(world.repository, now, changes, 'go on')
      },
    }
    const tell = async (round: Round): Promise<void> => {
      rounds.push(round.kind === 'told' ? round.outcome.kind : round.error.what)
    }
    await expect(runRounds(context, { ...asked, once: false, interval: 1_000 }, tell)).rejects.toMatchObject({
      exit: 5,
    })
    expect(rounds).toEqual(['the rotation is paused', 'opened', expect.stringMatching(/eu-1|edited|wiring/)])
    await commit(world.repository, await world.repository.head('main'), new Map([[path, paused]]), 'pause again')
    await expect(runRounds(context, { ...asked, once: true, interval: 1_000 }, tell)).rejects.toMatchObject({ exit: 3 })
    expect(rounds.slice(3)).toEqual(['the rotation is paused'])
  })
})

describe('a command that has nothing to do (F4)', () => {
  test('writes nothing: plan of what is planned, before and after its merge', async () => {
    const act = actOf('plan')
    for (const refs of [act.after, actOf('0-adopt').before]) {
      const folder = temporary()
      const bare = forkAt(folder, refs, recorded.world.bare)
      const { hook, seen } = countWrites(null)
      await rerun(act, { folder, hook, seed: 'another', now: new Date(act.now.getTime() + 3_600_000) })
      expect(seen).toEqual([])
      expect(refsOf(bare)).toEqual(refs)
    }
  })

  test('writes nothing: next with its pull request open', async () => {
    for (const act of recorded.acts.filter(each => each.command === 'next')) {
      const folder = temporary()
      const bare = forkAt(folder, act.after, recorded.world.bare)
      const { hook, seen } = countWrites(null)
      const outcome = await rerun(act, { folder, hook })
      expect(outcome).toMatchObject({ kind: 'open', pullRequest: { branch: act.name } })
      expect(seen, act.name).toEqual([])
      expect(refsOf(bare)).toEqual(act.after)
    }
  })

  test('writes nothing: next, plan and next again in a rotation that is done', async () => {
    const { finished } = recorded
    const folder = temporary()
    const bare = forkAt(folder, finished.after, recorded.world.bare)
    const { hook, seen } = countWrites(null)
    expect(await rerun(finished, { folder, hook })).toEqual({ kind: 'done' })
    expect(await rerun(finished, { folder, hook })).toEqual({ kind: 'done' })
    const repository = await openRepository(bare, { onWrite: hook })
    const { tapes } = actOf('plan')
    const context = contextOf(repository, { clusters: site => playing(tapes.get(site) ?? new Map()) })
    expect((await plan(context, planOptions({ folder }))).kind).toBe('unchanged')
    repository.close()
    expect(seen).toEqual([])
    expect(refsOf(bare)).toEqual(finished.after)
  })

  test('writes nothing with --dry-run: neither plan nor next', async () => {
    for (const act of [actOf('plan'), actOf('0-adopt'), actOf('3-issue-new-1'), actOf('5-close')]) {
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      const repository = await openRepository(bare)
      const context = contextOf(repository, {
        now: act.now,
        dryRun: true,
        clusters: site => playing(act.tapes.get(site) ?? new Map()),
      })
      const kind =
        act.command === 'plan'
          ? (await plan(context, { ...planOptions({ folder }), rootKeyOut: null })).kind
          : (await next(context, { ...asked, variant: 'step' })).outcome.kind
      repository.close()
      expect(kind).toBe('dry-run')
      expect(refsOf(bare)).toEqual(act.before)
    }
  })
})

describe('a repository whose people merge by other means', () => {
  test.each(['squash', 'rebase'] as const)('goes on after a merge by %s', async method => {
    const act = actOf('0-adopt')
    const folder = temporary()
    const bare = forkAt(folder, act.after, recorded.world.bare)
    const repository = await openRepository(bare)
    const forge = await openLocalForge(repository, { now: () => act.now })
    const [request] = await forge.list('open')
    await forge.merge(request?.number ?? 0, { method, by: { name: 'Ada', email: 'ada@example.com' }, at: act.now })
    const { positionsAt, loadRotation } = await import('../../src/commands/rotation.ts')
    const loaded = await loadRotation(repository, asked)
    const positions = await positionsAt(loaded.snapshot, loaded.plan)
    repository.close()
    expect(positions['eu-1']).toMatchObject({ kind: 'at', phase: 0, step: 1, variant: 'step' })
  })
})

test('plan refuses a CA that changed after the plan was merged, or plans anew; it never says that nothing changed', async () => {
  const act = actOf('0-adopt')
  const folder = temporary()
  forkAt(folder, act.before, recorded.world.bare)
  const repository = await openRepository(join(folder, 'fleet.git'))
  const context = contextOf(repository, { clusters: () => selfSignedCluster() })
  const kind = await plan(context, planOptions({ folder })).then(
    outcome => outcome.kind,
    error => (error instanceof ReanchorError ? 'refused' : error),
  )
  repository.close()
  expect(['refused', 'planned']).toContain(kind)
})

gateSuite(() => recorded)
reportSuite(() => recorded)

describe('private keys (F29)', () => {
  test('are in no object, no ref and no message of the repository, in no encoding', { timeout: 60_000 }, async () => {
    const planted = await plantedKeys()
    const objects = allObjects(recorded.world.bare)
    expect(objects.length).toBeGreaterThan(200)
    // Commits, trees and pull requests of the forge are objects too; what is sealed is found to be there by its marks.
    expect(objects.some(each => each.includes('ENC[AES256_GCM'))).toBe(true)
    expect(objects.some(each => each.includes('"title": "mesh-2026: '))).toBe(true)
    for (const object of objects) expect(findPrivateKeys(object, planted)).toEqual([])
  })

  test('would be found: one planted in a blob, a message or a pull request is', async () => {
    const planted = await plantedKeys()
    const pem = privateKeyPem(newKeys[1] as KeyObject)
    const folder = temporary()
    const bare = forkAt(folder, recorded.finished.after, recorded.world.bare)
    const repository = await openRepository(bare)
    const head = await repository.head('main')
    const encoded = Buffer.from(pem).toString('base64')
    await commit(repository, head, new Map([['trust/eu-1/notes.yaml', `data:\n  note: ${encoded}\n`]]), 'a blob', 'one')
    await commit(repository, head, new Map([['a', 'b\n']]), `a message\n\n${pem}`, 'two')
    const forge = await openLocalForge(repository, { now: () => new Date(0) })
    await forge.open({ title: 'look', body: `use ${encoded}`, branch: 'one', base: 'main' })
    repository.close()
    const found = allObjects(bare).flatMap(object => findPrivateKeys(object, planted))
    expect(found.filter(each => each.kind === 'planted secret').length).toBeGreaterThanOrEqual(3)
  })

  test('are in nothing that a command says, and next never asks a cluster for one', async () => {
    const planted = await plantedKeys()
    expect(recorded.said.length).toBeGreaterThan(10)
    expect(findPrivateKeys(recorded.said.join('\n'), planted)).toEqual([])
    const asked = recorded.acts.filter(act => act.command === 'next').flatMap(act => [...act.tapes.values()])
    expect(asked.length).toBeGreaterThan(5)
    for (const tape of asked) expect(findPrivateKeys(JSON.stringify([...tape]), planted)).toEqual([])
    // The old key does come from the cluster, once, at plan.
    const read = JSON.stringify([...(actOf('plan').tapes.get('eu-1') ?? [])])
    expect(findPrivateKeys(read, planted)).not.toEqual([])
  })
})

/** Every key of the rotation as PEM and as DER, and the age identity that opens the sealed ones. */
async function plantedKeys(): Promise<readonly Buffer[]> {
  const { repository, folder } = recorded.world
  const snapshot = repository.snapshot(
    await repository.commitAt(
      actOf('2-trust-both-1').after[`refs/heads/reanchor/${rotation}/2-trust-both-1-data`] ?? '',
    ),
  )
  const sealed = await decryptSopsSecret((await snapshot.read('trust/eu-1/cacerts.yaml')) ?? '', identity)
  const old = createPrivateKey(Buffer.from(sealed.data['ca-key.pem'] ?? '', 'base64').toString())
  const opened = await ageDecrypt(readFileSync(join(folder, 'root.key.age'), 'utf8'), [identity])
  expect(opened?.includes(privateKeyPem(newKeys[0] as KeyObject).trim())).toBe(true)
  return [
    Buffer.from(identity),
    ...[old, ...newKeys].flatMap(key => [
      Buffer.from(privateKeyPem(key)),
      key.export({ type: 'pkcs8', format: 'der' }),
      key.export({ type: 'pkcs1', format: 'der' }),
      Buffer.from((key.export({ format: 'jwk' }).d ?? '') as string, 'base64url'),
    ]),
  ]
}

/** Every object as git has it: headers, messages, trees, blobs. */
function allObjects(bare: string): readonly Buffer[] {
  const all = execFileSync('git', ['cat-file', '--batch-all-objects', '--batch'], { cwd: bare, maxBuffer: 1 << 28 })
  const objects: Buffer[] = []
  for (let at = 0; at < all.length; ) {
    const line = all.subarray(at, all.indexOf(10, at)).toString()
    const size = Number(line.split(' ')[2])
    const start = at + line.length + 1
    objects.push(all.subarray(start, start + size))
    at = start + size + 1
  }
  return objects
}

async function writesOf(act: Act): Promise<readonly string[]> {
  const folder = temporary()
  stageOf(recorded, act, folder)
  const { hook, seen } = countWrites(null)
  await rerun(act, { folder, hook })
  return seen
}

/** The one who lost waits (exit 3) or found the work done. */
function expectAtMostALostRace(both: readonly PromiseSettledResult<unknown>[], exits: readonly number[] = [3]): void {
  const reasons = both.map(each => (each.status === 'fulfilled' ? 'done' : String(each.reason)))
  expect(reasons.includes('done'), reasons.join('\n')).toBe(true)
  for (const each of both) {
    if (each.status === 'fulfilled') continue
    expect(each.reason).toBeInstanceOf(ReanchorError)
    expect(exits, (each.reason as Error).message).toContain((each.reason as ReanchorError).exit)
  }
}

async function requestsOf(bare: string) {
  const repository = await openRepository(bare)
  const all = await (await openLocalForge(repository, { now: () => new Date(0) })).list('all')
  repository.close()
  return all
}

async function expectRootKeyOf(folder: string, bare: string): Promise<void> {
  const repository = await openRepository(bare)
  const made = await planAt(
    repository.snapshot(await repository.commitAt(`refs/heads/reanchor/${rotation}/plan`)),
    rotation,
  )
  repository.close()
  const root = made?.certificates.find(certificate => certificate.role === 'new-root')
  expect(root?.sha256).toMatch(/^[0-9a-f]{64}$/)
  expect(readRootKeyHeader(join(folder, 'root.key.age')).sha256).toBe(root?.sha256)
}

function treeOf(bare: string, revision: string | undefined): string {
  return userGit(bare, 'rev-parse', `${revision}^{tree}`)
}
