/** GitLab, gitlab.com or self-managed, by its REST API v4. */

import { createRequesterFn } from '@gitbeaker/requester-utils'
import {
  Branches,
  Commits,
  Issues,
  MergeRequestNotes,
  MergeRequests,
  Projects,
  Repositories,
  Users,
} from '@gitbeaker/rest'
import { ReanchorError } from '../errors.ts'
import type { HostedForgeChoice } from '../rotation.ts'
import type { CommitStatus, Forge, PullRequest } from './forge.ts'
import { draftPrefix } from './hosted/draft-title.ts'
import type { Driver, Note, NotedIssue } from './hosted/driver.ts'
import { hostedForge } from './hosted/hosted.ts'
import { orNull, refusalIn } from './hosted/http.ts'
import type { HostedOptions } from './hosted/options.ts'

const perPage = 100

/** `Draft:`, `[Draft]` and `(Draft)` (GitLab docs, draft merge requests). */
const draft = draftPrefix('Draft: ', /^(Draft:|\[Draft\]|\(Draft\))\s*/i)

interface Found {
  readonly iid: number
  readonly title: string
  readonly description: string | null
  readonly state: string
  readonly source_branch: string
  readonly target_branch: string
  readonly source_project_id: number
  readonly target_project_id: number
  readonly sha: string | null
  readonly merge_commit_sha: string | null
  readonly squash_commit_sha: string | null
  readonly web_url: string
}

export function openGitLabForge(choice: HostedForgeChoice, options: HostedOptions): Forge {
  const server = (choice.url ?? 'https://gitlab.com').replace(/\/+$/, '')
  const project = choice.repository
  const api = { host: server, oauthToken: options.token.value, requesterFn: requester(options.fetch) }
  const requests = new MergeRequests(api)
  const notes = new MergeRequestNotes(api)
  const commits = new Commits(api)
  const issues = new Issues(api)

  /** GitLab takes a push in after it has answered: until then a request's `sha` is the one before. */
  async function present(found: Found): Promise<PullRequest> {
    const request = neutral(found)
    if (request.state !== 'open' || found.source_project_id !== found.target_project_id) return request
    return { ...request, head: (await branchHead(request.branch)) ?? request.head }
  }

  async function branchHead(branch: string): Promise<string | null> {
    return (await orNull(() => new Branches(api).show(project, branch)))?.commit.id ?? null
  }

  async function listed(asked: {
    readonly sourceBranch?: string
    readonly targetBranch?: string
    readonly state?: 'opened'
  }): Promise<readonly Found[]> {
    const order = { orderBy: 'created_at', sort: 'desc', perPage } as const
    // Given a project, it would still be `created_by_me` on some versions before 11.
    return await requests.all({ ...asked, ...order, projectId: project, scope: 'all' })
  }

  async function userIds(logins: readonly string[]): Promise<number[]> {
    const ids: number[] = []
    for (const username of logins) {
      const [user] = await new Users(api).all({ username })
      if (user === undefined) {
        throw new ReanchorError({
          what: 'a reviewer is nobody that this GitLab knows',
          where: { file: 'rotation.yaml', field: 'spec.forge.gitlab.reviewers' },
          expected: 'user names; GitLab has no teams to ask for a review',
          found: username,
          todo: 'correct the list; the merge request is open without reviewers',
        })
      }
      ids.push(user.id)
    }
    return ids
  }

  async function post(commit: string, { context, description }: CommitStatus, as: Posted): Promise<void> {
    await commits.editStatus(project, commit, as, { name: context, context, description })
  }

  const driver: Driver = {
    kind: 'gitlab',
    longest: { title: 255, body: 1_000_000, comment: 1_000_000, status: 140 },
    async of(branch) {
      return await Promise.all((await listed({ sourceBranch: branch })).filter(isOwn).map(present))
    },
    async get(number) {
      try {
        return await present(await requests.show(project, number))
      } catch (error) {
        // The project itself is told from the request by asking for it.
        if (refusalIn(error)?.status !== 404) throw error
        await new Projects(api).show(project)
        return null
      }
    },
    async listOpen(base) {
      const found = await listed({ targetBranch: base, state: 'opened' })
      return await Promise.all(found.map(present)).then(all => all.reverse())
    },
    async ahead(branch, base) {
      const compared = await orNull(() => new Repositories(api).compare(project, base, branch))
      return compared?.commits?.length ?? null
    },
    branchHead,
    async create({ title, body, branch, base }) {
      const named = choice.draft ? draft.add(title) : title
      return await present(await requests.create(project, branch, base, named, { description: body }))
    },
    async label(number, labels) {
      await requests.edit(project, number, { addLabels: labels.join(',') })
    },
    async ask(number, reviewers) {
      await requests.edit(project, number, { reviewerIds: await userIds(reviewers) })
    },
    async edit(number, { title, body, closed }) {
      // What a person has called ready stays so.
      const now = title === undefined ? '' : (await requests.show(project, number)).title
      await requests.edit(project, number, {
        ...(title === undefined ? {} : { title: draft.has(now) ? draft.add(title) : title }),
        ...(body === undefined ? {} : { description: body }),
        ...(closed === undefined ? {} : { stateEvent: 'close' }),
      })
    },
    async *comments(number): AsyncGenerator<Note> {
      yield* await notes.all(project, number, { perPage })
    },
    async addComment(number, body) {
      await notes.create(project, number, body)
    },
    async editComment(number, id, body) {
      await notes.edit(project, number, id, { body })
    },
    /**
     * A status is a job to GitLab: from pending it goes on or ends, and pending again is refused. So other words for `pending` end the job that has the
     * earlier ones and begin another (app/services/ci/create_commit_status_service.rb, 18.x).
     */
    async setStatus(commit, status, before) {
      if (status.state === 'pending' && before?.state === 'pending') await post(commit, status, 'canceled')
      await post(commit, status, states[status.state])
    },
    async status(commit, context) {
      const all = await orNull(() => commits.allStatuses(project, commit, { name: context }))
      const found = all?.filter(one => one.name === context).sort((a, b) => b.id - a.id)[0]
      if (found === undefined) return null
      return { context, state: stateOf(found.status), description: found.description ?? '' }
    },
    issues: {
      async *open(): AsyncGenerator<NotedIssue> {
        const order = { orderBy: 'updated_at', sort: 'desc', perPage } as const
        for (const one of await issues.all({ projectId: project, state: 'opened', scope: 'all', ...order }))
          yield noted(one)
      },
      async add(title, body) {
        return noted(await issues.create(project, title, { description: body }))
      },
      async edit(number, { title, body, closed }) {
        await issues.edit(project, number, {
          ...(title === undefined ? {} : { title }),
          ...(body === undefined ? {} : { description: body }),
          ...(closed === undefined ? {} : { stateEvent: 'close' }),
        })
      },
    },
  }
  return hostedForge(driver, { choice, server, tokenFrom: options.token.from })
}

