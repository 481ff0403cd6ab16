import { ReanchorError } from '../../errors.ts'
import type { HostedForgeChoice } from '../../rotation.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Token {
  /** The variable that it came from: what messages name. */
  readonly from: string
  readonly value: string
}

const names: Readonly<Record<HostedForgeChoice['kind'], readonly string[]>> = {
  github: ['REANCHOR_TOKEN', 'GITHUB_TOKEN', 'GH_TOKEN'],
  gitlab: ['REANCHOR_TOKEN', 'GITLAB_TOKEN'],
  gitea: ['REANCHOR_TOKEN', 'GITEA_TOKEN', 'FORGEJO_TOKEN'],
}

/** The variables that are asked for a kind's token, first one first. */
export function tokenNames(kind: HostedForgeChoice['kind']): readonly string[] {
  return names[kind]
}

/** The token for a forge of this kind; null: none is set. Throws ReanchorError for what can be no token, without quoting it. */
export function tokenFor(kind: HostedForgeChoice['kind'], environment: Environment): Token | null {
  for (const name of names[kind]) {
    const value = environment[name]?.trim()
    if (value !== undefined && value !== '') return { from: name, value: checked(name, value) }
  }
  return null
}

/** A header with a line end in it is refused by fetch with the header in the message. */
function checked(name: string, value: string): string {
  if (/^[\x21-\x7e]+$/.test(value)) return value
  throw new ReanchorError({
    what: 'the token of the forge cannot be used as it is',
    where: { object: `environment variable ${name}` },
    expected: 'one word of printable ASCII characters',
    found: 'white space or other characters in it',
    todo: `set ${name} to the token alone`,
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

/** Which forge is known to be at a host; null: it does not say. */
export function kindOfHost(host: string, environment: Environment): HostedForgeChoice['kind'] | null {
  const { GITHUB_SERVER_URL, CI_SERVER_URL, GITEA_ACTIONS, FORGEJO_ACTIONS, GITEA_URL } = environment
  if (host === 'github.com') return 'github'
  if (host === 'gitlab.com') return 'gitlab'
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
