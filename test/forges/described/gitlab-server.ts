/**
 * GitLab's REST API v4 as far as reanchor and the people of these tests use it.
 *
 * Each request is held to the fields of GitLab's documentation, written down here, and each answer to the types of @gitbeaker/rest. GitLab's OpenAPI description
 * is in its own repository and in no package registry: where the machine has a copy (gitlab-description.ts), both are held to that too.
 */
import type { ExpandedMergeRequestSchema, IssueSchema } from '@gitbeaker/rest'
import * as z from 'zod'
import type { People } from '../../forge/contract.ts'
import { gitlabDescription } from './gitlab-description.ts'
import { heldTo } from './openapi.ts'
import { type Answer, type Asked, serve, type TestServer } from './server.ts'
import { type ForgeState, lookedAt, type StoredIssue, type StoredPull } from './state.ts'

export const gitlabToken = 'glpat-of-the-tests'
export const gitlabProject = 'acme/platform/fleet'
const longestDescription = 1_048_576
const longestNote = 1_000_000

type MergeRequest = Pick<
  ExpandedMergeRequestSchema,
  | 'id'
  | 'iid'
  | 'project_id'
  | 'title'
  | 'description'
  | 'state'
  | 'created_at'
  | 'updated_at'
  | 'target_branch'
  | 'source_branch'
  | 'source_project_id'
  | 'target_project_id'
  | 'labels'
  | 'draft'
  | 'sha'
  | 'merge_commit_sha'
  | 'squash_commit_sha'
  | 'web_url'
>
type Issue = Pick<IssueSchema, 'id' | 'iid' | 'project_id' | 'title' | 'description' | 'state' | 'web_url'>

/** Every operation with the parameters that its page names (doc/api of GitLab 18); another one is a mistake. */
const operations = {
  'GET /projects/:id': z.strictObject({}),
  'GET /projects/:id/repository/branches/:branch': z.strictObject({}),
  'GET /projects/:id/repository/compare': z.strictObject({ from: z.string(), to: z.string() }),
  'GET /projects/:id/merge_requests': z.strictObject({
    source_branch: z.string().optional(),
    target_branch: z.string().optional(),
    state: z.enum(['opened', 'closed', 'locked', 'merged', 'all']).optional(),
    order_by: z.enum(['created_at', 'updated_at']).optional(),
    sort: z.enum(['asc', 'desc']).optional(),
    scope: z.enum(['created_by_me', 'assigned_to_me', 'all']).optional(),
    per_page: z.string().optional(),
    page: z.string().optional(),
  }),
  'POST /projects/:id/merge_requests': z.strictObject({
    source_branch: z.string(),
    target_branch: z.string(),
    title: z.string(),
    description: z.string().optional(),
  }),
  'GET /projects/:id/merge_requests/:iid': z.strictObject({}),
  'PUT /projects/:id/merge_requests/:iid': z.strictObject({
    title: z.string().optional(),
    description: z.string().optional(),
    state_event: z.enum(['close', 'reopen']).optional(),
    add_labels: z.string().optional(),
    reviewer_ids: z.array(z.number()).optional(),
  }),
  'PUT /projects/:id/merge_requests/:iid/merge': z.strictObject({ squash: z.boolean().optional() }),
  'GET /projects/:id/merge_requests/:iid/notes': z.strictObject({
    per_page: z.string().optional(),
    page: z.string().optional(),
  }),
  'POST /projects/:id/merge_requests/:iid/notes': z.strictObject({ body: z.string() }),
  'PUT /projects/:id/merge_requests/:iid/notes/:note': z.strictObject({ body: z.string() }),
  'GET /projects/:id/repository/commits/:sha/statuses': z.strictObject({ name: z.string().optional() }),
  'POST /projects/:id/statuses/:sha': z.strictObject({
    state: z.enum(['pending', 'running', 'success', 'failed', 'canceled', 'skipped']),
    name: z.string().optional(),
    context: z.string().optional(),
    description: z.string().max(255).optional(),
    sha: z.string().optional(),
  }),
  'GET /projects/:id/issues': z.strictObject({
    state: z.enum(['opened', 'closed']).optional(),
    scope: z.enum(['created_by_me', 'assigned_to_me', 'all']).optional(),
    order_by: z.string().optional(),
    sort: z.enum(['asc', 'desc']).optional(),
    per_page: z.string().optional(),
    page: z.string().optional(),
  }),
  'POST /projects/:id/issues': z.strictObject({ title: z.string(), description: z.string().optional() }),
  'PUT /projects/:id/issues/:iid': z.strictObject({
    title: z.string().optional(),
    description: z.string().optional(),
    state_event: z.enum(['close', 'reopen']).optional(),
  }),
  'GET /users': z.strictObject({ username: z.string() }),
} as const

