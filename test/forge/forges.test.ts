import { describe, expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { openNoForge } from '../../src/forge/none.ts'
import { openForge } from '../../src/forge/open.ts'
import { at, bareRepository, branchWith, cloneOf, opened, userGit } from '../repository/temporary.ts'
import { forgeContract, type People } from './contract.ts'

const now = (): Date => at

/** What nobody can see or do where there are no pages. */
const nobody: People = {
  merge: () => Promise.reject(new Error('nobody merges here')),
  comments: async () => [],
  comment: async () => undefined,
  look: async () => ({ labels: [], reviewers: [], draft: false }),
  markReady: async () => undefined,
  openIssues: async () => [],
}

const by = { name: 'Ada', email: 'ada@example.com' }
const withPages = [
  'asks for labels and reviewers, and opens drafts that a person calls ready',
  'cuts off what the forge would not take, and says so',
  'keeps one open issue per rotation, also where two look at once',
]

forgeContract({
  name: 'local',
  reviewer: 'ada',
  methods: ['merge', 'squash', 'rebase'],
  async scene(files) {
    const repository = await opened(await bareRepository(files))
    const forge = await openLocalForge(repository, { now })
    const people: People = {
      ...nobody,
      merge: async (number, method) => void (await forge.merge(number, { method, by, at })),
      comments: async number => (await forge.comments(number)).map(({ text }) => text),
      comment: (number, text) => forge.comment(number, 'a person', text),
    }
    return { repository, forge, people }
  },
  deviations: [
    {
      reason:
        'like a hosted forge it knows of merges that went through it; who pushes to the base closes the request by hand',
      tests: ['tells a merge by another hand from the base branch'],
    },
    { reason: 'it has no pages: no labels, reviewers, drafts, issues and limits', tests: withPages },
  ],
})

forgeContract({
  name: 'none',
  reviewer: 'ada',
  methods: [],
  async scene(files) {
    const repository = await opened(await bareRepository(files))
    return { repository, forge: openNoForge(repository, { base: 'main' }), people: nobody }
  },
  deviations: [
    {
      reason: 'only branches are kept: a closed one is gone, and edited texts, statuses and comments have no place',
      tests: [
        'remembers a closed one, and opens a new one after it',
        'keeps an edited title and body',
        'keeps the newest status of each context on a commit',
        'writes one comment, and edits that one; what others wrote is left',
        ...withPages,
      ],
    },
    {
      reason: 'nobody merges in it; the test of merges by another hand asks the same of Git',
      tests: [
        'a merged one is known by what was merged and by the commit that brought it, whichever way (F25)',
        'no second one for what a merged one has brought, with its branch or pushed anew (F25)',
        'a merged one stays what it was, with its branch removed and with more pushed to it',
      ],
    },
  ],
})

describe('no forge', () => {
  test('a true merge, a fast-forward and a squash are merged; half of the files are not', async () => {
    const bare = await bareRepository({ a: '1', b: '1' })
    const repository = await opened(bare)
    const forge = openNoForge(repository, { base: 'main' })
    const base = await repository.head('main')
    const head = await branchWith(repository, 'reanchor/m/1', base, { a: '2', b: '2' })
    const half = await branchWith(repository, 'main', base, { a: '2' })
    expect((await forge.find('reanchor/m/1'))?.state).toBe('open')
    const whole = await branchWith(repository, 'main', half, { b: '2' })
    expect(await forge.find('reanchor/m/1')).toMatchObject({ state: 'merged', mergeCommit: whole, head })
    const next = await branchWith(repository, 'reanchor/m/2', whole, { a: '3' })
    await repository.publish([{ ref: 'refs/heads/main', from: whole, to: next }])
    expect(await forge.find('reanchor/m/2')).toMatchObject({ state: 'merged', mergeCommit: next })
  })

  test('works through a remote', async () => {
    const bare = await bareRepository()
    const repository = await opened(cloneOf(bare), { remote: 'origin' })
    const forge = openNoForge(repository, { base: 'main' })
    await branchWith(repository, 'reanchor/m/1', await repository.head('main'), { a: '2' })
    const pull = await forge.open({ title: 't', body: '', branch: 'reanchor/m/1', base: 'main' })
    expect((await forge.close(pull.number)).state).toBe('closed')
    expect(userGit(bare, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
  })
})

describe('choosing a forge', () => {
  test('takes the bare repository itself, or the one that the remote is', async () => {
    const bare = await bareRepository()
    const inside = await openForge({ kind: 'local' }, await opened(bare), { now, base: 'main' })
    const repository = await opened(cloneOf(bare), { remote: 'origin' })
    await branchWith(repository, 'reanchor/m/1', await repository.head('main'), { a: '2' })
    const outside = await openForge({ kind: 'local' }, repository, { now, base: 'main' })
    const pull = await outside.open({ title: 't', body: '', branch: 'reanchor/m/1', base: 'main' })
    expect(await inside.find('reanchor/m/1')).toEqual(pull)
    expect((await openForge({ kind: 'none' }, repository, { now, base: 'main' })).kind).toBe('none')
    userGit(repository.workTree ?? '', 'remote', 'set-url', 'origin', `../${bare.split('/').slice(-2).join('/')}`)
    const elsewhere = await openForge(
      { kind: 'local' },
      await opened(repository.workTree ?? '', { remote: 'origin' }),
      { now, base: 'main' },
    ).then(
      () => null,
      (error: Error) => error,
    )
    expect(elsewhere).toBeInstanceOf(ReanchorError)
  })

  test('a clone, a remote elsewhere, and a hosted forge are errors with what to do', async () => {
    const clone = cloneOf(await bareRepository())
    const local = { kind: 'local' } as const
    await expect(openForge(local, await opened(clone), { now, base: 'main' })).rejects.toThrow(
      'needs a bare repository',
    )
    userGit(clone, 'remote', 'set-url', 'origin', 'https://ada:s3cret@git.example.com/x.git')
    const error = await openForge(local, await opened(clone, { remote: 'origin' }), { now, base: 'main' }).catch(
      (e: Error) => e,
    )
    expect(String(error)).toContain('a remote on this machine')
    expect(String(error)).not.toContain('s3cret')
    const hosted = {
      kind: 'github',
      repository: 'acme/fleet',
      url: null,
      labels: [],
      reviewers: [],
      draft: false,
      dashboard: false,
    } as const
    const refused = await openForge(hosted, await opened(clone), { now, base: 'main' }).catch((e: unknown) => e)
    expect(refused).toBeInstanceOf(ReanchorError)
    expect(refused).toMatchObject({ exit: 2, what: 'there is no token for github' })
  })
})
