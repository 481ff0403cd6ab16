import { beforeEach, describe, expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import type { Forge } from '../../src/forge/forge.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { bareRepository, branchWith, commitOn, opened } from '../repository/temporary.ts'

export interface ForgeUnderTest {
  readonly name: string
  open(repository: Repository): Promise<Forge>
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
    let base: string
    let head: string

    beforeEach(async () => {
      repository = await opened(await bareRepository({ 'README.md': 'fleet\n', 'trust/eu-1/a': '1\n' }))
      forge = await under.open(repository)
      base = await repository.head('main')
      head = await branchWith(repository, branch, base, { 'trust/eu-1/a': '2\n' }, 'm: enable\n\nbody')
    })

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
      expect(pull).toMatchObject({ ...draft, head, state: 'open', mergeCommit: null })
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
      expect(await forge.update(pull.number, { title: 'other' })).toMatchObject({ title: 'other', body: 'body\n' })
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
