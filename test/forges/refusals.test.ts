/** What a person is told where a forge says no: which right lacks and where it is given, and never the token. */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import type { Forge } from '../../src/forge/forge.ts'
import { openForge } from '../../src/forge/open.ts'
import type { HostedForgeChoice } from '../../src/rotation.ts'
import { isLock, takeLock } from '../../src/runner/lock.ts'
import { noSettings } from '../forge/contract.ts'
import { freePort } from '../real/rig/server.ts'
import {
  bareRepository,
  branchWith,
  cloneOf,
  commitOn,
  opened,
  temporaryFolder,
  userGit,
} from '../repository/temporary.ts'
import { bitbucketDescription } from './described/bitbucket-description.ts'
import {
  type BitbucketAccess,
  bitbucketRepository,
  bitbucketServer,
  bitbucketToken,
} from './described/bitbucket-server.ts'
import { githubDescription } from './described/github-description.ts'
import { allRights, type GitHubRights, githubServer, githubToken } from './described/github-server.ts'
import { gitlabProject, gitlabServer, gitlabToken } from './described/gitlab-server.ts'
import { forgeState } from './described/state.ts'
import { makeGiteaRepository, pushFirst } from './gitea-scene.ts'

const branch = 'reanchor/m/1'
const draft = { title: 'm: one', body: 'body', branch, base: 'main' }
const status = { context: 'reanchor/gate', state: 'success', description: 'holds' } as const

async function said(run: Promise<unknown>, token: string): Promise<ReanchorError> {
  const error = await run.then(
    () => null,
    (one: unknown) => one,
  )
  if (!(error instanceof ReanchorError)) throw new Error(`not refused, or in other words: ${String(error)}`)
  const everything = [error.stack, JSON.stringify(error), String(error.cause)].join()
  expect(everything).not.toContain(token)
  return error
}

interface Scene {
  readonly forge: Forge
  readonly head: string
}

async function scene(
  make: (bare: string) => Promise<{ readonly choice: HostedForgeChoice; readonly environment: Record<string, string> }>,
): Promise<Scene> {
  const bare = await bareRepository()
  const repository = await opened(bare)
  const head = await branchWith(repository, branch, await repository.head('main'), { a: '1' })
  const { choice, environment } = await make(bare)
  return {
    forge: await openForge(choice, repository, {
      now: () => new Date(),
      base: 'main',
      environment,
      sleep: async () => undefined,
    }),
    head,
  }
}

function github(
  rights: Partial<GitHubRights>,
  over: Partial<HostedForgeChoice> = {},
  token = githubToken,
): Promise<Scene> {
  return scene(async bare => {
    const { url } = await githubServer(forgeState(bare), await githubDescription(), { ...allRights, ...rights })
    const choice = { kind: 'github', repository: 'acme/fleet', url, ...noSettings, ...over } as const
    return { choice, environment: { GITHUB_TOKEN: token } }
  })
}

