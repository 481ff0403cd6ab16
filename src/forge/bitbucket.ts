/**
 * Bitbucket Cloud, by its REST API 2.0. (Bitbucket Data Center has another one.)
 *
 * The client is typed by Bitbucket's OpenAPI description, where every field of an answer may be missing: each answer is looked at. Filters and pages are in
 * no operation's parameters there (they are described once, for all), so the query is written here.
 */
import { createBitbucketCloudClient } from '@coderabbitai/bitbucket/cloud'
import * as z from 'zod'
import { ReanchorError } from '../errors.ts'
import type { HostedForgeChoice } from '../rotation.ts'
import type { CommitStatus, Forge, PullRequest } from './forge.ts'
import type { Driver, Note } from './hosted/driver.ts'
import { hostedForge } from './hosted/hosted.ts'
import { orNull, refusalIn } from './hosted/http.ts'
import type { HostedOptions } from './hosted/options.ts'
import { unexpected } from './hosted/refused.ts'
import type { Token } from './hosted/token.ts'

const endpoint = z.object({
  branch: z.object({ name: z.string() }),
  // Null where the fork, or the branch's commit, is gone.
  commit: z.object({ hash: z.string() }).nullish(),
  repository: z.object({ full_name: z.string() }).nullish(),
})
const account = z.object({ uuid: z.string() })
const pull = z.object({
  id: z.number(),
  title: z.string(),
  summary: z.object({ raw: z.string().nullish() }).nullish(),
  state: z.enum(['OPEN', 'MERGED', 'DECLINED', 'SUPERSEDED']),
  draft: z.boolean().nullish(),
  close_source_branch: z.boolean().nullish(),
  reviewers: z.array(account).nullish(),
  merge_commit: z.object({ hash: z.string() }).nullish(),
  source: endpoint,
  destination: endpoint,
  links: z.object({ html: z.object({ href: z.string() }).nullish() }).nullish(),
})
type Pull = z.infer<typeof pull>
const note = z.object({
  id: z.number(),
  deleted: z.boolean().nullish(),
  content: z.object({ raw: z.string().nullish() }).nullish(),
})
const commit = z.object({ hash: z.string() })
const branchForm = z.object({ name: z.string(), target: commit })
const build = z.object({
  key: z.string(),
  state: z.enum(['INPROGRESS', 'SUCCESSFUL', 'FAILED', 'STOPPED']),
  description: z.string().nullish(),
})

/** The most that lists of pull requests give at once; other lists give 100. */
const pageSize = 50

/**
 * Bitbucket publishes no limit for texts; that of Data Center, 32,768 characters, is kept to.
 */
const longestText = 32_000

