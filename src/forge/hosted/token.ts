import { ReanchorError } from '../../errors.ts'
import type { HostedForgeChoice } from '../../rotation.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Token {
  /** The variable that it came from: what messages name. */
  readonly from: string
  readonly value: string
  /** Whose it is, where the server wants to be told: the email of an Atlassian account that has an API token. */
  readonly email?: string
}

/** What git logs in with. */
export interface GitLogin {
  readonly username: string
  readonly password: string
}

const names: Readonly<Record<HostedForgeChoice['kind'], readonly string[]>> = {
  github: ['REANCHOR_TOKEN', 'GITHUB_TOKEN', 'GH_TOKEN'],
  gitlab: ['REANCHOR_TOKEN', 'GITLAB_TOKEN'],
  gitea: ['REANCHOR_TOKEN', 'GITEA_TOKEN', 'FORGEJO_TOKEN'],
  bitbucket: ['REANCHOR_TOKEN', 'BITBUCKET_TOKEN'],
}

/** The variables that are asked for a kind's token, first one first. */
export function tokenNames(kind: HostedForgeChoice['kind']): readonly string[] {
  return names[kind]
}

/** The token for a forge of this kind; null: none is set. Throws ReanchorError for what can be no token, without quoting it. */
export function tokenFor(kind: HostedForgeChoice['kind'], environment: Environment): Token | null {
  for (const name of names[kind]) {
    const value = environment[name]?.trim()
    if (value === undefined || value === '') continue
    const email = kind === 'bitbucket' ? environment.BITBUCKET_EMAIL?.trim() : undefined
    return {
      from: name,
      value: checked(name, value),
      ...(email ? { email: checked('BITBUCKET_EMAIL', email) } : {}),
    }
  }
  return null
}

/** A header with a line end in it is refused by fetch with the header in the message. */
function checked(name: string, value: string): string {
  if (/^[\x21-\x7e]+$/.test(value)) return value
  throw new ReanchorError({
    what: name.endsWith('TOKEN') ? 'the token of the forge cannot be used as it is' : 'this can be no account',
    where: { object: `environment variable ${name}` },
    expected: 'one word of printable ASCII characters',
    found: 'white space or other characters in it',
    todo: name.endsWith('TOKEN') ? `set ${name} to the token alone` : `set ${name} to the email address alone`,
  })
}

/**
 * The token that git may push and fetch with, for a remote of this URL; null where none is meant for its host. REANCHOR_TOKEN is for the remote of the
 * clone, whichever that is; a token that goes by a forge's name is given to that forge alone: the public one, or the server whose CI runs this.
 */
export function tokenForRemote(url: string, environment: Environment): Token | null {
  if (!/^https:\/\//i.test(url) || !URL.canParse(url)) return null
  const { host, username, password } = new URL(url)
  // Who writes credentials into the URL of a remote means those.
  if (username !== '' && password !== '') return null
  // So does who has given git a file of credentials (docs/runner.md).
  if (environment.REANCHOR_GIT_CREDENTIALS !== undefined) return null
  const own = environment.REANCHOR_TOKEN?.trim()
  if (own !== undefined && own !== '') return { from: 'REANCHOR_TOKEN', value: checked('REANCHOR_TOKEN', own) }
  const kind = kindOfHost(host, environment)
  return kind === null ? null : tokenFor(kind, environment)
}

/** The token for a remote of this URL as git sends it: Bitbucket tells kinds of tokens by the user name, to the others any will do. */
export function gitLoginFor(url: string, environment: Environment): GitLogin | null {
  const token = tokenForRemote(url, environment)
  if (token === null) return null
  if (kindOfHost(new URL(url).host, environment) !== 'bitbucket')
    return { username: 'x-access-token', password: token.value }
  // Atlassian's pages on API tokens and on access tokens of a repository.
  const ofPerson = (environment.BITBUCKET_EMAIL?.trim() ?? '') !== ''
  return { username: ofPerson ? 'x-bitbucket-api-token-auth' : 'x-token-auth', password: token.value }
}

/** Which forge is known to be at a host; null: it does not say. */
export function kindOfHost(host: string, environment: Environment): HostedForgeChoice['kind'] | null {
  const { GITHUB_SERVER_URL, CI_SERVER_URL, GITEA_ACTIONS, FORGEJO_ACTIONS, GITEA_URL } = environment
  if (host === 'github.com') return 'github'
  if (host === 'gitlab.com') return 'gitlab'
  if (host === 'bitbucket.org') return 'bitbucket'
  if (host === 'gitea.com' || host === 'codeberg.org') return 'gitea'
  if (host === hostOf(GITEA_URL)) return 'gitea'
  // Runners of Gitea and Forgejo set GitHub's variables too.
  if (host === hostOf(GITHUB_SERVER_URL))
    return GITEA_ACTIONS === 'true' || FORGEJO_ACTIONS === 'true' ? 'gitea' : 'github'
  if (host === hostOf(CI_SERVER_URL)) return 'gitlab'
  return null
}

function hostOf(url: string | undefined): string | null {
  return url !== undefined && URL.canParse(url) ? new URL(url).host : null
}
