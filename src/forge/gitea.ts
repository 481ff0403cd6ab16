/**
 * Gitea and Forgejo, through the part of their API v1 that both have (Gitea 1.20 and Forgejo 7 on).
 *
 * The typed clients that npm has for it (gitea-js, forgejo-js) put names into paths without encoding them, which a branch's slashes do not survive, and
 * believe every answer; so the dozen calls are made here, and each answer is looked at.
 */
import * as z from 'zod'
import { ReanchorError } from '../errors.ts'
import type { HostedForgeChoice } from '../rotation.ts'
import type { CommitStatus, Forge, PullRequest } from './forge.ts'
import { draftPrefix } from './hosted/draft-title.ts'
import type { Driver, Note, NotedIssue } from './hosted/driver.ts'
import { hostedForge } from './hosted/hosted.ts'
import { orNull, refusalIn } from './hosted/http.ts'
import type { HostedOptions } from './hosted/options.ts'
import { unexpected } from './hosted/refused.ts'

const pull = z.object({
  number: z.number(),
  title: z.string(),
  body: z.string().nullish(),
  state: z.enum(['open', 'closed']),
  merged: z.boolean(),
  merge_commit_sha: z.string().nullish(),
  html_url: z.string().nullish(),
  // `ref` is the branch only while that is there; `label` is its name for good.
  head: z.object({ label: z.string(), sha: z.string(), repo_id: z.number().nullish() }),
  base: z.object({ ref: z.string(), repo_id: z.number().nullish() }),
})
type Pull = z.infer<typeof pull>
const label = z.object({ id: z.number(), name: z.string() })
const note = z.object({ id: z.number(), body: z.string() })
const issue = z.object({
  number: z.number(),
  title: z.string(),
  body: z.string().nullish(),
  html_url: z.string().nullish(),
})
const status = z.object({ id: z.number(), context: z.string(), status: z.string(), description: z.string().nullish() })
const reference = z.object({ ref: z.string(), object: z.object({ sha: z.string() }) })

/** Settings, repository.pull-request, WORK_IN_PROGRESS_PREFIXES: these two unless an administrator says otherwise. */
const draft = draftPrefix('WIP: ', /^(WIP:|\[WIP\])\s*/i)

/** Settings, api, MAX_RESPONSE_ITEMS: 50 unless an administrator says otherwise. */
const pageSize = 50

