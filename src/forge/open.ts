import { resolve } from 'node:path'
import { ReanchorError } from '../errors.ts'
import { localPathOf } from '../repository/names.ts'
import { openRepository, type Repository } from '../repository/repository.ts'
import type { ForgeChoice } from '../rotation.ts'
import type { Forge } from './forge.ts'
import { type LocalForge, openLocalForge } from './local.ts'
import { openNoForge } from './none.ts'

export interface ForgeOptions {
  readonly now: () => Date
  /** The base branch: what `none` looks for merged content on. */
  readonly base: string
}

/** The forge that a declaration names. Throws ReanchorError for one that this version does not speak to. */
export async function openForge(choice: ForgeChoice, repository: Repository, options: ForgeOptions): Promise<Forge> {
  if (choice.kind === 'local') return openForgeOf(repository, options)
  if (choice.kind === 'none') return openNoForge(repository, { base: options.base })
  throw new ReanchorError({
    what: `forge ${choice.kind} is not supported yet in this version`,
    where: { file: 'rotation.yaml', field: `spec.forge.${choice.kind}` },
    expected: 'local or none',
    found: `${choice.kind} (${choice.repository})`,
    todo: `use forge none: reanchor pushes each branch, and you open its pull request on ${choice.kind} by hand`,
    example: 'forge: none',
  })
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