describe('GitHub', () => {
  test('a token that may not open pull requests', async () => {
    const { forge } = await github({ pullRequests: false })
    const error = await said(forge.open(draft), githubToken)
    expect(error).toMatchObject({ exit: 2, what: 'the token lacks a right: write requests' })
    expect(error.expected).toContain(
      'Pull requests: read and write (the server says: issues=write; pull_requests=write)',
    )
    expect(error.todo).toContain('GITHUB_TOKEN')
  })

  test('a token that may not post statuses, and one that may not write issues', async () => {
    const { forge, head } = await github({ statuses: false, issues: false })
    expect(await said(forge.setStatus(head, status), githubToken)).toMatchObject({
      what: 'the token lacks a right: statuses',
      expected: 'Commit statuses: read and write (the server says: statuses=write)',
    })
    expect(await said(forge.dashboard('m', { title: 'm', body: '' }), githubToken)).toMatchObject({
      expected: 'Issues: read and write (the server says: issues=write)',
    })
  })

  test('a token that is none, and a repository that it does not see', async () => {
    const wrong = await github({}, {}, 'github_pat_another')
    expect(await said(wrong.forge.find(branch), 'github_pat_another')).toMatchObject({
      what: 'GitHub does not accept the token',
    })
    const elsewhere = await github({}, { repository: 'acme/other' })
    const error = await said(elsewhere.forge.find(branch), githubToken)
    expect(error).toMatchObject({ what: 'GitHub shows nothing of this name to the token' })
    expect(error.where.object).toContain('acme/other')
  })

  test('an answer that got lost: what it was about is looked for before it is written once more', async () => {
    const bare = await bareRepository()
    const state = forgeState(bare)
    const { url } = await githubServer(state, await githubDescription())
    const repository = await opened(bare)
    const head = await branchWith(repository, branch, await repository.head('main'), { a: '1' })
    const choice = { kind: 'github', repository: 'acme/fleet', url, ...noSettings } as const
    const real = globalThis.fetch
    onTestFinished(() => {
      globalThis.fetch = real
    })
    // Everything that is posted is taken, and of the first time nobody hears.
    const heard = new Set<string>()
    globalThis.fetch = async (input, init) => {
      const response = await real(input, init)
      const { method, url: at } = input as Request
      if (method !== 'POST' || heard.has(at)) return response
      heard.add(at)
      throw Object.assign(new TypeError('fetch failed'), { cause: new Error('other side closed') })
    }
    const environment = { GITHUB_TOKEN: githubToken }
    const forge = await openForge(choice, repository, { now: () => new Date(), base: 'main', environment })
    const { number } = await forge.open(draft)
    await forge.comment(number, 'reanchor/observation', 'seen')
    await forge.setStatus(head, status)
    await forge.dashboard('m', { title: 'm', body: 'one' })
    expect(heard.size).toBe(4)
    expect(state.pulls).toHaveLength(1)
    expect(state.comments.map(({ body }) => body)).toEqual([expect.stringContaining('seen')])
    expect(state.statuses).toHaveLength(1)
    expect(state.issues.map(({ title }) => title)).toEqual(['m'])
  })

  test('a server that is not there is asked a bounded number of times', async () => {
    const { forge } = await scene(async () => ({
      choice: { kind: 'github', repository: 'acme/fleet', url: `https://127.0.0.1:${await freePort()}`, ...noSettings },
      environment: { GITHUB_TOKEN: githubToken },
    }))
    // The loop of a runner goes on after this.
    const error = await said(forge.open(draft), githubToken)
    expect(error).toMatchObject({ exit: 3, what: 'GitHub does not answer' })
    expect(error.found).toContain('ECONNREFUSED')
  })
})

describe('GitLab', () => {
  test('a token without the scope api, and one that is none', async () => {
    const make = (scopes: readonly string[], token: string): Promise<Scene> =>
      scene(async bare => {
        const { url } = await gitlabServer(forgeState(bare), scopes)
        const choice = { kind: 'gitlab', repository: gitlabProject, url, ...noSettings } as const
        return { choice, environment: { GITLAB_TOKEN: token } }
      })
    const error = await said((await make(['read_api'], gitlabToken)).forge.open(draft), gitlabToken)
    expect(error).toMatchObject({
      what: 'the token lacks a right: write requests',
      expected: 'scope api, role Developer',
    })
    expect(error.found).toContain('insufficient_scope')
    const wrong = await make(['api'], 'glpat-another')
    expect(await said(wrong.forge.find(branch), 'glpat-another')).toMatchObject({
      what: 'GitLab does not accept the token',
    })
  })

  test('other words for a pending status end the job with the earlier ones', async () => {
    const bare = await bareRepository()
    const state = forgeState(bare)
    const { url } = await gitlabServer(state)
    const repository = await opened(bare)
    const choice = { kind: 'gitlab', repository: gitlabProject, url, ...noSettings } as const
    const environment = { GITLAB_TOKEN: gitlabToken }
    const forge = await openForge(choice, repository, { now: () => new Date(), base: 'main', environment })
    const head = await repository.head('main')
    for (const description of ['one proxy is behind', 'no proxy is behind', 'no proxy is behind'])
      await forge.setStatus(head, { context: 'reanchor/gate', state: 'pending', description })
    expect(await forge.status(head, 'reanchor/gate')).toMatchObject({
      state: 'pending',
      description: 'no proxy is behind',
    })
    expect(state.statuses.map(one => one.state)).toEqual(['canceled', 'pending'])
  })
})

