/**
 * Bitbucket Cloud's REST API 2.0 as far as reanchor and the people of these tests use it: every request and every answer is held to Bitbucket's published
 * OpenAPI description. What the description does not say, such as hashes of twelve digits and reviewers that are gone when they are not named, is from its
 * pages and from what other clients met (renovate, danger-js).
 */
import type { People } from '../../forge/contract.ts'
import { userGit } from '../../repository/temporary.ts'
import { type Described, type DescribedRequest, heldTo, isGateways } from './openapi.ts'
import { type Answer, serve, type TestServer } from './server.ts'
import { type ForgeState, lookedAt, type StoredComment, type StoredPull, type StoredStatus } from './state.ts'

export const bitbucketToken = 'ATCTT-of-the-tests'
const workspace = 'acme'
const slug = 'fleet'
export const bitbucketRepository = `${workspace}/${slug}`
export const bitbucketReviewer = '{504c3b62-8120-4f0c-a7bc-87800b9d6f70}'
/** Characters; Bitbucket publishes none, this is what Data Center takes. */
const longestText = 32_768

type Json = Record<string, unknown>

export interface BitbucketAccess {
  readonly scopes: readonly string[]
  /** What the server takes for a good Authorization. */
  readonly authorization: string
}

const everything: BitbucketAccess = {
  scopes: ['repository:write', 'pullrequest:write'],
  authorization: `Bearer ${bitbucketToken}`,
}

export async function bitbucketServer(
  state: ForgeState,
  api: Described,
  access: BitbucketAccess = everything,
): Promise<TestServer> {
  return await serve((asked, url) => {
    const path = asked.path.startsWith('/2.0') ? asked.path.slice('/2.0'.length) : null
    return heldTo(api, path, asked, request => respond(state, access, { ...request, url }), isGateways)
  })
}

interface Request extends DescribedRequest {
  readonly url: string
}

function refusal(status: number, message: string, more: Json = {}): Answer {
  return { status, body: { type: 'error', error: { message, ...more } } }
}