export function openBitbucketForge(choice: HostedForgeChoice, options: HostedOptions): Forge {
  const server = (choice.url ?? 'https://bitbucket.org').replace(/\/+$/, '')
  const [workspace = '', slug = ''] = choice.repository.split('/')
  if (choice.repository.split('/').length !== 2) {
    throw new ReanchorError({
      what: 'this is not a repository on Bitbucket',
      where: { file: 'rotation.yaml', field: 'spec.forge.bitbucket.repository' },
      expected: 'workspace/name, as in its address',
      found: choice.repository,
      example: 'acme/fleet',
    })
  }
  const at = { workspace, repo_slug: slug }
  const api = createBitbucketCloudClient({
    baseUrl: choice.url === null ? 'https://api.bitbucket.org/2.0' : `${server}/2.0`,
    headers: { accept: 'application/json', authorization: authorization(options.token) },
    fetch: request => options.fetch(request),
  })

  /** An answer in the form that is needed of it; refusals were thrown by `fetch`. */
  async function asked<T>(
    form: z.ZodType<T>,
    run: () => Promise<{ readonly data?: unknown; readonly error?: unknown; readonly response: Response }>,
  ): Promise<T> {
    const { data, response } = await run()
    const parsed = form.safeParse(data)
    if (parsed.success) return parsed.data
    const [first] = parsed.error.issues
    const about = { ...choice, server, tokenFrom: options.token.from, use: 'read requests' } as const
    throw unexpected(about, `${new URL(response.url).pathname}: ${first?.path.join('.') ?? ''} ${first?.message ?? ''}`)
  }

  /** Page after page, each asked for by its number. */
  async function* pages<T>(
    form: z.ZodType<T>,
    size: number,
    page: (querySerializer: () => string) => Promise<{ readonly data?: unknown; readonly response: Response }>,
    query: readonly (readonly [string, string])[],
  ): AsyncGenerator<T> {
    for (let number = 1; ; number += 1) {
      const asks = new URLSearchParams()
      for (const [name, value] of [...query, ['pagelen', `${size}`], ['page', `${number}`]] as const)
        asks.append(name, value)
      const found = await asked(z.object({ values: z.array(form), next: z.string().nullish() }), () =>
        page(() => asks.toString()),
      )
      yield* found.values
      if (found.next === undefined || found.next === null) return
    }
  }

  function requests(query: readonly (readonly [string, string])[]): AsyncGenerator<Pull> {
    const list = (querySerializer: () => string) =>
      api.GET('/repositories/{workspace}/{repo_slug}/pullrequests', { params: { path: at }, querySerializer })
    return pages(pull, pageSize, list, query)
  }

  async function branchHead(name: string): Promise<string | null> {
    // Asked for by a filter: in a path, a branch's slashes are read by some as they are and by others encoded.
    const list = (querySerializer: () => string) =>
      api.GET('/repositories/{workspace}/{repo_slug}/refs/branches', { params: { path: at }, querySerializer })
    for await (const found of pages(branchForm, pageSize, list, [['q', `name=${quoted(name)}`]]))
      if (found.name === name) return found.target.hash
    return null
  }

  /** Pull requests name commits by their first twelve digits. */
  async function whole(hash: string): Promise<string> {
    if (hash.length >= 40) return hash
    const params = { path: { ...at, commit: hash } }
    const found = await orNull(() =>
      asked(commit, () => api.GET('/repositories/{workspace}/{repo_slug}/commit/{commit}', { params })),
    )
    return found?.hash ?? hash
  }

  async function present(found: Pull): Promise<PullRequest> {
    const own = isOwn(found)
    const state = found.state === 'MERGED' ? 'merged' : found.state === 'OPEN' ? 'open' : 'closed'
    const branch = found.source.branch.name
    const listed = found.source.commit?.hash ?? ''
    const head = state === 'open' && own ? await branchHead(branch) : null
    return {
      number: found.id,
      title: found.title,
      body: found.summary?.raw ?? '',
      // Who opens one from a fork chooses its branch's name: it must not pass for one of this repository.
      branch: own ? branch : `${found.source.repository?.full_name ?? 'a fork that is gone'}:${branch}`,
      base: found.destination.branch.name,
      head: head ?? (own ? await whole(listed) : listed),
      state,
      // A merge that only moved the branch has no commit of its own.
      mergeCommit: state === 'merged' ? await whole(found.merge_commit?.hash ?? listed) : null,
      url: found.links?.html?.href ?? null,
    }
  }

  async function one(number: number): Promise<Pull> {
    const params = { path: { ...at, pull_request_id: number } }
    return await asked(pull, () =>
      api.GET('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}', { params }),
    )
  }

  /** What is not said is taken for empty, so everything is said as it is (renovate's platform/bitbucket has learned it of reviewers). */
  async function put(
    number: number,
    to: { readonly title?: string; readonly body?: string; readonly reviewers?: readonly string[] },
  ): Promise<void> {
    const now = await one(number)
    const uuids = to.reviewers ?? (now.reviewers ?? []).map(({ uuid }) => uuid)
    const body = {
      type: 'pullrequest' as const,
      title: to.title ?? now.title,
      description: to.body ?? now.summary?.raw ?? '',
      reviewers: uuids.map(uuid => ({ type: 'account' as const, uuid })),
      ...(now.draft === undefined || now.draft === null ? {} : { draft: now.draft }),
      ...(typeof now.close_source_branch === 'boolean' ? { close_source_branch: now.close_source_branch } : {}),
    }
    const params = { path: { ...at, pull_request_id: number } }
    await api.PUT('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}', { params, body })
  }

  const driver: Driver = {
    kind: 'bitbucket',
    longest: { title: 255, body: longestText, comment: longestText, status: 140 },
    written,
    async of(branch) {
      const states = (['OPEN', 'MERGED', 'DECLINED', 'SUPERSEDED'] as const).map(state => ['state', state] as const)
      const found: PullRequest[] = []
      for await (const each of requests([...states, ['q', `source.branch.name=${quoted(branch)}`], ['sort', '-id']]))
        if (isOwn(each) && each.source.branch.name === branch) found.push(await present(each))
      return found
    },
    async get(number) {
      try {
        return await present(await one(number))
      } catch (error) {
        // The repository itself is told from the request by asking for it.
        if (refusalIn(error)?.status !== 404) throw error
        const repository = z.object({ full_name: z.string() })
        await asked(repository, () => api.GET('/repositories/{workspace}/{repo_slug}', { params: { path: at } }))
        return null
      }
    },
    async listOpen(base) {
      const open: PullRequest[] = []
      const query = [
        ['state', 'OPEN'],
        ['q', `destination.branch.name=${quoted(base)}`],
        ['sort', 'id'],
      ] as const
      for await (const each of requests(query))
        if (each.destination.branch.name === base) open.push(await present(each))
      return open
    },
    async ahead(branch, base) {
      const head = await branchHead(branch)
      const from = await branchHead(base)
      if (head === null || from === null) return null
      const list = (querySerializer: () => string) =>
        api.GET('/repositories/{workspace}/{repo_slug}/commits', { params: { path: at }, querySerializer })
      let count = 0
      for await (const _ of pages(commit, 100, list, [
        ['include', head],
        ['exclude', from],
      ]))
        count += 1
      return count
    },
    branchHead,
    async create({ title, body: description, branch, base }) {
      const body = {
        type: 'pullrequest' as const,
        title,
        description,
        source: { branch: { name: branch } },
        destination: { branch: { name: base } },
        close_source_branch: false,
        ...(choice.draft ? { draft: true } : {}),
      }
      const made = await asked(pull, () =>
        api.POST('/repositories/{workspace}/{repo_slug}/pullrequests', { params: { path: at }, body }),
      )
      return await present(made)
    },
    async label() {
      throw new Error('pull requests of Bitbucket have no labels')
    },
    async ask(number, reviewers) {
      const now = (await one(number)).reviewers ?? []
      await put(number, { reviewers: [...new Set([...now.map(({ uuid }) => uuid), ...reviewers])] })
    },
    async edit(number, { title, body, closed }) {
      if (title !== undefined || body !== undefined)
        await put(number, { ...(title === undefined ? {} : { title }), ...(body === undefined ? {} : { body }) })
      if (closed === undefined) return
      const params = { path: { ...at, pull_request_id: number } }
      await api.POST('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/decline', { params })
    },
    async *comments(number): AsyncGenerator<Note> {
      const list = (querySerializer: () => string) =>
        api.GET('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/comments', {
          params: { path: { ...at, pull_request_id: number } },
          querySerializer,
        })
      // One that was removed stays in the list.
      for await (const { id, deleted, content } of pages(note, 100, list, []))
        if (deleted !== true) yield { id, body: content?.raw ?? '' }
    },
    async addComment(number, raw) {
      await api.POST('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/comments', {
        params: { path: { ...at, pull_request_id: number } },
        body: { type: 'pullrequest_comment', content: { raw } },
      })
    },
    async editComment(number, id, raw) {
      await api.PUT('/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/comments/{comment_id}', {
        params: { path: { ...at, pull_request_id: number, comment_id: id } },
        body: { type: 'pullrequest_comment', content: { raw } },
      })
    },
    /** A status is known by its key: posted again it takes the place of the one before. It wants an address: the commit's own page. */
    async setStatus(hash, { context, state, description }) {
      await api.POST('/repositories/{workspace}/{repo_slug}/commit/{commit}/statuses/build', {
        params: { path: { ...at, commit: hash } },
        body: {
          type: 'commitstatus',
          key: context,
          name: context,
          state: states[state],
          description,
          url: `${server}/${choice.repository}/commits/${hash}`,
        },
      })
    },
    async status(hash, context) {
      const params = { path: { ...at, commit: hash } }
      const list = (querySerializer: () => string) =>
        api.GET('/repositories/{workspace}/{repo_slug}/commit/{commit}/statuses', { params, querySerializer })
      return await orNull(async () => {
        for await (const found of pages(build, 100, list, [['q', `key=${quoted(context)}`]]))
          if (found.key === context)
            return { context, state: stateOf(found.state), description: found.description ?? '' }
        return null
      })
    },
    issues: null,
  }
  return hostedForge(driver, { choice, server, tokenFrom: options.token.from })
}

