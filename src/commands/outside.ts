import { isAbsolute, relative, resolve } from 'node:path'
import { ReanchorError } from '../errors.ts'
import type { Repository } from '../repository/repository.ts'

/** `what` never reaches Git, not even sealed. */
export function refuseInside(path: string, repository: Repository, what: string, option: string): void {
  for (const folder of [repository.workTree, repository.gitDir]) {
    if (folder === null || !isInside(resolve(path), folder)) continue
    throw new ReanchorError({
      what: `${what} may not lie inside the repository`,
      where: { file: path },
      expected: `a place outside of ${folder}: ${what} never ${what === 'the root key' ? 'reaches' : 'reach'} Git, not even sealed`,
      todo: `name another place with ${option}`,
    })
  }
}

function isInside(path: string, folder: string): boolean {
  const way = relative(folder, path)
  return way === '' || !(way.startsWith('..') || isAbsolute(way))
}
