/**
 * GitHub's REST API as far as reanchor and the people of these tests use it: every request and every answer is held to GitHub's published OpenAPI
 * description. What answers need beyond what is said here comes from the description's own examples.
 */
import type { People } from '../../forge/contract.ts'
import { type Described, type DescribedRequest, heldTo, isGateways } from './openapi.ts'
import { type Answer, serve, type TestServer } from './server.ts'
import type { ForgeState, StoredIssue, StoredPull } from './state.ts'

export const githubToken = 'github_pat_of-the-tests'
const repository = 'acme/fleet'
const prefix = '/api/v3'
/** Characters of a body, and of a comment. */
const longestBody = 65_536

type Json = Record<string, unknown>

/** Which rights the token has; a call that needs another is refused as GitHub refuses it. */
export interface GitHubRights {
  readonly pullRequests: boolean
  readonly statuses: boolean
  readonly issues: boolean
}

export const allRights: GitHubRights = { pullRequests: true, statuses: true, issues: true }

export async function githubServer(
  state: ForgeState,
  api: Described,
  rights: GitHubRights = allRights,
): Promise<TestServer> {
  return await serve((asked, url) => {
    if (!asked.path.startsWith(`${prefix}/`)) return { status: 404, body: { message: 'Not Found' } }
    const answered = (request: DescribedRequest): Answer => {
      if (asked.headers['x-github-api-version'] !== '2022-11-28') throw new Error('no API version was asked for')
      return respond(state, api, rights, { ...request, url })
    }
    return heldTo(api, asked.path.slice(prefix.length), asked, answered, isGateways)
  })
}

interface Request extends DescribedRequest {
  readonly url: string
}

