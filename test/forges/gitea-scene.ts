import { randomBytes } from 'node:crypto'
import { inject, onTestFinished } from 'vitest'
import { openForge } from '../../src/forge/open.ts'
import type { HostedForgeChoice } from '../../src/rotation.ts'
import type { Scene, Settings } from '../forge/contract.ts'
import { output } from '../real/rig/components.ts'
import { bareRepository, cloneOf, opened, userGit } from '../repository/temporary.ts'
import { type GiteaApi, giteaApi, giteaPeople } from './gitea-people.ts'

export const giteaReviewer = 'grace'

/** An organisation's repository on the Gitea of this run; `bot` is the user whose token reanchor has. */
export interface GiteaRepository {
  readonly repository: string
  readonly url: string
  /** https://…/owner/name.git */
  readonly remote: string
  readonly botToken: string
  /** Of the administrator. */
  readonly adminToken: string
  /** As the administrator. */
  readonly api: GiteaApi
  choice(settings: Settings): HostedForgeChoice
}

const botScopes = ['write:repository', 'write:issue']

/** Of the scopes that docs/forges.md names, and no more. */
export async function makeGiteaRepository(
  scopes: readonly string[] = botScopes,
  gitea: { readonly url: string; readonly adminToken: string } = inject('gitea'),
): Promise<GiteaRepository> {
  const { url, adminToken } = gitea
  const api = giteaApi(url, adminToken)
  const name = `fleet-${randomBytes(4).toString('hex')}`
  await ensureUser(api, 'bot')
  await ensureUser(api, giteaReviewer)
  await ensureOrganisation(api, 'acme')
  await api('POST', '/orgs/acme/repos', { name, private: true, auto_init: false, default_branch: 'main' })
  const repository = `acme/${name}`
  for (const [user, permission] of [
    ['bot', 'write'],
    [giteaReviewer, 'write'],
  ] as const)
    await api('PUT', `/repos/${repository}/collaborators/${user}`, { permission })
  const botToken = await tokenOf(url, 'bot', scopes)
  return {
    repository,
    url,
    remote: `${url}/${repository}.git`,
    botToken,
    adminToken,
    api,
    choice: settings => ({ kind: 'gitea', repository, url, ...settings }),
  }
}

const password = 'a-password-of-the-tests'

async function ensureUser(api: GiteaApi, username: string): Promise<void> {
  const email = `${username}@example.com`
  await api('POST', '/admin/users', { username, email, password, must_change_password: false }).catch(ignoreTaken)
}

async function ensureOrganisation(api: GiteaApi, username: string): Promise<void> {
  await api('POST', '/orgs', { username, visibility: 'private' }).catch(ignoreTaken)
}

/** Another file's worker may have made it. */
function ignoreTaken(error: unknown): void {
  if (!(error instanceof Error) || !/: 422 /.test(error.message)) throw error
}

async function tokenOf(url: string, user: string, scopes: readonly string[]): Promise<string> {
  const response = await fetch(`${url}/api/v1/users/${user}/tokens`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ name: randomBytes(6).toString('hex'), scopes }),
  })
  return ((await response.json()) as { readonly sha1: string }).sha1
}

/** Somebody who may read this repository, and nothing else: what delivers it is given such a name. */
export async function makeReader({
  api,
  url,
  repository,
}: GiteaRepository): Promise<{ readonly username: string; readonly token: string }> {
  const username = 'deliverer'
  await ensureUser(api, username)
  await api('PUT', `/repos/${repository}/collaborators/${username}`, { permission: 'read' })
  return { username, token: await tokenOf(url, username, ['read:repository']) }
}

/** Pushes what a local bare repository has on main, as its first content. */
export async function pushFirst(made: GiteaRepository, bare: string): Promise<void> {
  const remote = made.remote.replace('https://', `https://root-admin:${made.adminToken}@`)
  // Not by a call that blocks: what stands between may live in this process.
  const trusted = `http.sslCAInfo=${inject('certificate').cert}`
  await output('git', ['-c', trusted, 'push', '-q', remote, 'main:main'], {
    cwd: bare,
    env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null' },
  })
  // The repository counts as empty until Gitea has taken the push in.
  for (;;) {
    const { empty } = await made.api<{ readonly empty: boolean }>('GET', `/repos/${made.repository}`)
    if (!empty) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** main as `init` says: nobody but an administrator pushes, and nothing is merged that `reanchor/gate` has not called green. */
export async function protectMain({ api, repository }: GiteaRepository): Promise<void> {
  await api('POST', `/repos/${repository}/branch_protections`, {
    rule_name: 'main',
    enable_status_check: true,
    status_check_contexts: ['reanchor/gate'],
    block_admin_merge_override: true,
    enable_push: true,
    enable_push_whitelist: true,
    push_whitelist_usernames: ['root-admin'],
  })
}

export async function giteaScene(files: Readonly<Record<string, string>>, settings: Settings): Promise<Scene> {
  const made = await makeGiteaRepository()
  const bare = await bareRepository(files)
  await pushFirst(made, bare)
  const clone = cloneOf(bare)
  userGit(clone, 'remote', 'set-url', 'origin', made.remote)
  const repository = await opened(clone, {
    remote: 'origin',
    loginFor: () => ({ username: 'x-access-token', password: made.botToken }),
  })
  await repository.fetch()
  const forge = await openForge(made.choice(settings), repository, {
    now: () => new Date(),
    base: 'main',
    environment: { GITEA_TOKEN: made.botToken },
  })
  onTestFinished(async () => void (await made.api('DELETE', `/repos/${made.repository}`)))
  return { repository, forge, people: giteaPeople(made.api, made.repository) }
}
