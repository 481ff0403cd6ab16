import type { HostedForgeChoice } from '../../rotation.ts'
import type { CommitStatus, DashboardIssue, PullRequest, PullRequestDraft } from '../forge.ts'

/** What reanchor wrote somewhere: found again by the marker in it. */
export interface Note {
  readonly id: number
  readonly body: string
}

export interface NotedIssue extends DashboardIssue {
  readonly title: string
  readonly body: string
}

/**
 * The API of one kind of forge, call by call. Every call throws Refusal where the server says no (or an error that has one as its cause); none decides
 * anything. Lists are all there is, page after page.
 */
export interface Driver {
  readonly kind: HostedForgeChoice['kind']
  /** Characters. */
  readonly longest: { readonly title: number; readonly body: number; readonly comment: number; readonly status: number }
  /** A text in the Markdown that this forge understands; absent: as it is. Done twice it is as done once. */
  readonly written?: (text: string) => string
  /** Requests whose source is this branch of this very repository (no fork's), newest first: the open one, or those that ended last. */
  of(branch: string): Promise<readonly PullRequest[]>
  /** Null: no request has this number. */
  get(number: number): Promise<PullRequest | null>
  listOpen(base: string): Promise<readonly PullRequest[]>
  /** How many commits a branch has that the base lacks; null: there is no such branch. */
  ahead(branch: string, base: string): Promise<number | null>
  /** Null: there is no such branch. */
  branchHead(branch: string): Promise<string | null>
  create(draft: PullRequestDraft): Promise<PullRequest>
  /** Adds them to a request that is open already. */
  label(number: number, labels: readonly string[]): Promise<void>
  ask(number: number, reviewers: readonly string[]): Promise<void>
  edit(number: number, to: { readonly title?: string; readonly body?: string; readonly closed?: true }): Promise<void>
  comments(number: number): AsyncIterable<Note>
  addComment(number: number, body: string): Promise<void>
  editComment(number: number, id: number, body: string): Promise<void>
  setStatus(commit: string, status: CommitStatus, before: CommitStatus | null): Promise<void>
  status(commit: string, context: string): Promise<CommitStatus | null>
  /** Null: a forge without issues, or whose issues are no place for a dashboard. */
  readonly issues: Issues | null
}

export interface Issues {
  open(): AsyncIterable<NotedIssue>
  add(title: string, body: string): Promise<NotedIssue>
  edit(number: number, to: { readonly title?: string; readonly body?: string; readonly closed?: true }): Promise<void>
}