function respond(state: ForgeState, api: Described, rights: GitHubRights, asked: Request): Answer {
  const { method, template, parameters, query, url } = asked
  const body = (asked.body ?? {}) as Json
  if (asked.headers.authorization !== `token ${githubToken}`)
    return { status: 401, body: { message: 'Bad credentials' } }
  if (`${parameters.owner}/${parameters.repo}` !== repository) return { status: 404, body: { message: 'Not Found' } }
  const at = template.replace('/repos/{owner}/{repo}', '')
  const need = needed(method, at, Number(parameters.issue_number), state)
  if (need !== null && !rights[need.right]) {
    const message = 'Resource not accessible by personal access token'
    return { status: 403, body: { message }, headers: { 'x-accepted-github-permissions': need.accepted } }
  }
  const pull = state.pulls.find(one => one.number === Number(parameters.pull_number ?? parameters.issue_number))
  const issue = state.issues.find(one => one.number === Number(parameters.issue_number))
  const make = (status: number, over: Json): Answer => ({
    status,
    body: filled(api.example(method, template, status), over),
  })
  const none: Answer = { status: 404, body: { message: 'Not Found' } }
  const pages = <T>(all: readonly T[], one: (item: T, example: unknown) => unknown): Answer => {
    const size = Number(query.get('per_page') ?? 30)
    const page = Number(query.get('page') ?? 1)
    const [example] = api.example(method, template, 200) as readonly unknown[]
    const next = new URL(`${url}${asked.path}?${query}`)
    next.searchParams.set('page', String(page + 1))
    const more = all.length > page * size
    const body = all.slice((page - 1) * size, page * size).map(item => one(item, example))
    return { status: 200, body, ...(more ? { headers: { link: `<${next}>; rel="next"` } } : {}) }
  }
  switch (`${method} ${at}`) {
    case 'GET ':
      return make(200, { full_name: repository })
    case 'GET /branches/{branch}': {
      const sha = state.branchHead(parameters.branch ?? '')
      return sha === null ? none : make(200, { name: parameters.branch, commit: { sha } })
    }
    case 'GET /compare/{base}...{head}': {
      const ahead = state.ahead(parameters.head ?? '', parameters.base ?? '')
      return ahead === null ? none : make(200, { ahead_by: ahead, total_commits: ahead })
    }
    case 'GET /pulls': {
      const head = query.get('head')
      const wanted = query.get('state') ?? 'open'
      const found = state.pulls.filter(
        one =>
          (wanted === 'all' || (wanted === 'open') === (one.state === 'open')) &&
          (head === null || head === `acme:${one.branch}`) &&
          (query.get('base') === null || query.get('base') === one.base),
      )
      // Newest first unless asked otherwise.
      const ordered = query.get('direction') === 'asc' ? found : [...found].reverse()
      return pages(ordered, (one, example) => filled(example, simple(state, one)))
    }
    case 'POST /pulls': {
      if (String(body.body ?? '').length > longestBody) return invalid('body is too long (maximum is 65536 characters)')
      const draft = {
        title: String(body.title),
        body: String(body.body ?? ''),
        branch: String(body.head),
        base: String(body.base),
      }
      const opened = state.open({ ...draft, draft: body.draft === true })
      if (opened === 'no branch')
        return invalid('Validation Failed', { resource: 'PullRequest', field: 'head', code: 'invalid' })
      if (opened === 'nothing new') return invalid(`No commits between ${draft.base} and ${draft.branch}`)
      if (opened === 'open already') return invalid(`A pull request already exists for acme:${draft.branch}.`)
      return make(201, whole(state, opened))
    }
    case 'GET /pulls/{pull_number}':
      return pull === undefined ? none : make(200, whole(state, pull))
    case 'PATCH /pulls/{pull_number}': {
      if (pull === undefined) return none
      if (String(body.body ?? '').length > longestBody) return invalid('body is too long (maximum is 65536 characters)')
      if (typeof body.title === 'string') pull.title = body.title
      if (typeof body.body === 'string') pull.body = body.body
      if (body.state === 'closed' && pull.state === 'open') {
        pull.head = state.headOf(pull)
        pull.state = 'closed'
      }
      return make(200, whole(state, pull))
    }
    case 'PUT /pulls/{pull_number}/merge': {
      if (pull === undefined) return none
      state.merge(pull, body.merge_method as 'merge')
      return make(200, { sha: pull.merge?.commit, merged: true })
    }
    case 'POST /pulls/{pull_number}/requested_reviewers': {
      if (pull === undefined) return none
      for (const login of body.reviewers as readonly string[]) pull.reviewers.add(login)
      for (const slug of (body.team_reviewers ?? []) as readonly string[]) pull.reviewers.add(`acme/${slug}`)
      return make(201, simple(state, pull))
    }
    case 'POST /issues/{issue_number}/labels': {
      if (pull === undefined) return none
      for (const label of body.labels as readonly string[]) pull.labels.add(label)
      const [example] = api.example(method, template, 200) as readonly unknown[]
      return { status: 200, body: [...pull.labels].map(name => filled(example, { name })) }
    }
    case 'GET /issues/{issue_number}/comments':
      return pages(
        state.comments.filter(one => one.pull === pull?.number),
        (one, example) => filled(example, { id: one.id, body: one.body }),
      )
    case 'POST /issues/{issue_number}/comments': {
      if (pull === undefined) return none
      if (String(body.body).length > longestBody) return invalid('body is too long (maximum is 65536 characters)')
      const comment = { id: 1000 + state.comments.length, pull: pull.number, body: String(body.body) }
      state.comments.push(comment)
      return make(201, { id: comment.id, body: comment.body })
    }
    case 'PATCH /issues/comments/{comment_id}': {
      const comment = state.comments.find(one => one.id === Number(parameters.comment_id))
      if (comment === undefined) return none
      comment.body = String(body.body)
      return make(200, { id: comment.id, body: comment.body })
    }
    case 'GET /commits/{ref}/statuses': {
      const found = state.statuses.filter(one => one.commit === parameters.ref)
      return pages([...found].reverse(), (one, example) => filled(example, { ...one }))
    }
    case 'POST /statuses/{sha}': {
      const commit = parameters.sha ?? ''
      if (!state.commitExists(commit)) return invalid(`No commit found for SHA: ${commit}`)
      const context = String(body.context)
      // Of a context on a commit, and then no more.
      if (state.statuses.filter(one => one.commit === commit && one.context === context).length >= 1000)
        return invalid('This SHA and context has reached the maximum number of statuses.')
      const description = String(body.description ?? '')
      if (description.length > 140) return invalid('description is too long (maximum is 140 characters)')
      const status = { id: state.statuses.length + 1, commit, context, state: String(body.state), description }
      state.statuses.push(status)
      return make(201, { id: status.id, context, state: status.state, description })
    }
    case 'GET /issues': {
      const found: readonly (StoredIssue | StoredPull)[] = [...state.issues, ...state.pulls].filter(
        one => one.state === 'open',
      )
      const ordered = [...found].sort((a, b) => b.number - a.number)
      return pages(ordered, (one, example) => filled(example, listed(one, example as Json)))
    }
    case 'POST /issues': {
      const made: StoredIssue = {
        number: state.nextId(),
        title: String(body.title),
        body: String(body.body ?? ''),
        state: 'open',
      }
      state.issues.push(made)
      return make(201, { ...made })
    }
    case 'PATCH /issues/{issue_number}': {
      if (issue === undefined) return none
      if (typeof body.title === 'string') issue.title = body.title
      if (typeof body.body === 'string') issue.body = body.body
      if (body.state === 'closed') issue.state = 'closed'
      return make(200, { ...issue })
    }
  }
  throw new Error(`${method} ${template} is not played`)
}