describe('Bitbucket', () => {
  function bitbucket(
    access?: BitbucketAccess,
    over: Partial<HostedForgeChoice> = {},
    environment: Record<string, string> = { BITBUCKET_TOKEN: bitbucketToken },
  ): Promise<Scene> {
    return scene(async bare => {
      const { url } = await bitbucketServer(forgeState(bare), await bitbucketDescription(), access)
      const choice = { kind: 'bitbucket', repository: bitbucketRepository, url, ...noSettings, ...over } as const
      return { choice, environment }
    })
  }

  test('a token that may only read names what it lacks', async () => {
    const authorization = `Bearer ${bitbucketToken}`
    const { forge, head } = await bitbucket({ scopes: ['repository', 'pullrequest'], authorization })
    const error = await said(forge.open(draft), bitbucketToken)
    expect(error).toMatchObject({ what: 'the token lacks a right: write requests', expected: 'Pull requests: write' })
    expect(error.found).toContain('pullrequest:write')
    expect(error.todo).toContain('BITBUCKET_TOKEN')
    expect(await said(forge.setStatus(head, status), bitbucketToken)).toMatchObject({
      what: 'the token lacks a right: statuses',
      expected: 'Repositories: write',
    })
  })

  test('a token that is none, and a repository that it does not see', async () => {
    const wrong = await bitbucket(undefined, {}, { BITBUCKET_TOKEN: 'ATCTT-another' })
    expect(await said(wrong.forge.find(branch), 'ATCTT-another')).toMatchObject({
      what: 'Bitbucket does not accept the token',
    })
    const elsewhere = await bitbucket(undefined, { repository: 'acme/other' })
    expect(await said(elsewhere.forge.find(branch), bitbucketToken)).toMatchObject({
      what: 'Bitbucket shows nothing of this name to the token',
    })
  })

  test('an API token of a person goes with the email of the account', async () => {
    const authorization = `Basic ${Buffer.from('ada@acme.example:ATATT-hers').toString('base64')}`
    const environment = { BITBUCKET_TOKEN: 'ATATT-hers', BITBUCKET_EMAIL: 'ada@acme.example' }
    const scopes = ['repository:write', 'pullrequest:write']
    const { forge } = await bitbucket({ scopes, authorization }, {}, environment)
    expect(await forge.open(draft)).toMatchObject({ state: 'open', branch })
  })

  test('a reviewer whom it does not take is told after the request is open', async () => {
    const { forge } = await bitbucket(undefined, { reviewers: ['{00000000-0000-0000-0000-000000000000}'] })
    const error = await said(forge.open(draft), bitbucketToken)
    expect(error.found).toContain('Malformed reviewers list')
    expect(await forge.find(branch)).toMatchObject({ state: 'open' })
  })
})

