/** A pull request, in neutral words. */
export interface PullRequest {
  readonly number: number
  readonly title: string
  readonly body: string
  readonly branch: string
  readonly base: string
  /** Commit at the branch's head; for a merged one, the head that was merged. */
  readonly head: string
  readonly state: 'open' | 'merged' | 'closed'
  /** The commit on the base branch that carries it; null unless merged. */
  readonly mergeCommit: string | null
  readonly url: string | null
}

export interface PullRequestDraft {
  readonly title: string
  readonly body: string
  readonly branch: string
  readonly base: string
}

export interface CommitStatus {
  readonly context: string
  readonly state: 'pending' | 'success' | 'failure'
  /** At most 140 characters. */
  readonly description: string
}

/** What people still read, for forges that would take any length. */
export const usualLongestBody = 60_000

/** One issue that says where a rotation stands, for those who watch no terminal. */
export interface Dashboard {
  readonly title: string
  readonly body: string
}

export interface DashboardIssue {
  readonly number: number
  readonly url: string | null
}

/**
 * Where pull requests live. Merging stays with people.
 *
 * `find` returns the pull request of that branch that is open, else the newest that is merged, else the newest that was closed, or null where there
 * never was one.
 * `open` returns the one that is open for the branch if there is one: it never opens a second, and none for commits that a merged one has brought
 * (it throws, or returns that one).
 * Everything throws ReanchorError with what to do where the forge says no.
 */
export interface Forge {
  readonly kind: 'github' | 'gitlab' | 'gitea' | 'bitbucket' | 'local' | 'none'
  /** How many characters the text of a pull request may have; what is longer is cut off by the forge that it is given to. */
  readonly longestBody: number
  open(draft: PullRequestDraft): Promise<PullRequest>
  find(branch: string): Promise<PullRequest | null>
  listOpen(base: string): Promise<readonly PullRequest[]>
  update(number: number, change: { readonly title?: string; readonly body?: string }): Promise<PullRequest>
  close(number: number): Promise<PullRequest>
  /** Writes the one comment that carries `marker`, or replaces its text. */
  comment(number: number, marker: string, text: string): Promise<void>
  setStatus(commit: string, status: CommitStatus): Promise<void>
  status(commit: string, context: string): Promise<CommitStatus | null>
  /**
   * Writes the one open issue of a rotation, or opens it; `null` for the board closes it. It returns null where there is none afterwards: the forge has
   * no issues, or it was closed.
   */
  dashboard(rotation: string, board: Dashboard | null): Promise<DashboardIssue | null>
}
