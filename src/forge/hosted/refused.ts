import { exitCodes, ReanchorError } from '../../errors.ts'
import type { HostedForgeChoice } from '../../rotation.ts'
import { type Refusal, untrustedCode } from './http.ts'

/** What of a repository is used; each takes a right of its own. */
export type Use =
  | 'branches'
  | 'read requests'
  | 'write requests'
  | 'comments'
  | 'labels'
  | 'reviewers'
  | 'statuses'
  | 'issues'

export interface Asked {
  readonly kind: HostedForgeChoice['kind']
  readonly repository: string
  readonly server: string
  /** The variable that the token came from. */
  readonly tokenFrom: string
  readonly use: Use
}

const forgeNames = { github: 'GitHub', gitlab: 'GitLab', gitea: 'Gitea or Forgejo', bitbucket: 'Bitbucket' } as const

/** The least that a token needs, in the words of each forge's pages (docs/forges.md has the table). */
const rights: Readonly<Record<HostedForgeChoice['kind'], Readonly<Record<Use, string>>>> = {
  github: {
    branches: 'Contents: read and write',
    'read requests': 'Pull requests: read',
    'write requests': 'Pull requests: read and write',
    comments: 'Pull requests: read and write',
    labels: 'Pull requests: read and write (Issues: read and write too where a label does not exist yet)',
    reviewers: 'Pull requests: read and write',
    statuses: 'Commit statuses: read and write',
    issues: 'Issues: read and write',
  },
  gitlab: {
    branches: 'scope api, role Developer',
    'read requests': 'scope api, role Developer',
    'write requests': 'scope api, role Developer',
    comments: 'scope api, role Developer',
    labels: 'scope api, role Developer',
    reviewers: 'scope api, role Developer',
    statuses: 'scope api, role Developer, and that of who may push where the branch is protected',
    issues: 'scope api, role Reporter',
  },
  gitea: {
    branches: 'write:repository',
    'read requests': 'read:repository',
    'write requests': 'write:repository, of a user who may write to the repository',
    comments: 'write:issue',
    labels: 'write:issue',
    reviewers: 'write:repository',
    statuses: 'write:repository, of a user who may write to the repository',
    issues: 'write:issue',
  },
  bitbucket: {
    branches: 'Repositories: read',
    'read requests': 'Pull requests: read',
    'write requests': 'Pull requests: write',
    comments: 'Pull requests: write',
    labels: 'nothing: Bitbucket has none',
    reviewers: 'Pull requests: write',
    statuses: 'Repositories: write',
    issues: 'nothing: they are not used',
  },
}

const places: Readonly<Record<HostedForgeChoice['kind'], string>> = {
  github:
    'on the page of the token (Settings, Developer settings, Fine-grained tokens: repository permissions), in the permissions of the App, or under `permissions:` of the workflow',
  gitlab: 'make a token with it: Settings, Access tokens of the project',
  gitea: 'make a token with it: Settings, Applications of the user',
  bitbucket: 'make a token with it: Repository settings, Access tokens',
}

/** What a refusal means for the one who runs this, and what to do; 401, 403 and 404 are told apart. */
export function refused(refusal: Refusal, asked: Asked): ReanchorError {
  const { kind, repository, server, tokenFrom, use } = asked
  const { status, said, method, path } = refusal
  const where = { object: `${repository} on ${server}` }
  const name = forgeNames[kind]
  const found = `${status ?? 'no answer'}: ${said}`
  if (refusal.limited) {
    return new ReanchorError({
      what: `${name} takes no more requests for now`,
      where,
      found,
      todo: `run the command again ${refusal.until === null ? 'later' : `after ${refusal.until.toISOString().slice(0, 19)}Z`}; a token of its own has a limit of its own`,
      exit: exitCodes.waiting,
      transient: true,
    })
  }
  if (status === null || status >= 500) {
    const certificate = status === null && untrustedCode.test(said)
    return new ReanchorError({
      what: `${name} does not answer`,
      where,
      expected: 'an answer',
      found: `${found} (${method} ${path})`,
      todo: certificate
        ? 'name the CA of the server in a PEM file: NODE_EXTRA_CA_CERTS=FILE (and for git GIT_SSL_CAINFO=FILE)'
        : 'run the command again later; check spec.forge in rotation.yaml where it never did',
      exit: certificate ? exitCodes.usage : exitCodes.waiting,
      transient: !certificate,
      cause: refusal,
    })
  }
  if (status === 401) {
    return new ReanchorError({
      what: `${name} does not accept the token`,
      where,
      expected: `a token of this server that has not expired, in ${tokenFrom}`,
      found,
      todo: `make a new one, ${places[kind].replace(/^make a token with it: /, '')}`,
    })
  }
  if (status === 403) {
    // GitHub names what would have been enough, such as `pull_requests=write`.
    const accepted = refusal.header('x-accepted-github-permissions')
    return new ReanchorError({
      what: `the token lacks a right: ${use}`,
      where,
      expected: `${rights[kind][use]}${accepted === null ? '' : ` (the server says: ${accepted})`}`,
      found,
      todo: `give the token in ${tokenFrom} this right, ${places[kind]}`,
    })
  }
  if (status === 404) {
    return new ReanchorError({
      what: `${name} shows nothing of this name to the token`,
      where,
      expected: `a repository that exists, and a token that may see it: ${rights[kind][use]}`,
      found: `${found} (${method} ${path})`,
      todo: `check repository and url of spec.forge, and that the token in ${tokenFrom} is for this repository`,
    })
  }
  return new ReanchorError({
    what: `${name} refuses`,
    where,
    expected: `that ${use} can be used`,
    found: `${found} (${method} ${path})`,
    todo: 'see what it says; docs/forges.md tells what each forge needs',
  })
}

/** Something that the forge answered has another form than its API says. */
export function unexpected(asked: Asked, found: string): ReanchorError {
  return new ReanchorError({
    what: `${forgeNames[asked.kind]} answers in a form that is not its API's`,
    where: { object: `${asked.repository} on ${asked.server}` },
    expected: 'the API of a version that is supported (docs/forges.md)',
    found,
    todo: 'check url of spec.forge in rotation.yaml: it is the address of the server, without a path to its API',
  })
}
