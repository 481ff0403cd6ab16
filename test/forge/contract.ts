import { beforeEach, describe, expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import type { Forge } from '../../src/forge/forge.ts'
import type { MergeMethod } from '../../src/forge/local.ts'
import type { Repository } from '../../src/repository/repository.ts'
import type { HostedForgeChoice } from '../../src/rotation.ts'
import { branchWith, commitOn } from '../repository/temporary.ts'

/** What people do on a forge's pages, and what they see there. */
export interface People {
  merge(number: number, method: MergeMethod): Promise<void>
  comments(number: number): Promise<readonly string[]>
  comment(number: number, text: string): Promise<void>
  look(number: number): Promise<{
    readonly labels: readonly string[]
    readonly reviewers: readonly string[]
    readonly draft: boolean
  }>
  markReady(number: number): Promise<void>
  openIssues(): Promise<readonly { readonly number: number; readonly title: string; readonly body: string }[]>
}

export interface Scene {
  readonly repository: Repository
  readonly forge: Forge
  readonly people: People
}

export type Settings = Pick<HostedForgeChoice, 'labels' | 'reviewers' | 'draft' | 'dashboard'>

export const noSettings: Settings = { labels: [], reviewers: [], draft: false, dashboard: false }

export interface ForgeUnderTest {
  readonly name: string
  /** A repository with these files on main, and its forge. It goes away with the test. */
  scene(files: Readonly<Record<string, string>>, settings: Settings): Promise<Scene>
  /** Somebody who can be asked for a review. */
  readonly reviewer: string
  /** How the forge merges; some have only two ways. */
  readonly methods: readonly MergeMethod[]
  /** What this forge cannot do, and why: those tests are not run for it. */
  readonly deviations: readonly { readonly reason: string; readonly tests: readonly string[] }[]
}

const branch = 'reanchor/m/1-enable-1-data'
const draft = { title: 'm: enable', body: 'body\n', branch, base: 'main' }

/** What every forge promises (src/forge/forge.ts), against real repositories. */
export function forgeContract(under: ForgeUnderTest): void {
  const left = new Set(under.deviations.flatMap(one => one.tests))

  describe(`the contract of a forge: ${under.name}`, () => {
    let repository: Repository
    let forge: Forge
    let people: People
    let base: string
    let head: string

    async function begin(settings: Settings = noSettings): Promise<void> {
      const scene = await under.scene({ 'README.md': 'fleet\n', 'trust/eu-1/a': '1\n' }, settings)
      repository = scene.repository
      forge = scene.forge
      people = scene.people
      base = await repository.head('main')
      head = await branchWith(repository, branch, base, { 'trust/eu-1/a': '2\n' }, 'm: enable\n\nbody')
    }

    beforeEach(() => begin())

    async function onMain(files: Record<string, string | null>): Promise<string> {
      const from = await repository.head('main')
      const to = await commitOn(repository, from, files, 'by hand')
      expect(await repository.publish([{ ref: 'refs/heads/main', from, to }])).toEqual({ ok: true })
      return to
    }

    function promise(name: string, run: () => Promise<void>): void {
      if (!left.delete(name)) test(name, run)
    }

    promise('finds nothing for a branch that never was', async () => {
      expect(await forge.find('reanchor/m/none')).toBeNull()
    })

    promise('opens what is asked for', async () => {
      const pull = await forge.open(draft)
      expect(pull).toMatchObject({
        ...draft,
        body: expect.stringMatching(/^body\s*$/),
        head,
        state: 'open',
        mergeCommit: null,
      })
      expect(await forge.find(branch)).toMatchObject({ number: pull.number, head, state: 'open' })
      expect((await forge.listOpen('main')).map(one => one.number)).toEqual([pull.number])
      expect((await forge.listOpen('main'))[0]?.title).toBe(draft.title)
    })

    promise('never opens a second one for a branch (F25)', async () => {
      const first = await forge.open(draft)
      expect((await forge.open(draft)).number).toBe(first.number)
      expect(await forge.listOpen('main')).toHaveLength(1)
    })

    promise('gives another branch another number', async () => {
      const first = await forge.open(draft)
      await branchWith(repository, 'reanchor/m/other', base, { b: '1' })
      expect((await forge.open({ ...draft, branch: 'reanchor/m/other' })).number).not.toBe(first.number)
    })

    promise('follows its branch while it is open', async () => {
      await forge.open(draft)
      const next = await branchWith(repository, branch, head, { 'trust/eu-1/a': '3\n' })
      expect((await forge.find(branch))?.head).toBe(next)
      expect((await forge.listOpen('main'))[0]?.head).toBe(next)
    })

    promise('refuses to open for no branch, for a name with a leading dash, and for nothing new', async () => {
      await branchWith(repository, 'reanchor/m/same', base, {})
      for (const wrong of ['reanchor/m/none', '-x', 'reanchor/m/same']) {
        await expect(forge.open({ ...draft, branch: wrong })).rejects.toBeInstanceOf(ReanchorError)
      }
      await expect(forge.find('--all')).rejects.toBeInstanceOf(ReanchorError)
      expect((await forge.listOpen('main')).filter(one => one.branch !== branch)).toEqual([])
    })

    promise('closes, and closing twice is closing once', async () => {
      const pull = await forge.open(draft)
      expect((await forge.close(pull.number)).state).toBe('closed')
      expect(await forge.listOpen('main')).toEqual([])
    })

    promise('remembers a closed one, and opens a new one after it', async () => {
      const pull = await forge.open(draft)
      await forge.close(pull.number)
      expect((await forge.close(pull.number)).state).toBe('closed')
      expect(await forge.find(branch)).toMatchObject({ number: pull.number, state: 'closed' })
      const again = await forge.open(draft)
      expect(again.number).toBeGreaterThan(pull.number)
      expect((await forge.find(branch))?.number).toBe(again.number)
    })

    promise('keeps an edited title and body', async () => {
      const pull = await forge.open(draft)
      expect(await forge.update(pull.number, { title: 'other' })).toMatchObject({ title: 'other' })
      expect(await forge.update(pull.number, { body: 'more' })).toMatchObject({ title: 'other', body: 'more' })
      expect(await forge.find(branch)).toMatchObject({ title: 'other', body: 'more', head })
    })

    promise('an unknown number is an error with what to do', async () => {
      await expect(forge.update(999, { title: 'x' })).rejects.toBeInstanceOf(ReanchorError)
      await expect(forge.close(999)).rejects.toBeInstanceOf(ReanchorError)
    })

    promise('keeps the newest status of each context on a commit', async () => {
      expect(await forge.status(head, 'reanchor/gate')).toBeNull()
      await forge.setStatus(head, { context: 'reanchor/gate', state: 'pending', description: 'waiting' })
      await forge.setStatus(head, { context: 'reanchor/gate', state: 'success', description: 'holds' })
      await forge.setStatus(head, { context: 'ci', state: 'failure', description: '' })
      expect(await forge.status(head, 'reanchor/gate')).toEqual({
        context: 'reanchor/gate',
        state: 'success',
        description: 'holds',
      })
      expect((await forge.status(head, 'ci'))?.state).toBe('failure')
      expect(await forge.status(base, 'ci')).toBeNull()
    })

    promise(
      'a merged one is known by what was merged and by the commit that brought it, whichever way (F25)',
      async () => {
        for (const method of under.methods) {
          const name = `reanchor/m/${method}`
          const on = await repository.head('main')
          const first = await branchWith(repository, name, on, { [`trust/${method}/1`]: '1' })
          const last = await branchWith(repository, name, first, { [`trust/${method}/2`]: '2' })
          const pull = await forge.open({ ...draft, branch: name })
          await branchWith(repository, 'main', on, { [`elsewhere/${method}`]: 'x' })
          await people.merge(pull.number, method)
          await repository.fetch()
          const found = await forge.find(name)
          expect(found).toMatchObject({ number: pull.number, state: 'merged', head: last })
          const top = await repository.head('main')
          expect(await repository.isAncestor(found?.mergeCommit ?? '', top)).toBe(true)
          expect([
            ...(await repository.snapshot(found?.mergeCommit ?? '').list(`trust/${method}`)).keys(),
          ]).toHaveLength(2)
          expect(await forge.close(pull.number)).toMatchObject({ state: 'merged' })
          expect(await forge.listOpen('main')).toEqual([])
        }
      },
    )

    promise('no second one for what a merged one has brought, with its branch or pushed anew (F25)', async () => {
      const method = under.methods.at(-1) ?? 'merge'
      await branchWith(repository, 'main', base, { elsewhere: 'x' })
      const { number } = await forge.open(draft)
      await people.merge(number, method)
      await expect(forge.open(draft)).rejects.toBeInstanceOf(ReanchorError)
      expect(await forge.listOpen('main')).toEqual([])
      expect(await forge.find(branch)).toMatchObject({ state: 'merged', head })
    })

    promise('a merged one stays what it was, with its branch removed and with more pushed to it', async () => {
      const { number } = await forge.open(draft)
      await people.merge(number, 'squash')
      await branchWith(repository, branch, head, { more: '1' })
      expect(await forge.find(branch)).toMatchObject({ number, state: 'merged', head })
      const from = await repository.branch(branch)
      await repository.publish([{ ref: `refs/heads/${branch}`, from, to: null }])
      expect(await forge.find(branch)).toMatchObject({ number, state: 'merged', head })
    })

    promise('writes one comment, and edits that one; what others wrote is left', async () => {
      const { number } = await forge.open(draft)
      await people.comment(number, 'looks good')
      await forge.comment(number, 'reanchor/observation', 'one')
      await forge.comment(number, 'reanchor/observation', 'two')
      await forge.comment(number, 'reanchor/observation', 'two')
      await forge.comment(number, 'reanchor/overtaken', 'three')
      const texts = (await people.comments(number)).map(text => text.replace(/<!--.*-->/s, '').trim())
      expect(texts.sort()).toEqual(['looks good', 'three', 'two'])
    })

    promise('asks for labels and reviewers, and opens drafts that a person calls ready', async () => {
      await begin({ labels: ['trust', 'kind/ca'], reviewers: [under.reviewer], draft: true, dashboard: false })
      const pull = await forge.open(draft)
      expect(pull.title).toBe(draft.title)
      const looks = await people.look(pull.number)
      expect({ ...looks, labels: [...looks.labels].sort() }).toEqual({
        labels: ['kind/ca', 'trust'],
        reviewers: [under.reviewer],
        draft: true,
      })
      await forge.update(pull.number, { title: 'other' })
      expect((await people.look(pull.number)).draft).toBe(true)
      await people.markReady(pull.number)
      await forge.update(pull.number, { title: 'a third' })
      expect(await forge.find(branch)).toMatchObject({ title: 'a third' })
      expect((await people.look(pull.number)).draft).toBe(false)
    })

    promise('cuts off what the forge would not take, and says so', async () => {
      const long = `${'x'.repeat(79)}\n`.repeat(Math.ceil((forge.longestBody + 10_000) / 80))
      const pull = await forge.open({ ...draft, body: long })
      await forge.comment(pull.number, 'reanchor/observation', long)
      const bodies = [(await forge.find(branch))?.body ?? '', ...(await people.comments(pull.number))]
      for (const body of bodies) {
        expect(body).toContain('cut off here')
        expect(body.length).toBeLessThanOrEqual(forge.longestBody)
        expect(body.length).toBeGreaterThan(forge.longestBody - 1000)
      }
    })

    promise('keeps one open issue per rotation, also where two look at once', async () => {
      await forge.dashboard('m', { title: 'm: begun', body: 'one' })
      const board = await forge.dashboard('m', { title: 'm: on its way', body: 'two' })
      await forge.dashboard('other', { title: 'other', body: 'x' })
      await Promise.all([1, 2, 3].map(() => forge.dashboard('third', { title: 'third', body: 'y' })))
      await forge.dashboard('third', { title: 'third', body: 'z' })
      const titles = (await people.openIssues()).map(({ title }) => title).sort()
      expect(titles).toEqual(['m: on its way', 'other', 'third'])
      const mine = (await people.openIssues()).find(({ number }) => number === board?.number)
      expect(mine?.body).toContain('two')
      expect(await forge.dashboard('m', null)).toBeNull()
      expect((await people.openIssues()).map(({ title }) => title).sort()).toEqual(['other', 'third'])
    })

    promise('has no issues, and says so', async () => {
      expect(await forge.dashboard('m', { title: 'm', body: 'one' })).toBeNull()
      expect(await people.openIssues()).toEqual([])
    })

    promise('tells a merge by another hand from the base branch', async () => {
      await forge.open(draft)
      const merged = await onMain({ 'trust/eu-1/a': '2\n', unrelated: 'x' })
      await onMain({ 'trust/eu-1/a': '3\n' })
      expect(await forge.find(branch)).toMatchObject({ state: 'merged', mergeCommit: merged })
      expect(await forge.listOpen('main')).toEqual([])
    })

    test('every deviation names a test of this suite', () => {
      expect([...left]).toEqual([])
    })
  })
}