/** Requests of @gitbeaker by a fetch that waits and names its refusals, instead of its own loop of retries. */
function requester(fetch: HostedOptions['fetch']) {
  return createRequesterFn(
    async (_service, request) => request,
    async (endpoint, given) => {
      const { prefixUrl, searchParams, method, headers, body } = (given ?? {}) as Sent
      const url = new URL(endpoint, `${prefixUrl?.replace(/\/+$/, '')}/`)
      url.search = searchParams ?? ''
      const response = await fetch(url, {
        ...(method === undefined ? {} : { method }),
        ...(headers === undefined ? {} : { headers }),
        ...(body === undefined ? {} : { body }),
      })
      const answered = response.status === 204 ? null : ((await response.json()) as Record<string, unknown>)
      return { body: answered, headers: Object.fromEntries(response.headers), status: response.status }
    },
  )
}

interface Sent {
  readonly prefixUrl?: string
  readonly searchParams?: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
}

type Posted = 'pending' | 'success' | 'failed' | 'canceled'

const states = { pending: 'pending', success: 'success', failure: 'failed' } as const satisfies Readonly<
  Record<CommitStatus['state'], Posted>
>

function stateOf(said: string): CommitStatus['state'] {
  if (said === 'success') return 'success'
  return ['pending', 'running', 'created', 'waiting_for_resource', 'preparing', 'scheduled'].includes(said)
    ? 'pending'
    : 'failure'
}

function isOwn(found: Found): boolean {
  return found.source_project_id === found.target_project_id
}

/**
 * What the base branch has of a merged one: the merge commit; without one (fast-forward, semi-linear projects) the squashed commit; else the head itself,
 * which GitLab has rebased before. `locked` is one that is being merged.
 */
function neutral(found: Found): PullRequest {
  const merged = found.state === 'merged'
  return {
    number: found.iid,
    title: draft.strip(found.title),
    body: found.description ?? '',
    // Who opens one from a fork chooses its branch's name: it must not pass for one of this project.
    branch: isOwn(found) ? found.source_branch : `${found.source_project_id}:${found.source_branch}`,
    base: found.target_branch,
    head: found.sha ?? '',
    state: merged ? 'merged' : found.state === 'closed' ? 'closed' : 'open',
    mergeCommit: merged ? (found.merge_commit_sha ?? found.squash_commit_sha ?? found.sha) : null,
    url: found.web_url,
  }
}

interface FoundIssue {
  readonly iid: number
  readonly title: string
  readonly description: string | null
  readonly web_url: string
}

function noted({ iid, title, description, web_url: url }: FoundIssue): NotedIssue {
  return { number: iid, title, body: description ?? '', url }
}