function respond(state: ForgeState, access: BitbucketAccess, asked: Request): Answer {
  const { method, template, parameters, query, url } = asked
  const body = (asked.body ?? {}) as Json
  if (asked.headers.authorization !== access.authorization)
    return refusal(401, 'Token is invalid, expired, or not supported for this endpoint.')
  const none = refusal(404, 'Resource not found')
  if (`${parameters.workspace}/${parameters.repo_slug}` !== bitbucketRepository)
    return refusal(404, `You may not have access to this repository or it no longer exists in this workspace.`)
  const at = template.replace('/repositories/{workspace}/{repo_slug}', '')
  const required = needed(method, at)
  if (!access.scopes.some(scope => scope === required || scope === `${required}:write`))
    return refusal(403, 'Your credentials lack one or more required privilege scopes.', {
      detail: { granted: access.scopes, required: [required] },
    })
  const pull = state.pulls.find(one => one.number === Number(parameters.pull_request_id))
  const pages = <T>(all: readonly T[], one: (item: T) => unknown, most = 100): Answer => {
    const pagelen = Number(query.get('pagelen') ?? 10)
    if (pagelen > most) return refusal(400, 'Invalid pagelen')
    const page = Number(query.get('page') ?? 1)
    const next = new URL(`${url}${asked.path}?${query}`)
    next.searchParams.set('page', String(page + 1))
    const values = all.slice((page - 1) * pagelen, page * pagelen).map(one)
    const more = all.length > page * pagelen ? { next: String(next) } : {}
    return { status: 200, body: { pagelen, page, size: all.length, values, ...more } }
  }
  const filter = /^([\w.]+)="(.*)"$/.exec(query.get('q') ?? '')
  const matches = (fields: Readonly<Record<string, string>>): boolean =>
    filter === null || fields[filter[1] ?? ''] === (filter[2] ?? '').replaceAll(/\\(.)/g, '$1')
  switch (`${method} ${at}`) {
    case 'GET ':
      return { status: 200, body: repository() }
    case 'GET /refs/branches': {
      const names = userGit(state.bare, 'for-each-ref', '--format=%(refname:lstrip=2)', 'refs/heads').split('\n')
      const found = names.filter(name => name !== '' && matches({ name }))
      return pages(found, name => ({
        type: 'branch',
        name,
        target: { type: 'commit', hash: state.branchHead(name) ?? '' },
      }))
    }
    case 'GET /commit/{commit}': {
      const hash = resolved(state, parameters.commit ?? '')
      return hash === null ? none : { status: 200, body: { type: 'commit', hash } }
    }
    case 'GET /commits': {
      const [include, exclude] = [query.get('include') ?? 'HEAD', query.get('exclude') ?? '']
      if (resolved(state, include) === null || resolved(state, exclude) === null) return none
      const hashes = userGit(state.bare, 'rev-list', include, `^${exclude}`).split('\n')
      return pages(
        hashes.filter(hash => hash !== ''),
        hash => ({ type: 'commit', hash }),
      )
    }
    case 'GET /pullrequests': {
      const wanted = query.getAll('state').length === 0 ? ['OPEN'] : query.getAll('state')
      const found = state.pulls.filter(
        one =>
          wanted.includes(stateNames[one.state]) &&
          matches({ 'source.branch.name': one.branch, 'destination.branch.name': one.base }),
      )
      const ordered = query.get('sort') === '-id' ? [...found].reverse() : found
      return pages(ordered, one => pullRequest(state, one, url), 50)
    }
    case 'POST /pullrequests': {
      const description = String(body.description ?? '')
      if (description.length > longestText) return refusal(400, 'description: too long')
      const opened = state.open({
        title: String(body.title),
        body: description,
        branch: nameOf(body.source),
        base: nameOf(body.destination),
        draft: body.draft === true,
      })
      if (opened === 'no branch') return refusal(400, 'source.branch: branch not found')
      if (opened === 'nothing new') return refusal(400, 'There are no changes to be pulled')
      if (opened === 'open already') {
        // It takes the one that is open for the one that is meant.
        const open = state.pulls.find(
          one => one.state === 'open' && one.branch === nameOf(body.source) && one.base === nameOf(body.destination),
        )
        if (open === undefined) return none
        Object.assign(open, { title: String(body.title), body: description })
        return { status: 201, body: pullRequest(state, open, url) }
      }
      return { status: 201, body: pullRequest(state, opened, url) }
    }
    case 'GET /pullrequests/{pull_request_id}':
      return pull === undefined ? none : { status: 200, body: pullRequest(state, pull, url) }
    case 'PUT /pullrequests/{pull_request_id}': {
      if (pull === undefined) return none
      if (pull.state !== 'open') return refusal(400, 'Only open pull requests can be mutated')
      if (typeof body.title !== 'string') return refusal(400, 'title: required key not provided')
      const description = String(body.description ?? '')
      if (description.length > longestText) return refusal(400, 'description: too long')
      Object.assign(pull, { title: body.title, body: description })
      if (typeof body.draft === 'boolean') pull.draft = body.draft
      pull.reviewers.clear()
      for (const { uuid } of (body.reviewers ?? []) as readonly { readonly uuid: string }[]) {
        if (uuid !== bitbucketReviewer) return refusal(400, 'reviewers: Malformed reviewers list')
        pull.reviewers.add(uuid)
      }
      return { status: 200, body: pullRequest(state, pull, url) }
    }
    case 'POST /pullrequests/{pull_request_id}/decline': {
      if (pull === undefined) return none
      if (pull.state !== 'open') return refusal(555, 'This pull request is not open')
      pull.head = state.headOf(pull)
      pull.state = 'closed'
      return { status: 200, body: pullRequest(state, pull, url) }
    }
    case 'POST /pullrequests/{pull_request_id}/merge': {
      if (pull === undefined) return none
      state.merge(pull, body.merge_strategy === 'squash' ? 'squash' : 'merge')
      return { status: 200, body: pullRequest(state, pull, url) }
    }
    case 'GET /pullrequests/{pull_request_id}/comments':
      return pages(
        state.comments.filter(one => one.pull === pull?.number),
        comment,
      )
    case 'POST /pullrequests/{pull_request_id}/comments': {
      if (pull === undefined) return none
      const raw = rawOf(body)
      if (raw.length > longestText) return refusal(400, 'content.raw: too long')
      const made = { id: state.nextId(), pull: pull.number, body: raw }
      state.comments.push(made)
      return { status: 201, body: comment(made) }
    }
    case 'PUT /pullrequests/{pull_request_id}/comments/{comment_id}': {
      const found = state.comments.find(one => one.id === Number(parameters.comment_id))
      if (found === undefined) return none
      found.body = rawOf(body)
      return { status: 200, body: comment(found) }
    }
    case 'GET /commit/{commit}/statuses':
      return pages(
        state.statuses.filter(one => one.commit === parameters.commit && matches({ key: one.context })),
        commitStatus,
      )
    case 'POST /commit/{commit}/statuses/build': {
      const hash = resolved(state, parameters.commit ?? '')
      if (hash === null) return none
      const { key, state: to, url: page } = body
      if (typeof key !== 'string' || typeof page !== 'string')
        return refusal(400, 'key, url: required key not provided')
      if (key.length > 40) return refusal(400, 'key: too long')
      const description = String(body.description ?? '')
      const known = state.statuses.find(one => one.commit === hash && one.context === key)
      if (known !== undefined) Object.assign(known, { state: to, description })
      const made: StoredStatus = known ?? {
        id: state.nextId(),
        commit: hash,
        context: key,
        state: String(to),
        description,
      }
      if (known === undefined) state.statuses.push(made)
      return { status: 201, body: commitStatus(made) }
    }
    default:
      throw new Error(`${method} ${at} is not played here`)
  }
}