function needed(
  method: string,
  at: string,
  number: number,
  state: ForgeState,
): { readonly right: keyof GitHubRights; readonly accepted: string } | null {
  if (method === 'GET') return null
  if (at.startsWith('/statuses')) return { right: 'statuses', accepted: 'statuses=write' }
  const ofPull =
    at.startsWith('/pulls') || at.startsWith('/issues/comments') || state.pulls.some(one => one.number === number)
  if (ofPull) return { right: 'pullRequests', accepted: 'issues=write; pull_requests=write' }
  return { right: 'issues', accepted: 'issues=write' }
}

function invalid(message: string, error?: Json): Answer {
  return {
    status: 422,
    body: {
      message: 'Validation Failed',
      errors: [error ?? { resource: 'PullRequest', code: 'custom', message }],
      documentation_url: 'https://docs.github.com/rest',
    },
  }
}

function simple(state: ForgeState, pull: StoredPull): Json {
  const head = state.headOf(pull)
  return {
    number: pull.number,
    title: pull.title,
    body: pull.body,
    state: pull.state === 'open' ? 'open' : 'closed',
    draft: pull.draft,
    requested_teams: [],
    requested_reviewers: [],
    merged_at: pull.state === 'merged' ? '2026-11-22T10:00:00Z' : null,
    // Of an open one it is a commit that was made to try the merge.
    merge_commit_sha: pull.merge?.commit ?? 'e5bd3914e2e596debea16f433f57875b5b90bcd6',
    head: { ref: pull.branch, sha: head, label: `acme:${pull.branch}`, repo: { full_name: repository } },
    base: { ref: pull.base, label: `acme:${pull.base}`, repo: { full_name: repository } },
    labels: [...pull.labels].map((name, id) => ({
      id,
      node_id: 'x',
      url: 'https://example.com',
      name,
      description: '',
      default: false,
      color: 'ededed',
    })),
  }
}

function whole(state: ForgeState, pull: StoredPull): Json {
  return { ...simple(state, pull), merged: pull.state === 'merged' }
}

function listed(one: StoredIssue | StoredPull, example: Json): Json {
  const { number, title, body } = one
  const common = { number, title, body, state: 'open' }
  return 'branch' in one ? { ...common, pull_request: example.pull_request } : { ...common, pull_request: undefined }
}

/** An example with what is known put in its place. */
function filled(example: unknown, over: Json): Json {
  const result: Json = structuredClone(example ?? {}) as Json
  for (const [key, value] of Object.entries(over)) {
    const was = result[key]
    const nested =
      typeof value === 'object' && value !== null && !Array.isArray(value) && typeof was === 'object' && was !== null
    if (value === undefined) delete result[key]
    else result[key] = nested ? filled(was, value as Json) : value
  }
  return result
}

/** People use the same API, by which their part is held to the description too; what pages show is read from the state. */
export function githubPeople(state: ForgeState, url: string): People {
  const call = async (method: string, path: string, body: Json): Promise<void> => {
    const response = await fetch(`${url}${prefix}/repos/${repository}${path}`, {
      method,
      headers: { authorization: `token ${githubToken}`, 'x-github-api-version': '2022-11-28' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  }
  const pull = (number: number): StoredPull => {
    const found = state.pulls.find(one => one.number === number)
    if (found === undefined) throw new Error(`no request ${number}`)
    return found
  }
  return {
    merge: (number, method) => call('PUT', `/pulls/${number}/merge`, { merge_method: method }),
    comments: async number => state.comments.filter(one => one.pull === number).map(({ body }) => body),
    comment: (number, body) => call('POST', `/issues/${number}/comments`, { body }),
    async look(number) {
      const { labels, reviewers, draft } = pull(number)
      return { labels: [...labels], reviewers: [...reviewers], draft }
    },
    // GitHub's REST API has no call for it.
    markReady: async number => {
      pull(number).draft = false
    },
    openIssues: async () => state.issues.filter(one => one.state === 'open'),
  }
}