export function openGiteaForge(choice: HostedForgeChoice, options: HostedOptions): Forge {
  const server = (choice.url ?? 'https://gitea.com').replace(/\/+$/, '')
  const [owner = '', name = ''] = choice.repository.split('/')
  if (choice.repository.split('/').length !== 2) {
    throw new ReanchorError({
      what: 'this is not a repository on Gitea or Forgejo',
      where: { file: 'rotation.yaml', field: 'spec.forge.gitea.repository' },
      expected: 'owner/name',
      found: choice.repository,
      example: 'acme/fleet',
    })
  }
  const repository = `/repos/${encodeURIComponent(owner)}/${encodeURIComponent(name)}`

  type Query = Readonly<Record<string, string | number>>

  async function call<T>(method: string, path: string, form: z.ZodType<T>, query: Query, body?: unknown): Promise<T> {
    const url = new URL(`${server}/api/v1${path}`)
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value))
    const response = await options.fetch(url, {
      method,
      headers: {
        accept: 'application/json',
        authorization: `token ${options.token.value}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const parsed = form.safeParse(await response.json().catch(() => undefined))
    if (parsed.success) return parsed.data
    const [first] = parsed.error.issues
    const asked = { ...choice, server, tokenFrom: options.token.from, use: 'read requests' } as const
    throw unexpected(asked, `${method} ${path}: ${first?.path.join('.') ?? ''} ${first?.message ?? ''}`)
  }

  const get = <T>(path: string, form: z.ZodType<T>, query: Query = {}): Promise<T> => call('GET', path, form, query)

  async function* pages<T>(path: string, form: z.ZodType<T>, query: Query = {}): AsyncGenerator<T> {
    for (let page = 1; ; page += 1) {
      const found = await get(path, z.array(form), { ...query, page, limit: pageSize })
      yield* found
      // A server may give fewer than asked for: only an empty page is the end.
      if (found.length === 0) return
    }
  }

  function neutral(found: Pull): PullRequest {
    const { number, head, base, merged } = found
    return {
      number,
      title: draft.strip(found.title),
      body: found.body ?? '',
      // Who opens one from a fork chooses its branch's name: it must not pass for one of this repository.
      branch: isOwn(found) ? head.label : `${head.repo_id ?? 'fork'}:${head.label}`,
      base: base.ref,
      head: head.sha,
      state: merged ? 'merged' : found.state,
      mergeCommit: merged ? (found.merge_commit_sha ?? null) : null,
      url: found.html_url ?? null,
    }
  }

  /**
   * Asked for one by one, a request's head is its branch's, also after it was merged; what was merged is kept under refs/pull. In lists it is that one,
   * which comes a moment after a push.
   */
  async function single(number: number): Promise<PullRequest> {
    const found = neutral(await get(`${repository}/pulls/${number}`, pull))
    return found.state === 'merged' ? { ...found, head: await mergedHead(found) } : found
  }

  async function mergedHead({ number, head }: PullRequest): Promise<string> {
    const ref = `refs/pull/${number}/head`
    const refs = await orNull(() => get(`${repository}/git/${ref}`, z.array(reference)))
    return refs?.find(one => one.ref === ref)?.object.sha ?? head
  }

  /** No query asks for the requests of a branch; one asks for any of a base and a branch, and so tells whether there are. */
  async function of(branch: string): Promise<readonly PullRequest[]> {
    const at = `${encodeURIComponent(options.base)}/${encodeURIComponent(branch)}`
    const any = await orNull(() => get(`${repository}/pulls/${at}`, pull))
    if (any === null) return []
    if (any.state === 'open') return [await single(any.number)]
    const mine = (one: Pull): boolean => one.head.label === branch && isOwn(one)
    for await (const one of pages(`${repository}/pulls`, pull, { state: 'open' }))
      if (mine(one)) return [await single(one.number)]
    const ended: PullRequest[] = []
    let passed = 0
    for await (const one of pages(`${repository}/pulls`, pull, { state: 'closed' })) {
      if (mine(one)) ended.push(neutral(one))
      passed = ended.length === 0 ? 0 : passed + 1
      // Twins of one moment stand together: not all of the past has to be read for them.
      if (ended.some(({ state }) => state === 'merged') || passed > pageSize) break
    }
    return ended
  }

  async function labelIds(names: readonly string[]): Promise<readonly number[]> {
    const known = new Map<string, number>()
    for await (const one of pages(`${repository}/labels`, label)) known.set(one.name, one.id)
    const ids: number[] = []
    for (const name of names) {
      const id = known.get(name)
      const body = { name, color: '#0052cc' }
      ids.push(id ?? (await call('POST', `${repository}/labels`, label, {}, body)).id)
    }
    return ids
  }

  const driver: Driver = {
    kind: 'gitea',
    longest: { title: 255, body: 1_000_000, comment: 1_000_000, status: 140 },
    of,
    async get(number) {
      try {
        return await single(number)
      } catch (error) {
        // The repository itself is told from the request by asking for it.
        if (refusalIn(error)?.status !== 404) throw error
        await get(repository, z.object({ full_name: z.string() }))
        return null
      }
    },
    async listOpen(base) {
      const open: PullRequest[] = []
      for await (const one of pages(`${repository}/pulls`, pull, { state: 'open' })) {
        if (one.base.ref === base) open.push(isOwn(one) ? await single(one.number) : neutral(one))
      }
      return open.reverse()
    },
    async ahead(branch, base) {
      const path = `${repository}/compare/${encodeURIComponent(`${base}...${branch}`)}`
      return (await orNull(() => get(path, z.object({ total_commits: z.number() }))))?.total_commits ?? null
    },
    async branchHead(branch) {
      const path = `${repository}/branches/${encodeURIComponent(branch)}`
      return (await orNull(() => get(path, z.object({ commit: z.object({ id: z.string() }) }))))?.commit.id ?? null
    },
    async create({ title, body, branch, base }) {
      const named = choice.draft ? draft.add(title) : title
      return neutral(await call('POST', `${repository}/pulls`, pull, {}, { title: named, body, head: branch, base }))
    },
    async label(number, labels) {
      const body = { labels: await labelIds(labels) }
      await call('POST', `${repository}/issues/${number}/labels`, z.unknown(), {}, body)
    },
    async ask(number, reviewers) {
      const teams = reviewers.filter(one => one.includes('/')).map(one => one.slice(one.indexOf('/') + 1))
      const body = { reviewers: reviewers.filter(one => !one.includes('/')), team_reviewers: teams }
      await call('POST', `${repository}/pulls/${number}/requested_reviewers`, z.unknown(), {}, body)
    },
    async edit(number, { title, body, closed }) {
      const path = `${repository}/pulls/${number}`
      // What a person has called ready stays so.
      const now = title === undefined ? null : await get(path, pull)
      const named = title === undefined ? {} : { title: draft.has(now?.title ?? '') ? draft.add(title) : title }
      await call(
        'PATCH',
        path,
        z.unknown(),
        {},
        { ...named, ...(body === undefined ? {} : { body }), ...state(closed) },
      )
    },
    async *comments(number): AsyncGenerator<Note> {
      // Its list of one issue's comments has no pages.
      yield* await get(`${repository}/issues/${number}/comments`, z.array(note))
    },
    async addComment(number, body) {
      await call('POST', `${repository}/issues/${number}/comments`, note, {}, { body })
    },
    async editComment(_number, id, body) {
      await call('PATCH', `${repository}/issues/comments/${id}`, z.unknown(), {}, { body })
    },
    async setStatus(commit, { context, state, description }) {
      await call('POST', `${repository}/statuses/${commit}`, z.unknown(), {}, { context, state, description })
    },
    async status(commit, context) {
      const path = `${repository}/commits/${commit}/statuses`
      for (let page = 1; ; page += 1) {
        const found = await get(path, z.array(status), { sort: 'recentupdate', page, limit: pageSize })
        // The order is by whole seconds; ids grow.
        const [newest] = found.filter(one => one.context === context).sort((a, b) => b.id - a.id)
        if (newest !== undefined)
          return { context, state: stateOf(newest.status), description: newest.description ?? '' }
        if (found.length === 0) return null
      }
    },
    issues: {
      async *open(): AsyncGenerator<NotedIssue> {
        for await (const one of pages(`${repository}/issues`, issue, { state: 'open', type: 'issues' }))
          yield noted(one)
      },
      async add(title, body) {
        return noted(await call('POST', `${repository}/issues`, issue, {}, { title, body }))
      },
      async edit(number, { title, body, closed }) {
        const named = title === undefined ? {} : { title }
        const to = { ...named, ...(body === undefined ? {} : { body }), ...state(closed) }
        await call('PATCH', `${repository}/issues/${number}`, z.unknown(), {}, to)
      },
    },
  }
  return hostedForge(driver, { choice, server, tokenFrom: options.token.from })
}

function isOwn({ head, base }: Pull): boolean {
  return head.repo_id === base.repo_id
}

function state(closed: true | undefined): { readonly state?: 'closed' } {
  return closed === undefined ? {} : { state: 'closed' }
}

function stateOf(said: string): CommitStatus['state'] {
  if (said === 'success' || said === 'pending') return said
  // `warning` passes as little as `failure` and `error` for what a rotation is about.
  return 'failure'
}

function noted({ number, title, body, html_url: url }: z.infer<typeof issue>): NotedIssue {
  return { number, title, body: body ?? '', url: url ?? null }
}