describe('Gitea', () => {
  async function gitea(scopes: readonly string[], token?: string) {
    const made = await makeGiteaRepository(scopes)
    const bare = await bareRepository()
    const repository = await opened(bare)
    const head = await repository.head('main')
    await pushFirst(made, bare)
    const environment = { GITEA_TOKEN: token ?? made.botToken }
    const forge = await openForge(made.choice(noSettings), repository, {
      now: () => new Date(),
      base: 'main',
      environment,
    })
    onTestFinished(async () => void (await made.api('DELETE', `/repos/${made.repository}`)))
    return { made, bare, forge, head, token: environment.GITEA_TOKEN }
  }

  test('a token that may only read names what it lacks', async () => {
    const { forge, head, token } = await gitea(['read:repository'])
    const error = await said(forge.setStatus(head, status), token)
    expect(error).toMatchObject({ what: 'the token lacks a right: statuses' })
    expect(error.expected).toContain('write:repository')
    expect(error.found).toContain('write:repository')
    expect(await said(forge.dashboard('m', { title: 'm', body: '' }), token)).toMatchObject({ expected: 'write:issue' })
  })

  test('a token that is none, and a repository that is not there', async () => {
    const { forge, token, made } = await gitea(['write:repository'], '0123456789abcdef0123456789abcdef01234567')
    expect(await said(forge.find(branch), token)).toMatchObject({ what: 'Gitea or Forgejo does not accept the token' })
    const repository = await opened(await bareRepository())
    const choice = { ...made.choice(noSettings), repository: 'acme/none' }
    const environment = { GITEA_TOKEN: made.botToken }
    const elsewhere = await openForge(choice, repository, { now: () => new Date(), base: 'main', environment })
    expect(await said(elsewhere.listOpen('main'), made.botToken)).toMatchObject({
      what: 'Gitea or Forgejo shows nothing of this name to the token',
    })
  })

  test('who has the lock of a private repository is read with the token too', async () => {
    const { made, bare } = await gitea(['write:repository'])
    const runner = async (holder: string) => {
      const clone = cloneOf(bare)
      userGit(clone, 'remote', 'set-url', 'origin', made.remote)
      const repository = await opened(clone, {
        remote: 'origin',
        loginFor: () => ({ username: 'x-access-token', password: made.botToken }),
      })
      const author = { name: 'runner', email: 'runner@example.com' }
      return await takeLock(
        { repository, now: () => new Date(), random: randomBytes, author, holder, lasts: 60_000 },
        'mesh',
      )
    }
    expect(isLock(await runner('first'))).toBe(true)
    // The commit that the ref names is not in this clone, so it has to be fetched.
    expect(await runner('second')).toMatchObject({ holder: 'first' })
  })

  test('git pushes with the token, and it is in no argument, no file and no message', async () => {
    const { made, bare } = await gitea(['write:repository'])
    const folder = temporaryFolder()
    const log = join(folder, 'argv')
    const real = userGit(folder, '--exec-path').trim()
    writeFileSync(join(folder, 'git'), `#!/bin/sh\nprintf '%s\\n' "$@" >> ${log}\nexec ${join(real, 'git')} "$@"\n`)
    chmodSync(join(folder, 'git'), 0o755)
    // A user's helper that stores whatever let git in.
    const stored = join(folder, 'stored')
    writeFileSync(join(folder, 'gitconfig'), `[credential]\n\thelper = store --file=${stored}\n`)
    const { PATH, GIT_CONFIG_GLOBAL } = process.env
    process.env.PATH = `${folder}:${PATH}`
    process.env.GIT_CONFIG_GLOBAL = join(folder, 'gitconfig')
    onTestFinished(() => {
      process.env.PATH = PATH
      if (GIT_CONFIG_GLOBAL === undefined) delete process.env.GIT_CONFIG_GLOBAL
      else process.env.GIT_CONFIG_GLOBAL = GIT_CONFIG_GLOBAL
    })
    const clone = cloneOf(bare)
    userGit(clone, 'remote', 'set-url', 'origin', made.remote)
    const repository = await opened(clone, {
      remote: 'origin',
      loginFor: () => ({ username: 'x-access-token', password: made.botToken }),
    })
    await repository.fetch()
    await branchWith(repository, 'reanchor/m/2', await repository.head('main'), { b: '1' })
    const seen = await made.api<readonly { readonly name: string }[]>('GET', `/repos/${made.repository}/branches`)
    expect(seen.map(({ name }) => name)).toContain('reanchor/m/2')
    expect(existsSync(stored)).toBe(false)
    expect(readFileSync(log, 'utf8')).toContain('push')
    expect(readFileSync(log, 'utf8')).not.toContain(made.botToken)
    expect(readFileSync(join(clone, '.git', 'config'), 'utf8')).not.toContain(made.botToken)

    const denied = '0123456789abcdef0123456789abcdef01234567'
    const stranger = await opened(clone, {
      remote: 'origin',
      loginFor: () => ({ username: 'x-access-token', password: denied }),
    })
    const error = await said(stranger.fetch(), denied)
    expect(error.todo).toContain('REANCHOR_TOKEN')
    const to = await commitOn(stranger, await stranger.head('main'), { c: '1' })
    const pushed = stranger.publish([{ ref: 'refs/heads/reanchor/m/3', from: null, to }])
    expect((await said(pushed, denied)).found).not.toContain(denied)
  })
})
