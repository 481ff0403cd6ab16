/**
 * What a hosted forge knows and does, over a real bare repository: the rules that GitHub and GitLab have in common. How they say it is each server's own.
 */
import { join } from 'node:path'
import type { MergeMethod } from '../../../src/forge/local.ts'
import { temporaryFolder, userGit } from '../../repository/temporary.ts'

export interface StoredPull {
  readonly number: number
  title: string
  body: string
  readonly branch: string
  readonly base: string
  state: 'open' | 'closed' | 'merged'
  draft: boolean
  /** Kept once it is not open any more. */
  head: string
  merge: { readonly commit: string; readonly method: MergeMethod; readonly squashed: string | null } | null
  readonly labels: Set<string>
  readonly reviewers: Set<string>
}

export interface StoredIssue {
  readonly number: number
  title: string
  body: string
  state: 'open' | 'closed'
}

export interface StoredStatus {
  readonly id: number
  readonly commit: string
  readonly context: string
  state: string
  description: string
}

export interface StoredComment {
  readonly id: number
  readonly pull: number
  body: string
}

export type Refused = 'no branch' | 'nothing new' | 'open already'

export interface ForgeState {
  readonly bare: string
  readonly pulls: StoredPull[]
  readonly issues: StoredIssue[]
  readonly comments: StoredComment[]
  readonly statuses: StoredStatus[]
  /** Numbers of requests and issues; GitHub counts them together. */
  nextId(): number
  /** As it is now: an open one's head is its branch's. */
  headOf(pull: StoredPull): string
  branchHead(branch: string): string | null
  /** Null: there is no such branch. */
  ahead(branch: string, base: string): number | null
  commitExists(commit: string): boolean
  open(draft: {
    readonly title: string
    readonly body: string
    readonly branch: string
    readonly base: string
    readonly draft: boolean
  }): StoredPull | Refused
  merge(pull: StoredPull, method: MergeMethod): void
}

export function forgeState(bare: string): ForgeState {
  let last = 0
  const pulls: StoredPull[] = []
  const git = (...args: string[]): string => userGit(bare, ...args)

  function branchHead(branch: string): string | null {
    return git('for-each-ref', '--format=%(objectname)', `refs/heads/${branch}`) || null
  }

  function headOf(pull: StoredPull): string {
    return pull.state === 'open' ? (branchHead(pull.branch) ?? pull.head) : pull.head
  }

  function commitExists(commit: string): boolean {
    try {
      return git('cat-file', '-t', commit) === 'commit'
    } catch {
      return false
    }
  }

  function ahead(branch: string, base: string): number | null {
    const head = branchHead(branch)
    return head === null ? null : Number(git('rev-list', '--count', `refs/heads/${base}..${head}`))
  }

  return {
    bare,
    ahead,
    pulls,
    issues: [],
    comments: [],
    statuses: [],
    nextId: () => {
      last += 1
      return last
    },
    headOf,
    branchHead,
    commitExists,
    open({ title, body, branch, base, draft }) {
      const head = branchHead(branch)
      if (head === null) return 'no branch'
      if (pulls.some(one => one.state === 'open' && one.branch === branch && one.base === base)) return 'open already'
      if (ahead(branch, base) === 0) return 'nothing new'
      last += 1
      const pull: StoredPull = {
        ...{ number: last, title, body, branch, base, head, draft, state: 'open', merge: null },
        labels: new Set(),
        reviewers: new Set(),
      }
      pulls.push(pull)
      return pull
    },
    merge(pull, method) {
      const head = headOf(pull)
      const clone = join(temporaryFolder(), 'merging')
      userGit(bare, 'clone', '-q', bare, clone)
      const inside = (...args: string[]): string => userGit(clone, ...args)
      inside('checkout', '-q', '-B', 'onto', `origin/${pull.base}`)
      if (method === 'merge') inside('merge', '-q', '--no-ff', '-m', `Merge ${pull.title}`, head)
      else if (method === 'squash') {
        inside('merge', '-q', '--squash', head)
        inside('commit', '-q', '-m', `${pull.title} (#${pull.number})`)
      } else inside('cherry-pick', `origin/${pull.base}..${head}`)
      inside('push', '-q', 'origin', `HEAD:${pull.base}`)
      const commit = inside('rev-parse', 'HEAD')
      pull.head = head
      pull.merge = { commit, method, squashed: method === 'squash' ? commit : null }
      pull.state = 'merged'
    },
  }
}

/** What a person sees on a request's page; of one that is not there, nothing. */
export function lookedAt({ pulls }: ForgeState, number: number) {
  const found = pulls.find(one => one.number === number)
  return {
    labels: [...(found?.labels ?? [])],
    reviewers: [...(found?.reviewers ?? [])],
    draft: found?.draft ?? false,
  }
}
