import { resolve } from 'node:path'
import { ReanchorError } from '../errors.ts'
import { localPathOf } from '../repository/names.ts'
import { openRepository, type Repository } from '../repository/repository.ts'
import type { ForgeChoice, HostedForgeChoice } from '../rotation.ts'
import type { Forge } from './forge.ts'
import { type Environment, tokenFor, tokenNames } from './hosted/token.ts'
import { type LocalForge, openLocalForge } from './local.ts'
import { openNoForge } from './none.ts'

export interface ForgeOptions {
  readonly now: () => Date
  /** The base branch: what `none` looks for merged content on. */
  readonly base: string
  /** Where tokens are; none where it is absent. */
  readonly environment?: Environment
  /** Milliseconds. @default the real one */
  readonly sleep?: (milliseconds: number) => Promise<void>
}

/** The forge that a declaration names. Throws ReanchorError where it cannot be used as declared. */
export async function openForge(choice: ForgeChoice, repository: Repository, options: ForgeOptions): Promise<Forge> {
  if (choice.kind === 'local') return openForgeOf(repository, options)
  if (choice.kind === 'none') return openNoForge(repository, { base: options.base })
  return await openHostedForge(choice, options)
}

/** Clients load when they are used. */
async function openHostedForge(choice: HostedForgeChoice, options: ForgeOptions): Promise<Forge> {
  const field = `spec.forge.${choice.kind}`
  if (choice.url !== null && !/^https:\/\/[^/?#]/.test(choice.url)) {
    throw new ReanchorError({
      what: 'a forge is only spoken to over https: its token would be readable on the way',
      where: { file: 'rotation.yaml', field: `${field}.url` },
      expected: 'https://…',
      found: choice.url,
      example: 'url: https://git.acme.example',
    })
  }
  const token = tokenFor(choice.kind, options.environment ?? {})
  if (token === null) {
    throw new ReanchorError({
      what: `there is no token for ${choice.kind}`,
      where: { file: 'rotation.yaml', field },
      expected: `one of the environment variables ${tokenNames(choice.kind).join(', ')}`,
      found: 'none of them is set',
      todo: 'set one; docs/forges.md says which rights it needs',
      example: 'REANCHOR_TOKEN=… reanchor next',
    })
  }
  const { patientFetch } = await import('./hosted/http.ts')
  const { now, base } = options
  const sleep = options.sleep ?? (milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds)))
  const hosted = { token, base, fetch: patientFetch({ fetch, now, sleep }) }
  switch (choice.kind) {
    case 'github':
      return (await import('./github.ts')).openGitHubForge(choice, hosted)
    case 'gitlab':
      return (await import('./gitlab.ts')).openGitLabForge(choice, hosted)
    case 'gitea':
      return (await import('./gitea.ts')).openGiteaForge(choice, hosted)
    case 'bitbucket':
      return (await import('./bitbucket.ts')).openBitbucketForge(choice, hosted)
  }
}

/** The local forge of a repository: inside it where it is bare, else inside the bare repository that its remote is. */
export async function openForgeOf(repository: Repository, options: { readonly now: () => Date }): Promise<LocalForge> {
  if (repository.remote === null) return openLocalForge(repository, options)
  const url = await repository.remoteUrl(repository.remote)
  const path = localPathOf(url)
  if (path === null) {
    throw new ReanchorError({
      what: 'the local forge needs a remote on this machine',
      where: { file: repository.gitDir, object: `remote ${repository.remote}` },
      expected: 'the path of a bare repository',
      found: url.replace(/\/\/[^/@]*@/, '//***@'),
      todo: 'use forge none (reanchor pushes branches), or a bare repository on this machine as the remote',
      example: 'forge: none',
    })
  }
  return openLocalForge(
    await openRepository(resolve(repository.workTree ?? repository.gitDir, path), { onWrite: repository.onWrite }),
    options,
  )
}
