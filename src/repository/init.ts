import { mkdir } from 'node:fs/promises'
import { ReanchorError } from '../errors.ts'
import { remoteGit } from './git.ts'

/** Makes a bare repository with the given first branch. Throws ReanchorError where git cannot. */
export async function initBare(dir: string, branch: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  const answer = await remoteGit(dir, 'init', ['--bare', `--initial-branch=${branch}`, '.'])
  if (answer.ok) return
  throw new ReanchorError({
    what: 'git cannot make a repository here',
    where: { file: dir },
    found: answer.output,
    todo: 'name another folder',
  })
}
