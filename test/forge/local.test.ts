import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { type LocalForge, openLocalForge } from '../../src/forge/local.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { at, bareRepository, branchWith, opened, userGit } from '../repository/temporary.ts'

const branch = 'reanchor/m/1-enable-1-data'
const draft = { title: 'm: enable', body: 'body', branch, base: 'main' }
const by = { name: 'Ada', email: 'ada@example.com' }
const later = new Date('2026-11-22T11:00:00Z')

interface Scene {
  readonly bare: string
  readonly repository: Repository
  readonly forge: LocalForge
  readonly base: string
}

async function scene(files: Record<string, string> = { 'trust/a': '1\n2\n3\n4\n5\n', other: 'x\n' }): Promise<Scene> {
  const bare = await bareRepository(files)
  const repository = await opened(bare)
  const forge = await openLocalForge(repository, { now: () => at })
  return { bare, repository, forge, base: await repository.head('main') }
}

describe('merging', () => {
  test.each(['merge', 'squash', 'rebase'] as const)(
    'by %s, no second request opens for the branch that it brought; one with more commits does (F25)',
    async method => {
      const { repository, forge, base } = await scene()
      const head = await branchWith(repository, branch, base, { 'trust/b': 'b\n' })
      const { number } = await forge.open(draft)
      await branchWith(repository, 'main', base, { other: 'y\n' })
      await forge.merge(number, { method, by, at: later })
      await expect(forge.open(draft)).rejects.toBeInstanceOf(ReanchorError)
      expect(await forge.list('open')).toEqual([])
      await branchWith(repository, branch, head, { 'trust/c': 'c\n' })
      expect(await forge.open(draft)).toMatchObject({ number: number + 1, state: 'open' })
    },
  )

  test.each(['merge', 'squash', 'rebase'] as const)(
    '%s takes a branch of two commits onto a base that moved',
    async method => {
      const { bare, repository, forge, base } = await scene()
      const first = await branchWith(
        repository,
        branch,
        base,
        { 'trust/a': '1\n2\n3\n4\nfive\n' },
        'first\n\nReanchor-Phase: 1-enable',
      )
      const head = await branchWith(
        repository,
        branch,
        first,
        { 'trust/b': 'b\n' },
        'second\n\nReanchor-Phase: 1-enable',
      )
      const moved = await branchWith(repository, 'main', base, { 'trust/a': 'one\n2\n3\n4\n5\n' })
      const pull = await forge.open(draft)
      const diff = await forge.diff(pull.number)
      const merged = await forge.merge(pull.number, { method, by, at: later })
      expect(merged).toMatchObject({ state: 'merged', head, mergeCommit: await repository.head('main') })
      const snapshot = repository.snapshot('main')
      expect(await snapshot.read('trust/a')).toBe('one\n2\n3\n4\nfive\n')
      expect(await snapshot.read('trust/b')).toBe('b\n')
      const parents = userGit(bare, 'log', '--format=%P', '-1', 'main').split(' ')
      const count = Number(userGit(bare, 'rev-list', '--count', `${moved}..main`))
      expect([parents, count]).toEqual(
        { merge: [[moved, head], 3], squash: [[moved], 1], rebase: [[expect.any(String)], 2] }[method],
      )
      expect((await repository.commitFacts('main')).committer).toEqual({ ...by, at: later })
      if (method !== 'merge')
        expect((await repository.commitFacts('main')).trailers).toEqual({ 'Reanchor-Phase': '1-enable' })
      expect(diff).toContain('+five')
      expect(await forge.diff(pull.number)).toContain('+five')
      expect(await forge.merge(pull.number, { method, by, at: later })).toEqual(merged)
      expect(userGit(bare, 'fsck', '--strict', '--no-dangling')).toBe('')
    },
  )

  test.each(['merge', 'squash', 'rebase'] as const)(
    '%s names the files in conflict and changes nothing',
    async method => {
      const { bare, repository, forge, base } = await scene()
      await branchWith(repository, branch, base, { 'trust/a': 'ours\n', other: 'y\n' })
      await branchWith(repository, 'main', base, { 'trust/a': 'theirs\n' })
      const pull = await forge.open(draft)
      const before = userGit(bare, 'for-each-ref')
      const error = await forge.merge(pull.number, { method, by, at: later }).catch((e: unknown) => e)
      expect(error).toBeInstanceOf(ReanchorError)
      expect(error).toMatchObject({ exit: 2, found: 'conflicts in trust/a' })
      expect(userGit(bare, 'for-each-ref')).toBe(before)
    },
  )

  test('waits for a required status, and refuses a failing one', async () => {
    const { repository, forge, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    const pull = await forge.open(draft)
    const merge = () => forge.merge(pull.number, { method: 'squash', by, at: later, required: ['reanchor/gate'] })
    await expect(merge()).rejects.toMatchObject({ exit: 3 })
    await forge.setStatus(head, { context: 'reanchor/gate', state: 'pending', description: 'wait' })
    await expect(merge()).rejects.toMatchObject({ exit: 3 })
    await forge.setStatus(head, { context: 'reanchor/gate', state: 'failure', description: 'one proxy is behind' })
    await expect(merge()).rejects.toMatchObject({ exit: 5, found: 'failure: one proxy is behind' })
    await forge.setStatus(head, { context: 'reanchor/gate', state: 'success', description: 'holds' })
    const pushed = await branchWith(repository, branch, head, { 'trust/a': 'edited\n' })
    await expect(merge()).rejects.toMatchObject({ exit: 3 })
    await forge.setStatus(pushed, { context: 'reanchor/gate', state: 'success', description: 'holds' })
    expect((await merge()).head).toBe(pushed)
  })

  test('a branch that is on the base already is recorded as merged, without another commit', async () => {
    const { repository, forge, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    const pull = await forge.open(draft)
    await repository.publish([{ ref: 'refs/heads/main', from: base, to: head }])
    expect(await forge.merge(pull.number, { method: 'merge', by, at: later })).toMatchObject({
      state: 'merged',
      mergeCommit: head,
    })
    expect(await repository.head('main')).toBe(head)
    expect(await forge.diff(pull.number)).toContain('trust/a')
  })

  test('a closed one is not merged; a branch that was removed merges its last known head', async () => {
    const { repository, forge, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    const pull = await forge.open(draft)
    await repository.publish([{ ref: `refs/heads/${branch}`, from: head, to: null }])
    expect(await forge.find(branch)).toMatchObject({ head, state: 'open' })
    expect((await forge.merge(pull.number, { method: 'merge', by, at: later })).head).toBe(head)
    await branchWith(repository, 'reanchor/m/2', await repository.head('main'), { c: '1' })
    const second = await forge.open({ ...draft, branch: 'reanchor/m/2' })
    await forge.close(second.number)
    await expect(forge.merge(second.number, { method: 'merge', by, at: later })).rejects.toMatchObject({ exit: 2 })
    expect((await forge.list('all')).map(one => [one.number, one.state])).toEqual([
      [1, 'merged'],
      [2, 'closed'],
    ])
  })
})

describe('writing', () => {
  test('one comment per marker; what is said already is not said again (F4)', async () => {
    const { bare, repository, forge, base } = await scene()
    await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    const { number } = await forge.open(draft)
    await forge.comment(number, 'observation', 'one')
    await forge.comment(number, 'observation', 'two')
    await forge.comment(number, 'overtaken', 'x')
    const state = userGit(bare, 'rev-parse', 'refs/reanchor/forge')
    await forge.comment(number, 'observation', 'two')
    await forge.update(number, { title: draft.title })
    await forge.open(draft)
    expect(userGit(bare, 'rev-parse', 'refs/reanchor/forge')).toBe(state)
    expect((await forge.comments(number)).map(one => [one.marker, one.text])).toEqual([
      ['observation', 'two'],
      ['overtaken', 'x'],
    ])
  })

  test('numbers grow, whatever happens to the ones before', async () => {
    const { repository, forge, base } = await scene()
    const numbers: number[] = []
    for (const name of ['a', 'b', 'c']) {
      await branchWith(repository, `reanchor/${name}`, base, { [name]: '1' })
      const pull = await forge.open({ ...draft, branch: `reanchor/${name}` })
      numbers.push(pull.number)
      await forge.close(pull.number)
    }
    expect(numbers).toEqual([1, 2, 3])
  })

  test('many at once: every request has its own number, one branch has one request (F25)', async () => {
    const { bare, repository, forge, base } = await scene()
    const names = ['a', 'b', 'c', 'd', 'd']
    for (const name of new Set(names)) await branchWith(repository, `reanchor/${name}`, base, { [name]: '1' })
    const pulls = await Promise.all(
      names.map(async name =>
        (await openLocalForge(await opened(bare), { now: () => at })).open({ ...draft, branch: `reanchor/${name}` }),
      ),
    )
    expect(new Set(pulls.map(pull => pull.number)).size).toBe(4)
    expect(pulls[3]?.number).toBe(pulls[4]?.number)
    expect((await forge.listOpen('main')).map(pull => pull.number)).toEqual([1, 2, 3, 4])
  })

  test('what others write meanwhile is not lost', async () => {
    const { bare, repository, forge, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    await forge.open(draft)
    const before = userGit(bare, 'rev-parse', 'refs/reanchor/forge')
    await forge.comment(1, 'theirs', 'x')
    const theirs = userGit(bare, 'rev-parse', 'refs/reanchor/forge')
    userGit(bare, 'update-ref', 'refs/reanchor/forge', before)
    let writes = 0
    const onWrite = (): void => {
      writes += 1
      if (writes === 1) userGit(bare, 'update-ref', 'refs/reanchor/forge', theirs)
    }
    const mine = await openLocalForge(await opened(bare, { onWrite }), { now: () => at })
    await mine.setStatus(head, { context: 'reanchor/gate', state: 'success', description: 'holds' })
    expect(await forge.comments(1)).toHaveLength(1)
    expect((await forge.status(head, 'reanchor/gate'))?.state).toBe('success')
  })

  test('a push between looking and merging is looked at again', async () => {
    const { bare, repository, forge, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '2\n' })
    await forge.open(draft)
    await forge.setStatus(head, { context: 'reanchor/gate', state: 'success', description: 'holds' })
    const edited = await branchWith(repository, 'reanchor/edited', head, { 'trust/a': 'edited\n' })
    let writes = 0
    const onWrite = (): void => {
      writes += 1
      if (writes === 1) userGit(bare, 'update-ref', `refs/heads/${branch}`, edited)
    }
    const mine = await openLocalForge(await opened(bare, { onWrite }), { now: () => at })
    const merge = mine.merge(1, { method: 'squash', by, at: later, required: ['reanchor/gate'] })
    await expect(merge).rejects.toMatchObject({ exit: 3 })
    expect(await repository.head('main')).toBe(base)
  })

  test('two merges at once both land', async () => {
    const { bare, repository, forge, base } = await scene()
    for (const name of ['a', 'b']) {
      await branchWith(repository, `reanchor/${name}`, base, { [name]: '1' })
      await forge.open({ ...draft, branch: `reanchor/${name}` })
    }
    await Promise.all(
      [1, 2].map(async number =>
        (await openLocalForge(await opened(bare), { now: () => at })).merge(number, {
          method: 'squash',
          by,
          at: later,
        }),
      ),
    )
    expect([...(await repository.snapshot('main').list()).keys()]).toEqual(['a', 'b', 'other', 'trust/a'])
  })

  test('the diff of a request never shows a private key (F29)', async () => {
    const { repository, forge, base } = await scene()
    const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    await branchWith(repository, branch, base, { 'trust/key.pem': pem, 'trust/a': '2\n' })
    const { number } = await forge.open(draft)
    const diff = await forge.diff(number)
    expect(diff).toContain('+++ b/trust/key.pem\n(holds private key material')
    expect(diff).not.toContain(pem.split('\n')[1])
  })
})

test('killed before or after any write, each operation run again ends in the same state (F2)', async () => {
  const operations: readonly ((forge: LocalForge, head: string) => Promise<unknown>)[] = [
    forge => forge.open(draft),
    (forge, head) => forge.setStatus(head, { context: 'reanchor/gate', state: 'success', description: 'holds' }),
    forge => forge.comment(1, 'observation', 'text'),
    forge => forge.update(1, { body: 'more' }),
    forge => forge.merge(1, { method: 'rebase', by, at: later, required: ['reanchor/gate'] }),
  ]
  async function run(stop: number): Promise<{ readonly refs: string; readonly writes: number }> {
    const { bare, repository, base } = await scene()
    const head = await branchWith(repository, branch, base, { 'trust/a': '1\n2\n3\n4\nfive\n' })
    await branchWith(repository, 'main', base, { 'trust/a': 'one\n2\n3\n4\n5\n' })
    let writes = 0
    const onWrite = (): void => {
      writes += 1
      if (writes === stop) throw new Error('killed')
    }
    const forge = await openLocalForge(await opened(bare, { onWrite }), { now: () => at })
    for (const operation of operations) {
      try {
        await operation(forge, head)
      } catch (error) {
        expect((error as Error).message).toBe('killed')
        // Whole before it is run again: every record has its objects, and a merged one is on the base.
        const fresh = await openLocalForge(await opened(bare), { now: () => at })
        for (const pull of await fresh.list('all')) {
          if (pull.mergeCommit !== null)
            expect(await repository.isAncestor(pull.mergeCommit, 'refs/heads/main')).toBe(true)
          await fresh.diff(pull.number)
        }
        await operation(forge, head)
      }
    }
    return { refs: userGit(bare, 'for-each-ref', '--format=%(objectname) %(refname)'), writes }
  }
  const whole = await run(0)
  expect(whole.writes).toBeGreaterThan(10)
  for (let stop = 1; stop <= whole.writes; stop += 1) expect((await run(stop)).refs).toBe(whole.refs)
}, 120_000)
