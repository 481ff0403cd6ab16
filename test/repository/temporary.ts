/** Real repositories in temporary folders that go away with the test. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { openRepository, type Repository, type RepositoryOptions } from '../../src/repository/repository.ts'

export const author = { name: 'reanchor', email: 'reanchor@example.com' }
export const at = new Date('2026-11-22T10:00:00Z')

export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'reanchor-git-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}

/** Runs git as a user would, with an identity and without the machine's configuration. */
export function userGit(cwd: string, ...args: string[]): string {
  return execFileSync('git', args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'Ada',
      GIT_AUTHOR_EMAIL: 'ada@example.com',
      GIT_COMMITTER_NAME: 'Ada',
      GIT_COMMITTER_EMAIL: 'ada@example.com',
      GIT_AUTHOR_DATE: '2026-11-20T10:00:00Z',
      GIT_COMMITTER_DATE: '2026-11-20T10:00:00Z',
    },
  }).trimEnd()
}

function quiet(dir: string): void {
  userGit(dir, 'config', 'gc.auto', '0')
  userGit(dir, 'config', 'maintenance.auto', 'false')
  userGit(dir, 'config', 'core.autocrlf', 'false')
  userGit(dir, 'config', 'core.eol', 'lf')
}

/** A bare repository with one commit on main. */
export async function bareRepository(
  files: Readonly<Record<string, string>> = { 'README.md': 'fleet\n' },
): Promise<string> {
  const dir = join(temporaryFolder(), 'fleet.git')
  userGit(join(dir, '..'), 'init', '-q', '--bare', '-b', 'main', dir)
  quiet(dir)
  const repository = await opened(dir)
  const commit = await repository.commit({
    parent: null,
    changes: new Map(Object.entries(files)),
    message: 'start',
    trailers: {},
    author,
    at,
  })
  userGit(dir, 'update-ref', 'refs/heads/main', commit)
  return dir
}

export function cloneOf(bare: string): string {
  const dir = join(temporaryFolder(), 'clone')
  userGit(join(dir, '..'), 'clone', '-q', bare, dir)
  quiet(dir)
  return dir
}

export async function opened(dir: string, options: RepositoryOptions = {}): Promise<Repository> {
  const repository = await openRepository(dir, options)
  onTestFinished(() => repository.close())
  return repository
}

export async function commitOn(
  repository: Repository,
  parent: string | null,
  files: Readonly<Record<string, string | null>>,
  message = 'change',
): Promise<string> {
  return repository.commit({ parent, changes: new Map(Object.entries(files)), message, trailers: {}, author, at })
}

/** A branch with one commit on top of `parent`, in one go. */
export async function branchWith(
  repository: Repository,
  branch: string,
  parent: string,
  files: Readonly<Record<string, string | null>>,
  message = 'change',
): Promise<string> {
  const commit = await commitOn(repository, parent, files, message)
  const from = await repository.branch(branch)
  const result = await repository.publish([{ ref: `refs/heads/${branch}`, from, to: commit }])
  if (!result.ok) throw new Error(`the branch ${branch} was moved by somebody else`)
  return commit
}
