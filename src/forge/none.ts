/**
 * No forge: reanchor pushes branches, and people bring them to the base branch as they like.
 *
 * What a pull request would say is read from Git alone. A branch is `merged` once the base branch holds its content:
 * it contains the branch's head, or some commit of it since they parted has every file that the branch changed as the
 * branch has it (squash, rebase, cherry-pick). Title and body are the message of the branch's head. There is no place
 * for comments, statuses, edited texts and closed requests: they are dropped, and the same text is what commands print.
 */
import { createHash } from 'node:crypto'
import { exitCodes, ReanchorError } from '../errors.ts'
import { checkBranch } from '../repository/names.ts'
import type { Repository } from '../repository/repository.ts'
import { type Forge, type PullRequest, usualLongestBody } from './forge.ts'

const ours = 'reanchor/'

/** `base` is the branch that `find` looks for a branch's content on. */
export function openNoForge(repository: Repository, options: { readonly base: string }): Forge {
  async function read(branch: string, base: string): Promise<PullRequest | null> {
    const head = await repository.branch(branch)
    if (head === null) return null
    const mergeCommit = await carriedBy(base, head)
    const [title = '', ...body] = (await repository.commitFacts(head)).message.split('\n')
    return {
      number: numberOf(branch),
      title,
      body: body.join('\n').trim(),
      branch,
      base,
      head,
      state: mergeCommit === null ? 'open' : 'merged',
      mergeCommit,
      url: null,
    }
  }

  async function carriedBy(base: string, head: string): Promise<string | null> {
    const top = await repository.head(base)
    const contained = await repository.containedBy(top, head)
    if (contained !== null) return contained
    const parted = await repository.mergeBase(top, head)
    if (parted === null) return null
    const changed = await repository.changedPaths(parted, head)
    if (changed.size === 0) return null
    const since = await repository.log(top, { since: parted })
    for (const commit of [...since].reverse()) {
      const different = await repository.changedPaths(commit.id, head)
      if (![...changed.keys()].some(path => different.has(path))) return commit.id
    }
    return null
  }

  async function byNumber(number: number): Promise<PullRequest> {
    for (const branch of (await repository.branches(ours)).keys()) {
      if (numberOf(branch) !== number) continue
      const found = await read(branch, options.base)
      if (found !== null) return found
    }
    throw new ReanchorError({
      what: `there is no branch of number ${number}`,
      where: { file: repository.gitDir },
      expected: 'a branch under reanchor/ that is still there',
      found: 'none of this number',
      todo: 'with forge none, name branches; numbers only stand for them',
    })
  }

  return {
    kind: 'none',
    longestBody: usualLongestBody,
    async open(draft) {
      checkBranch(draft.base)
      const found = await read(checkBranch(draft.branch), draft.base)
      if (found === null || (await repository.isAncestor(found.head, await repository.head(draft.base)))) {
        throw new ReanchorError({
          what: 'there is nothing to bring to the base branch',
          where: { file: repository.gitDir, object: `branch ${draft.branch}` },
          expected: `a branch with commits that ${draft.base} lacks`,
          found: found === null ? 'no such branch' : `all its commits are on ${draft.base}`,
          todo: 'push the branch first',
        })
      }
      return { ...found, title: draft.title, body: draft.body }
    },
    find: async branch => read(checkBranch(branch), options.base),
    async listOpen(base) {
      const all = await Promise.all([...(await repository.branches(ours)).keys()].map(branch => read(branch, base)))
      return all.filter(one => one !== null).filter(one => one.state === 'open')
    },
    async update(number, change) {
      return { ...(await byNumber(number)), ...change }
    },
    /** Removes the branch: nothing else would tell that it is not wanted any more. */
    async close(number) {
      const found = await byNumber(number)
      if (found.state === 'merged') return found
      const result = await repository.publish([{ ref: `refs/heads/${found.branch}`, from: found.head, to: null }])
      if (result.ok) return { ...found, state: 'closed' }
      throw new ReanchorError({
        what: 'the branch was moved by somebody else and is left as it is',
        where: { file: repository.gitDir, object: `branch ${found.branch}` },
        expected: found.head,
        found: result.found ?? 'no branch',
        todo: 'look at it, and run the command again',
        exit: exitCodes.waiting,
      })
    },
    comment: async () => undefined,
    setStatus: async () => undefined,
    status: async () => null,
    dashboard: async () => null,
  }
}

/** Stable for a branch: 48 bits of the digest of its name, so that two branches of a repository do not meet. */
function numberOf(branch: string): number {
  return Number.parseInt(createHash('sha256').update(branch).digest('hex').slice(0, 12), 16)
}
