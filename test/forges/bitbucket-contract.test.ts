import { expect, test } from 'vitest'
import { openForge } from '../../src/forge/open.ts'
import { forgeContract, noSettings, type Settings } from '../forge/contract.ts'
import { bareRepository, branchWith, opened } from '../repository/temporary.ts'
import { bitbucketDescription } from './described/bitbucket-description.ts'
import {
  bitbucketPeople,
  bitbucketRepository,
  bitbucketReviewer,
  bitbucketServer,
  bitbucketToken,
} from './described/bitbucket-server.ts'
import { forgeState } from './described/state.ts'

async function scene(files: Readonly<Record<string, string>>, settings: Settings) {
  const bare = await bareRepository(files)
  const state = forgeState(bare)
  const { url } = await bitbucketServer(state, await bitbucketDescription())
  const repository = await opened(bare)
  const forge = await openForge({ kind: 'bitbucket', repository: bitbucketRepository, url, ...settings }, repository, {
    now: () => new Date(),
    base: 'main',
    environment: { BITBUCKET_TOKEN: bitbucketToken },
  })
  return { repository, forge, state, people: bitbucketPeople(state, url) }
}

forgeContract({
  name: 'Bitbucket Cloud, by its published description',
  scene,
  reviewer: bitbucketReviewer,
  methods: ['merge', 'squash'],
  deviations: [
    {
      reason: 'a push to the base that happens to bring the same files is no merge to it; people close the request',
      tests: ['tells a merge by another hand from the base branch'],
    },
    { reason: 'its issues are not used', tests: ['keeps one open issue per rotation, also where two look at once'] },
    {
      reason: 'pull requests have no labels; reviewers and drafts are looked at below',
      tests: ['asks for labels and reviewers, and opens drafts that a person calls ready'],
    },
  ],
})

const branch = 'reanchor/m/1-enable-1-data'
const draft = { title: 'm: enable', body: 'body\n', branch, base: 'main' }

test('asks for reviewers, who stay through edits, and opens drafts that a person calls ready', async () => {
  const { repository, forge, people } = await scene(
    { a: '1' },
    { ...noSettings, reviewers: [bitbucketReviewer], draft: true },
  )
  await branchWith(repository, branch, await repository.head('main'), { a: '2' })
  const { number } = await forge.open(draft)
  expect(await people.look(number)).toMatchObject({ reviewers: [bitbucketReviewer], draft: true })
  await forge.update(number, { title: 'other' })
  expect(await people.look(number)).toMatchObject({ reviewers: [bitbucketReviewer], draft: true })
  await people.markReady(number)
  await forge.update(number, { title: 'a third' })
  expect(await people.look(number)).toMatchObject({ reviewers: [bitbucketReviewer], draft: false })
})

test('writes no HTML, which would be read as text there, and does not write the same text again', async () => {
  const { repository, forge, state } = await scene({ a: '1' }, noSettings)
  await branchWith(repository, branch, await repository.head('main'), { a: '2' })
  const body =
    '<!-- reanchor:plan=1 phase=1 step=1 -->\n# One\n<details><summary>Each claim</summary>\n\n| a<br>b |\n\n</details>\n'
  const { number } = await forge.open({ ...draft, body })
  expect(state.pulls[0]?.body).toBe('[//]: # (reanchor:plan=1 phase=1 step=1)\n# One\n**Each claim**\n\n| a · b |\n')
  await forge.comment(number, 'reanchor/observation', body)
  expect(state.comments.map(one => one.body).join()).not.toMatch(/<!--|<details|<br>/)
  const [pull] = state.pulls
  const before = structuredClone({ ...pull, labels: [], reviewers: [] })
  Object.freeze(pull)
  expect((await forge.update(number, { body })).number).toBe(number)
  expect({ ...state.pulls[0], labels: [], reviewers: [] }).toEqual(before)
})

test('a run of many pages ends with the last one', async () => {
  const { repository, forge, people } = await scene({ a: '1' }, noSettings)
  await branchWith(repository, branch, await repository.head('main'), { a: '2' })
  const { number } = await forge.open(draft)
  for (let index = 0; index < 120; index += 1) await people.comment(number, `comment ${index}`)
  await forge.comment(number, 'reanchor/observation', 'one')
  await forge.comment(number, 'reanchor/observation', 'two')
  const all = await people.comments(number)
  expect(all).toHaveLength(121)
  expect(all.at(-1)).toBe('two')
})