/** Scopes as the description's `security` has them, but those that write: it names the ones for reading at some of them. */
function needed(method: string, at: string): string {
  if (at.startsWith('/pullrequests')) return method === 'GET' ? 'pullrequest' : 'pullrequest:write'
  return method === 'GET' ? 'repository' : 'repository:write'
}

const stateNames = { open: 'OPEN', merged: 'MERGED', closed: 'DECLINED' } as const

function resolved(state: ForgeState, revision: string): string | null {
  try {
    return userGit(state.bare, 'rev-parse', '--verify', '--quiet', `${revision}^{commit}`)
  } catch {
    return null
  }
}

function nameOf(value: unknown): string {
  return String((value as { readonly branch?: { readonly name?: string } } | undefined)?.branch?.name)
}

function rawOf(body: Json): string {
  return String((body.content as { readonly raw?: string } | undefined)?.raw)
}

function repository(): Json {
  return { type: 'repository', full_name: bitbucketRepository, name: slug, scm: 'git' }
}

function pullRequest(state: ForgeState, pull: StoredPull, url: string): Json {
  const { number: id, title, body: raw, draft, merge } = pull
  return {
    type: 'pullrequest',
    id,
    title,
    summary: { raw, markup: 'markdown', html: '' },
    state: stateNames[pull.state],
    draft,
    close_source_branch: false,
    reviewers: [...pull.reviewers].map(uuid => ({ type: 'user', uuid })),
    source: {
      branch: { name: pull.branch },
      commit: { hash: state.headOf(pull).slice(0, 12) },
      repository: repository(),
    },
    destination: { branch: { name: pull.base }, commit: { hash: '0123456789ab' }, repository: repository() },
    ...(merge === null ? {} : { merge_commit: { hash: merge.commit.slice(0, 12) } }),
    links: { html: { href: `${url}/${bitbucketRepository}/pull-requests/${id}` } },
  }
}

function comment({ id, body: raw }: StoredComment): Json {
  return { type: 'pullrequest_comment', id, deleted: false, content: { raw, markup: 'markdown', html: '' } }
}

function commitStatus({ context: key, state, description }: StoredStatus): Json {
  return { type: 'build', key, name: key, state, description, url: 'https://bitbucket.org' }
}

export function bitbucketPeople(state: ForgeState, url: string): People {
  const call = async (method: string, path: string, body: Json): Promise<void> => {
    const response = await fetch(`${url}/2.0/repositories/${bitbucketRepository}${path}`, {
      method,
      headers: { authorization: `Bearer ${bitbucketToken}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  }
  return {
    merge: (number, method) =>
      call('POST', `/pullrequests/${number}/merge`, {
        type: 'pullrequest_merge_parameters',
        merge_strategy: method === 'squash' ? 'squash' : 'merge_commit',
      }),
    // A link definition that nothing refers to is not shown.
    comments: async number =>
      state.comments
        .filter(one => one.pull === number)
        .map(({ body }) => body.replaceAll(/^\[\/\/\]: # \(.*\)$/gm, '').trimEnd()),
    comment: (number, raw) =>
      call('POST', `/pullrequests/${number}/comments`, { type: 'pullrequest_comment', content: { raw } }),
    look: async number => lookedAt(state, number),
    async markReady(number) {
      const found = state.pulls.find(one => one.number === number)
      await call('PUT', `/pullrequests/${number}`, {
        type: 'pullrequest',
        title: found?.title ?? '',
        description: found?.body ?? '',
        reviewers: [...(found?.reviewers ?? [])].map(uuid => ({ type: 'account', uuid })),
        draft: false,
      })
    },
    openIssues: async () => [],
  }
}