/** Access tokens of a repository, a project or a workspace by themselves; API tokens of a person with the email of the account. */
function authorization({ value, email }: Token): string {
  return email === undefined ? `Bearer ${value}` : `Basic ${Buffer.from(`${email}:${value}`).toString('base64')}`
}

/**
 * Bitbucket's Markdown shows HTML as text. What is to be found again and not to be seen is a link definition that nothing refers to, as danger-js does it
 * there.
 */
function written(text: string): string {
  return text
    .replaceAll(/<!-- (.*?) -->/g, '[//]: # ($1)')
    .replaceAll(/<details><summary>(.*?)<\/summary>/g, '**$1**')
    .replaceAll(/\n*<\/details>/g, '')
    .replaceAll('<br>', ' · ')
}

/** A text in Bitbucket's language of filters. */
function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}

const states = { pending: 'INPROGRESS', success: 'SUCCESSFUL', failure: 'FAILED' } as const satisfies Readonly<
  Record<CommitStatus['state'], string>
>

function stateOf(said: z.infer<typeof build>['state']): CommitStatus['state'] {
  if (said === 'SUCCESSFUL') return 'success'
  return said === 'INPROGRESS' ? 'pending' : 'failure'
}

function isOwn({ source, destination }: Pull): boolean {
  const from = source.repository?.full_name
  return from !== undefined && from === destination.repository?.full_name
}
