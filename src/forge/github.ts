/** GitHub, and GitHub Enterprise Server under its own address, by the REST API of version 2022-11-28. */
import { Octokit } from '@octokit/rest'
import { ReanchorError } from '../errors.ts'
import type { HostedForgeChoice } from '../rotation.ts'
import type { CommitStatus, Forge, PullRequest } from './forge.ts'
import type { Driver, Note, NotedIssue } from './hosted/driver.ts'
import { hostedForge } from './hosted/hosted.ts'
import { orNull, refusalIn } from './hosted/http.ts'
import type { HostedOptions } from './hosted/options.ts'

const perPage = 100

/** What lists and single answers have in common. */
interface Found {
  readonly number: number
  readonly title: string
  readonly body: string | null
  readonly state: string
  readonly merged_at: string | null
  readonly merge_commit_sha: string | null
  readonly html_url: string
  readonly head: { readonly ref: string; readonly sha: string; readonly repo: { readonly full_name: string } | null }
  readonly base: { readonly ref: string; readonly repo: { readonly full_name: string } }
}

export function openGitHubForge(choice: HostedForgeChoice, options: HostedOptions): Forge {
  const server = (choice.url ?? 'https://github.com').replace(/\/+$/, '')
  const [owner = '', repo = ''] = choice.repository.split('/')
  if (choice.repository.split('/').length !== 2) {
    throw new ReanchorError({
      what: 'this is not a repository on GitHub',
      where: { file: 'rotation.yaml', field: 'spec.forge.github.repository' },
      expected: 'owner/name',
      found: choice.repository,
      example: 'acme/fleet',
    })
  }
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
  const { rest, paginate } = new Octokit({
    auth: options.token.value,
    baseUrl: server === 'https://github.com' ? 'https://api.github.com' : `${server}/api/v3`,
    userAgent: 'reanchor',
    log: silent,
    request: { fetch: options.fetch },
  })
  const at = { owner, repo }
  const versioned = { headers: { 'x-github-api-version': '2022-11-28' } }

  const driver: Driver = {
    kind: 'github',
    // Counted in characters, and refused with 422; 256 of a title.
    longest: { title: 250, body: 60_000, comment: 60_000, status: 140 },
    async of(branch) {
      const asked = {
        ...at,
        ...versioned,
        head: `${owner}:${branch}`,
        state: 'all',
        sort: 'created',
        direction: 'desc',
      } as const
      // The owner of a fork of this name may be the same organisation.
      const { data } = await rest.pulls.list({ ...asked, per_page: 20 })
      return data.filter(one => one.head.ref === branch && isOwn(one)).map(neutral)
    },
    async get(number) {
      try {
        return neutral((await rest.pulls.get({ ...at, ...versioned, pull_number: number })).data)
      } catch (error) {
        // The repository itself is told from the request by asking for it.
        if (refusalIn(error)?.status !== 404) throw error
        await rest.repos.get({ ...at, ...versioned })
        return null
      }
    },
    async listOpen(base) {
      const asked = {
        ...at,
        ...versioned,
        base,
        state: 'open',
        sort: 'created',
        direction: 'asc',
        per_page: perPage,
      } as const
      return (await paginate(rest.pulls.list, asked)).map(neutral)
    },
    async ahead(branch, base) {
      const asked = { ...at, ...versioned, basehead: `${base}...${branch}`, per_page: 1 }
      return await orNull(async () => (await rest.repos.compareCommitsWithBasehead(asked)).data.ahead_by)
    },
    async branchHead(branch) {
      return await orNull(async () => (await rest.repos.getBranch({ ...at, ...versioned, branch })).data.commit.sha)
    },
    async create({ title, body, branch, base }) {
      const { draft } = choice
      return neutral((await rest.pulls.create({ ...at, ...versioned, title, body, head: branch, base, draft })).data)
    },
    async label(number, labels) {
      await rest.issues.addLabels({ ...at, ...versioned, issue_number: number, labels: [...labels] })
    },
    async ask(number, reviewers) {
      const people = reviewers.filter(one => !one.includes('/'))
      const teams = reviewers.filter(one => one.includes('/')).map(one => one.slice(one.indexOf('/') + 1))
      const asked = { ...at, ...versioned, pull_number: number, reviewers: people, team_reviewers: teams }
      await rest.pulls.requestReviewers(asked)
    },
    async edit(number, to) {
      await rest.pulls.update({ ...at, ...versioned, pull_number: number, ...changed(to) })
    },
    async *comments(number): AsyncGenerator<Note> {
      const asked = { ...at, ...versioned, issue_number: number, per_page: perPage }
      for await (const { data } of paginate.iterator(rest.issues.listComments, asked))
        for (const { id, body } of data) yield { id, body: body ?? '' }
    },
    async addComment(number, body) {
      await rest.issues.createComment({ ...at, ...versioned, issue_number: number, body })
    },
    async editComment(_number, id, body) {
      await rest.issues.updateComment({ ...at, ...versioned, comment_id: id, body })
    },
    async setStatus(commit, { context, state, description }) {
      await rest.repos.createCommitStatus({ ...at, ...versioned, sha: commit, context, state, description })
    },
    async status(commit, context) {
      const asked = { ...at, ...versioned, ref: commit, per_page: perPage }
      for await (const { data } of paginate.iterator(rest.repos.listCommitStatusesForRef, asked)) {
        // Newest first.
        const found = data.find(one => one.context === context)
        if (found !== undefined) return { context, state: stateOf(found.state), description: found.description ?? '' }
      }
      return null
    },
    issues: {
      async *open(): AsyncGenerator<NotedIssue> {
        const asked = {
          ...at,
          ...versioned,
          state: 'open',
          sort: 'updated',
          direction: 'desc',
          per_page: perPage,
        } as const
        // Its list of issues has pull requests in it.
        for await (const { data } of paginate.iterator(rest.issues.listForRepo, asked))
          for (const one of data) if (one.pull_request === undefined) yield noted(one)
      },
      async add(title, body) {
        return noted((await rest.issues.create({ ...at, ...versioned, title, body })).data)
      },
      async edit(number, to) {
        await rest.issues.update({ ...at, ...versioned, issue_number: number, ...changed(to) })
      },
    },
  }
  return hostedForge(driver, { choice, server, tokenFrom: options.token.from })
}