type Operation = keyof typeof operations

const users = [{ id: 7, username: 'grace' }]

export async function gitlabServer(state: ForgeState, scopes: readonly string[] = ['api']): Promise<TestServer> {
  return await serve(async (asked, url) => {
    const found = route(asked)
    if (found === null) throw new Error(`${asked.method} ${asked.path} is no operation that is known`)
    const given = asked.method === 'GET' ? Object.fromEntries(asked.query) : (asked.body ?? {})
    const parsed = operations[found.operation].safeParse(given)
    if (!parsed.success) throw new Error(`the request is not as documented: ${parsed.error.message}`)
    const answer = respond(state, scopes, { ...asked, ...found, url, given: given as Given })
    const api = await gitlabDescription()
    // Errors are described without a form, if at all.
    return api === null
      ? answer
      : heldTo(
          api,
          asked.path,
          asked,
          () => answer,
          status => status >= 400,
        )
  })
}

type Given = Readonly<Record<string, unknown>>

interface Request extends Asked {
  readonly operation: Operation
  readonly parameters: Readonly<Record<string, string>>
  readonly url: string
  readonly given: Given
}

function route({
  method,
  path,
}: Asked): { readonly operation: Operation; readonly parameters: Readonly<Record<string, string>> } | null {
  const parts = path.replace(/^\/api\/v4\//, '').split('/')
  for (const operation of Object.keys(operations) as readonly Operation[]) {
    const [wanted, template = ''] = operation.split(' ')
    const names = template.slice(1).split('/')
    if (wanted !== method || names.length !== parts.length) continue
    if (!names.every((name, index) => name.startsWith(':') || name === parts[index])) continue
    const parameters = names.flatMap((name, index) =>
      name.startsWith(':') ? [[name.slice(1), decodeURIComponent(parts[index] ?? '')]] : [],
    )
    return { operation, parameters: Object.fromEntries(parameters) }
  }
  return null
}

function respond(state: ForgeState, scopes: readonly string[], asked: Request): Answer {
  const { operation, parameters, given, url, query } = asked
  if (asked.headers.authorization !== `Bearer ${gitlabToken}`)
    return { status: 401, body: { message: '401 Unauthorized' } }
  if (!scopes.includes('api') && asked.method !== 'GET') {
    return {
      status: 403,
      body: {
        error: 'insufficient_scope',
        error_description: 'The request requires higher privileges than provided by the access token.',
        scope: 'api',
      },
    }
  }
  const missing = (what: string): Answer => ({ status: 404, body: { message: `404 ${what} Not Found` } })
  if (parameters.id !== undefined && parameters.id !== gitlabProject) return missing('Project')
  const pull = state.pulls.find(one => one.number === Number(parameters.iid))
  const pages = (all: readonly unknown[]): Answer => {
    const size = Number(query.get('per_page') ?? 20)
    const page = Number(query.get('page') ?? 1)
    const next = page * size < all.length ? String(page + 1) : ''
    const link = next === '' ? {} : { link: `<${url}${asked.path}?${withPage(query, next)}>; rel="next"` }
    const headers = {
      'x-page': String(page),
      'x-per-page': String(size),
      'x-next-page': next,
      'x-total': String(all.length),
      'x-total-pages': String(Math.ceil(all.length / size)),
      ...link,
    }
    return { status: 200, body: all.slice((page - 1) * size, page * size), headers }
  }
  switch (operation) {
    case 'GET /projects/:id':
      return { status: 200, body: { id: 1, path_with_namespace: gitlabProject } }
    case 'GET /users':
      return { status: 200, body: users.filter(one => one.username === given.username) }
    case 'GET /projects/:id/repository/branches/:branch': {
      const id = state.branchHead(parameters.branch ?? '')
      return id === null ? missing('Branch') : { status: 200, body: { name: parameters.branch, commit: { id } } }
    }
    case 'GET /projects/:id/repository/compare': {
      const ahead = state.ahead(String(given.to), String(given.from))
      return ahead === null
        ? missing('Ref')
        : {
            status: 200,
            body: { commits: Array.from({ length: ahead }, (_, index) => ({ id: String(index) })), diffs: [] },
          }
    }
    case 'GET /projects/:id/merge_requests': {
      const wanted = given.state ?? 'all'
      const found = state.pulls.filter(
        one =>
          (given.source_branch === undefined || given.source_branch === one.branch) &&
          (given.target_branch === undefined || given.target_branch === one.base) &&
          (wanted === 'all' || wanted === stateName(one.state)),
      )
      return pages([...found].reverse().map(one => mergeRequest(state, one, url)))
    }
    case 'POST /projects/:id/merge_requests': {
      const body = String(given.description ?? '')
      if (body.length > longestDescription)
        return { status: 400, body: { message: { description: ['is too long (maximum is 1048576 characters)'] } } }
      const { title, draft } = titled(String(given.title))
      const opened = state.open({
        title,
        draft,
        body,
        branch: String(given.source_branch),
        base: String(given.target_branch),
      })
      if (opened === 'open already')
        return {
          status: 409,
          body: { message: ['Another open merge request already exists for this source branch: !1'] },
        }
      if (typeof opened === 'string') return { status: 422, body: { message: [opened] } }
      return { status: 201, body: mergeRequest(state, opened, url) }
    }
    case 'GET /projects/:id/merge_requests/:iid':
      return pull === undefined ? missing('Merge Request') : { status: 200, body: mergeRequest(state, pull, url) }
    case 'PUT /projects/:id/merge_requests/:iid': {
      if (pull === undefined) return missing('Merge Request')
      if (typeof given.title === 'string') Object.assign(pull, titled(given.title))
      if (typeof given.description === 'string') pull.body = given.description
      if (typeof given.add_labels === 'string') for (const label of given.add_labels.split(',')) pull.labels.add(label)
      for (const id of (given.reviewer_ids ?? []) as readonly number[])
        pull.reviewers.add(users.find(one => one.id === id)?.username ?? '')
      if (given.state_event === 'close' && pull.state === 'open') {
        pull.head = state.headOf(pull)
        pull.state = 'closed'
      }
      return { status: 200, body: mergeRequest(state, pull, url) }
    }
    case 'PUT /projects/:id/merge_requests/:iid/merge': {
      if (pull === undefined) return missing('Merge Request')
      state.merge(pull, given.squash === true ? 'squash' : 'merge')
      return { status: 200, body: mergeRequest(state, pull, url) }
    }
    case 'GET /projects/:id/merge_requests/:iid/notes':
      return pages(
        state.comments
          .filter(one => one.pull === pull?.number)
          .map(({ id, body }) => ({ id, body }))
          .reverse(),
      )
    case 'POST /projects/:id/merge_requests/:iid/notes': {
      if (pull === undefined) return missing('Merge Request')
      if (String(given.body).length > longestNote)
        return { status: 400, body: { message: { note: ['is too long (maximum is 1000000 characters)'] } } }
      const note = { id: 500 + state.comments.length, pull: pull.number, body: String(given.body) }
      state.comments.push(note)
      return { status: 201, body: { id: note.id, body: note.body } }
    }
    case 'PUT /projects/:id/merge_requests/:iid/notes/:note': {
      const note = state.comments.find(one => one.id === Number(parameters.note))
      if (note === undefined) return missing('Note')
      note.body = String(given.body)
      return { status: 200, body: { id: note.id, body: note.body } }
    }
    case 'GET /projects/:id/repository/commits/:sha/statuses': {
      const named = state.statuses.filter(
        one => one.commit === parameters.sha && (given.name === undefined || given.name === one.context),
      )
      // Without `all`, the latest of each name.
      const latest = new Map(named.map(one => [one.context, one]))
      return pages(
        [...latest.values()].map(({ id, context, state: status, description }) => ({
          id,
          name: context,
          status,
          description,
        })),
      )
    }
    case 'POST /projects/:id/statuses/:sha':
      return postStatus(state, parameters.sha ?? '', given)
    case 'GET /projects/:id/issues':
      return pages(
        state.issues
          .filter(one => given.state === undefined || stateName(one.state) === given.state)
          .map(one => issue(one, url))
          .reverse(),
      )
    case 'POST /projects/:id/issues': {
      const made: StoredIssue = {
        number: state.issues.length + 1,
        title: String(given.title),
        body: String(given.description ?? ''),
        state: 'open',
      }
      state.issues.push(made)
      return { status: 201, body: issue(made, url) }
    }
    case 'PUT /projects/:id/issues/:iid': {
      const found = state.issues.find(one => one.number === Number(parameters.iid))
      if (found === undefined) return missing('Issue')
      if (typeof given.title === 'string') found.title = given.title
      if (typeof given.description === 'string') found.body = given.description
      if (given.state_event === 'close') found.state = 'closed'
      return { status: 200, body: issue(found, url) }
    }
  }
}

/** One that is pending or running is taken on; from there `enqueue` (pending) is refused, and one that has ended is followed by another. */
function postStatus(state: ForgeState, commit: string, given: Given): Answer {
  if (!state.commitExists(commit)) return { status: 404, body: { message: '404 Commit Not Found' } }
  const context = String(given.name ?? given.context ?? 'default')
  const description = String(given.description ?? '')
  const to = String(given.state)
  const going = state.statuses.find(
    one => one.commit === commit && one.context === context && ['pending', 'running'].includes(one.state),
  )
  if (going !== undefined && to === 'pending') {
    const message = `Cannot transition status via :enqueue from :${going.state} (Reason(s): Status cannot transition via "enqueue")`
    return { status: 400, body: { message } }
  }
  if (going !== undefined) Object.assign(going, { state: to, description })
  else state.statuses.push({ id: state.statuses.length + 1, commit, context, state: to, description })
  return { status: 201, body: { id: going?.id ?? state.statuses.length, name: context, status: to, description } }
}

function withPage(query: URLSearchParams, page: string): URLSearchParams {
  const next = new URLSearchParams(query)
  next.set('page', page)
  return next
}

function titled(text: string): { readonly title: string; readonly draft: boolean } {
  const title = text.replace(/^Draft: /, '')
  return { title, draft: title !== text }
}

function stateName(state: StoredPull['state']): 'opened' | 'closed' | 'merged' {
  return state === 'open' ? 'opened' : state
}

function mergeRequest(state: ForgeState, pull: StoredPull, url: string): MergeRequest {
  const { number: iid, merge } = pull
  return {
    id: 9000 + iid,
    iid,
    project_id: 1,
    title: pull.draft ? `Draft: ${pull.title}` : pull.title,
    description: pull.body,
    state: stateName(pull.state),
    created_at: '2026-11-22T10:00:00.000Z',
    updated_at: '2026-11-22T10:00:00.000Z',
    target_branch: pull.base,
    source_branch: pull.branch,
    source_project_id: 1,
    target_project_id: 1,
    labels: [...pull.labels],
    draft: pull.draft,
    // As it was when GitLab last took a push in, which is after the push.
    sha: pull.state === 'open' ? pull.head : state.headOf(pull),
    // A project that only fast-forwards has no merge commit: what it squashed, or the head itself, is on the base then.
    merge_commit_sha: merge === null || merge.method === 'squash' ? null : merge.commit,
    squash_commit_sha: merge?.squashed ?? null,
    web_url: `${url}/${gitlabProject}/-/merge_requests/${iid}`,
  }
}

function issue({ number: iid, title, body: description, state }: StoredIssue, url: string): Issue {
  const at = { id: 8000 + iid, iid, project_id: 1, web_url: `${url}/${gitlabProject}/-/issues/${iid}` }
  return { ...at, title, description, state: stateName(state) }
}

export function gitlabPeople(state: ForgeState, url: string): People {
  const call = async (method: string, path: string, body: Given): Promise<void> => {
    const response = await fetch(`${url}/api/v4/projects/${encodeURIComponent(gitlabProject)}${path}`, {
      method,
      headers: { authorization: `Bearer ${gitlabToken}` },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  }
  return {
    merge: (number, method) => call('PUT', `/merge_requests/${number}/merge`, { squash: method === 'squash' }),
    comments: async number => state.comments.filter(one => one.pull === number).map(({ body }) => body),
    comment: (number, body) => call('POST', `/merge_requests/${number}/notes`, { body }),
    look: async number => lookedAt(state, number),
    async markReady(number) {
      const found = state.pulls.find(one => one.number === number)
      await call('PUT', `/merge_requests/${number}`, { title: found?.title ?? '' })
    },
    openIssues: async () => state.issues.filter(one => one.state === 'open'),
  }
}