function isOwn({ head, base }: Found): boolean {
  return head.repo?.full_name === base.repo.full_name
}

/** `merge_commit_sha` of one that is not merged is a commit that GitHub made to try it. */
function neutral(found: Found): PullRequest {
  const { number, title, body, state, merged_at: merged, head, base } = found
  return {
    number,
    title,
    body: body ?? '',
    // Who opens one from a fork chooses its branch's name: it must not pass for one of this repository.
    branch: isOwn(found) ? head.ref : `${head.repo?.full_name ?? 'a fork that is gone'}:${head.ref}`,
    base: base.ref,
    head: head.sha,
    state: merged !== null ? 'merged' : state === 'open' ? 'open' : 'closed',
    mergeCommit: merged === null ? null : found.merge_commit_sha,
    url: found.html_url,
  }
}

function changed({ title, body, closed }: Parameters<Driver['edit']>[1]): {
  readonly title?: string
  readonly body?: string
  readonly state?: 'closed'
} {
  return {
    ...(title === undefined ? {} : { title }),
    ...(body === undefined ? {} : { body }),
    ...(closed === undefined ? {} : { state: 'closed' }),
  }
}

function stateOf(said: string): CommitStatus['state'] {
  if (said === 'success' || said === 'pending') return said
  return 'failure'
}

interface FoundIssue {
  readonly number: number
  readonly title: string
  readonly body?: string | null | undefined
  readonly html_url: string
}

function noted({ number, title, body, html_url: url }: FoundIssue): NotedIssue {
  return { number, title, body: body ?? '', url }
}
