/**
 * Pull requests inside a bare repository, where a hosted forge would be.
 *
 * All state is files in the commits of one ref, `refs/reanchor/forge`; their history is the log of what was done. Each
 * operation is one atomic ref transaction that holds every ref it looked at to what it saw: of two processes at once one
 * goes first and the other looks anew, and a process that is killed leaves the state before or the state after.
 */
import { exitCodes, ReanchorError } from '../errors.ts'
import { folderDiff } from '../repository/folder-diff.ts'
import { checkBranch } from '../repository/names.ts'
import {
  type CommitFacts,
  openRepository,
  type Person,
  type RefUpdate,
  type Repository,
  type Snapshot,
} from '../repository/repository.ts'
import type { FileChanges, Instant } from '../rotation.ts'
import { type CommitStatus, type Forge, type PullRequest, type PullRequestDraft, usualLongestBody } from './forge.ts'

export type MergeMethod = 'merge' | 'squash' | 'rebase'

export interface MergeOptions {
  readonly method: MergeMethod
  readonly by: Person
  readonly at: Date
  /** Contexts whose status must be success on the head. */
  readonly required?: readonly string[]
}

export interface Comment {
  readonly marker: string
  readonly text: string
  readonly at: Instant
}

/** What a person does on a forge's pages. */
export interface LocalForge extends Forge {
  readonly kind: 'local'
  /** By number, lowest first. */
  list(state: PullRequest['state'] | 'all'): Promise<readonly PullRequest[]>
  /** Throws ReanchorError where there is no such number. */
  get(number: number): Promise<PullRequest>
  /**
   * Merges into the base as it is now. A merged one comes back as it is. Throws ReanchorError: closed or in conflict (2), a required
   * status is missing or pending (3) or failing (5).
   */
  merge(number: number, options: MergeOptions): Promise<PullRequest>
  /** Unified diff of what it changes; for a merged one, of what the merge changed. */
  diff(number: number): Promise<string>
  comments(number: number): Promise<readonly Comment[]>
}

const stateRef = 'refs/reanchor/forge'
const identity: Person = { name: 'reanchor forge', email: 'forge@reanchor.invalid' }

/** Each lost race is somebody else's progress; this many in a row is not a race any more. */
const mostAttempts = 100

interface Stored extends PullRequest {
  readonly openedAt: Instant
  readonly endedAt: Instant | null
  readonly endedBy: string | null
  readonly method: MergeMethod | null
  /** The base's head that it was merged onto. */
  readonly onto: string | null
}

interface Edit<T> {
  readonly what: string
  readonly changes: FileChanges
  /** Besides the state itself; they move before it, so that no state speaks of what is not there yet. */
  readonly refs: readonly RefUpdate[]
  readonly result: T
}

/** Opens the forge inside a bare repository, by folder or already open. Throws ReanchorError where it is not bare. */
export async function openLocalForge(
  where: string | Repository,
  options: { readonly now: () => Date },
): Promise<LocalForge> {
  const repository = typeof where === 'string' ? await openRepository(where) : where
  if (!repository.bare || repository.remote !== null) {
    throw new ReanchorError({
      what: 'the local forge needs a bare repository',
      where: { file: repository.gitDir },
      expected: 'a bare repository, which clones push to and Flux or Argo CD reads',
      found: repository.bare ? `its remote ${repository.remote}` : 'a clone with a work tree',
      todo: 'make one and push to it, or name the bare repository with --repo',
      example: 'git clone --bare . ../fleet.git && git remote add origin ../fleet.git',
    })
  }

  async function state(): Promise<{ readonly commit: string | null; readonly snapshot: Snapshot | null }> {
    const commit = await repository.readRef(stateRef)
    return { commit, snapshot: commit === null ? null : repository.snapshot(commit) }
  }

  async function change<T>(
    prepare: (snapshot: Snapshot | null) => Promise<Edit<T> | { readonly result: T }>,
  ): Promise<T> {
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      const { commit, snapshot } = await state()
      const edit = await prepare(snapshot)
      if (!('changes' in edit)) return edit.result
      const to = await repository.commit({
        parent: commit,
        changes: edit.changes,
        message: edit.what,
        trailers: {},
        author: identity,
        at: options.now(),
      })
      const published = await repository.publish([...edit.refs, { ref: stateRef, from: commit, to }])
      if (published.ok) return edit.result
    }
    throw new ReanchorError({
      what: 'others keep changing the forge',
      where: { file: repository.gitDir, object: stateRef },
      expected: `a turn within ${mostAttempts} attempts`,
      found: 'somebody else was first each time',
      todo: 'run the command again',
      exit: exitCodes.internal,
    })
  }

  // ------------------------------------------------------------------------------------------------ pull requests

  async function stored(snapshot: Snapshot | null): Promise<readonly Stored[]> {
    if (snapshot === null) return []
    const found: Stored[] = []
    for (const [name, text] of await snapshot.readFolder('pulls')) found.push(parse<Stored>(text, `pulls/${name}`))
    return found.sort((a, b) => a.number - b.number)
  }

  async function storedOne(snapshot: Snapshot | null, number: number): Promise<Stored> {
    const path = pullPath(number)
    const text = (await snapshot?.read(path)) ?? null
    if (text !== null) return parse<Stored>(text, path)
    const all = await stored(snapshot)
    throw new ReanchorError({
      what: `there is no pull request ${number}`,
      where: { file: repository.gitDir },
      expected: all.length === 0 ? 'a pull request' : `a number from 1 to ${all.at(-1)?.number}`,
      found: String(number),
      todo: 'see which there are: reanchor pr list',
    })
  }

  /** As it is now: an open one's head is its branch's, or the last one known where the branch is gone. */
  async function current(one: Stored): Promise<Stored> {
    if (one.state !== 'open') return one
    return { ...one, head: (await repository.readRef(branchRef(one.branch))) ?? one.head }
  }

  /** The record, and the ref that keeps its head's objects from being collected. */
  async function put<T>(
    what: string,
    was: Stored | null,
    is: Stored,
    result: T,
    refs: readonly RefUpdate[],
  ): Promise<Edit<T>> {
    const headRef = `refs/pull/${is.number}/head`
    const from = was === null ? null : await repository.readRef(headRef)
    const keep = from === is.head ? [] : [{ ref: headRef, from, to: is.head }]
    return { what, changes: new Map([[pullPath(is.number), json(is)]]), refs: [...refs, ...keep], result }
  }

  async function open(draft: PullRequestDraft): Promise<PullRequest> {
    checkBranch(draft.branch)
    checkBranch(draft.base)
    if (draft.title.trim() === '') throw new Error('a pull request needs a title')
    return change(async snapshot => {
      const all = await stored(snapshot)
      const known = all.findLast(one => one.branch === draft.branch && one.state === 'open')
      if (known !== undefined) return { result: neutral(await current(known)) }
      const head = await repository.readRef(branchRef(draft.branch))
      const base = await repository.head(draft.base)
      if (head === null || (await repository.isAncestor(head, base))) {
        throw new ReanchorError({
          what: 'there is nothing to open a pull request for',
          where: { file: repository.gitDir, object: `branch ${draft.branch}` },
          expected: `a branch with commits that ${draft.base} lacks`,
          found: head === null ? 'no such branch' : `all its commits are on ${draft.base}`,
          todo: 'push the branch first',
        })
      }
      // Squashed or rebased, its commits are not on the base branch; a second request would bring the same change once more.
      const merged = all.find(one => one.branch === draft.branch && one.state === 'merged' && one.head === head)
      if (merged !== undefined) {
        throw new ReanchorError({
          what: 'this branch is merged already',
          where: { file: repository.gitDir, object: `branch ${draft.branch}` },
          expected: 'a branch with commits that no merged pull request has brought',
          found: `pull request ${merged.number}, merged as ${merged.mergeCommit ?? 'a commit'}`,
          todo: 'run the same command again: it takes up what is there now',
          exit: exitCodes.waiting,
        })
      }
      const is: Stored = {
        number: (all.at(-1)?.number ?? 0) + 1,
        title: oneLine(draft.title),
        body: draft.body,
        branch: draft.branch,
        base: draft.base,
        head,
        state: 'open',
        mergeCommit: null,
        url: null,
        openedAt: options.now().toISOString(),
        endedAt: null,
        endedBy: null,
        method: null,
        onto: null,
      }
      const held = { ref: branchRef(draft.branch), from: head, to: head }
      return put(`open #${is.number} ${is.title}`, null, is, neutral(is), [held])
    })
  }

  async function update(number: number, to: { readonly title?: string; readonly body?: string }): Promise<PullRequest> {
    return change(async snapshot => {
      const was = await current(await storedOne(snapshot, number))
      const is: Stored = { ...was, title: oneLine(to.title ?? was.title), body: to.body ?? was.body }
      if (is.title === was.title && is.body === was.body) return { result: neutral(was) }
      return put(`edit #${number}`, was, is, neutral(is), [])
    })
  }

  async function close(number: number): Promise<PullRequest> {
    return change(async snapshot => {
      const was = await current(await storedOne(snapshot, number))
      if (was.state !== 'open') return { result: neutral(was) }
      const is: Stored = { ...was, state: 'closed', endedAt: options.now().toISOString() }
      return put(`close #${number}`, was, is, neutral(is), [])
    })
  }

  // ------------------------------------------------------------------------------------------------ merging

  async function merge(number: number, how: MergeOptions): Promise<PullRequest> {
    return change(async snapshot => {
      const known = await storedOne(snapshot, number)
      if (known.state === 'merged') return { result: neutral(known) }
      const branch = await repository.readRef(branchRef(known.branch))
      const was: Stored = known.state === 'open' ? { ...known, head: branch ?? known.head } : known
      await refuseUnready(snapshot, was, how.required ?? [])
      const onto = await repository.head(was.base)
      const contained = await repository.containedBy(onto, was.head)
      const commit = contained ?? (await mergeCommits(was, onto, how))
      const before = contained === null ? onto : ((await repository.commitFacts(contained)).parents[0] ?? null)
      const is: Stored = {
        ...was,
        state: 'merged',
        mergeCommit: commit,
        endedAt: how.at.toISOString(),
        endedBy: how.by.name,
        method: how.method,
        onto: before,
      }
      const to = contained === null ? commit : onto
      return put(`merge #${number} (${how.method})`, was, is, neutral(is), [
        { ref: branchRef(was.base), from: onto, to },
        // What was looked at is what is merged: a push in between loses this race, and the loop looks again.
        { ref: branchRef(was.branch), from: branch, to: branch },
      ])
    })
  }

  async function refuseUnready(snapshot: Snapshot | null, one: Stored, required: readonly string[]): Promise<void> {
    const where = { file: repository.gitDir, object: `pull request ${one.number}` }
    if (one.state === 'closed') {
      throw new ReanchorError({
        what: 'a closed pull request is not merged',
        where,
        expected: 'an open one',
        found: 'closed',
        todo: 'open a new one: reanchor next',
      })
    }
    const statuses = await statusesOf(snapshot, one.head)
    for (const context of required) {
      const found = statuses[context]
      if (found?.state === 'success') continue
      throw new ReanchorError({
        what: `the required status ${context} does not allow the merge`,
        where,
        expected: `success on ${one.head}`,
        found: found === undefined ? 'no such status on this commit' : `${found.state}: ${found.description}`,
        todo:
          found?.state === 'failure' ? 'see what it says; do not merge around it' : 'wait for it: reanchor run --once',
        exit: found?.state === 'failure' ? exitCodes.refused : exitCodes.waiting,
      })
    }
  }

  async function mergeCommits(one: Stored, onto: string, how: MergeOptions): Promise<string> {
    if ((await repository.mergeBase(onto, one.head)) === null)
      throw conflict(one, 'the two histories have nothing in common')
    const person = { ...how.by, at: how.at }
    if (how.method === 'rebase') return rebased(one, onto, how)
    const merged = await repository.mergeTrees(onto, one.head)
    if (!merged.ok) throw conflict(one, merged.files.join(', '))
    if (how.method === 'merge') {
      return repository.commitTree({
        tree: merged.tree,
        parents: [onto, one.head],
        message: `Merge pull request #${one.number} from ${one.branch}\n\n${one.title}`,
        author: person,
        committer: person,
      })
    }
    const head = await repository.commitFacts(one.head)
    const rest = head.message.split('\n').slice(1).join('\n').trim()
    return repository.commitTree({
      tree: merged.tree,
      parents: [onto],
      message: `${one.title} (#${one.number})${rest === '' ? '' : `\n\n${rest}`}`,
      author: { ...head.author, at: how.at },
      committer: person,
    })
  }

  async function rebased(one: Stored, onto: string, how: MergeOptions): Promise<string> {
    let top = onto
    for (const commit of await repository.commitsBetween(onto, one.head)) {
      const below = (await repository.commitFacts(top)).tree
      const tree = await picked(one, commit, below)
      if (tree === below) continue
      top = await repository.commitTree({
        tree,
        parents: [top],
        message: commit.message,
        author: commit.author,
        committer: { ...how.by, at: how.at },
      })
    }
    return top
  }

  /**
   * The tree that a commit's own change makes of another tree. `git merge-tree --merge-base` came with git 2.40; before,
   * two commits on a common parent that carries the tree before the change say the same.
   */
  async function picked(one: Stored, commit: CommitFacts, below: string): Promise<string> {
    const [parent] = commit.parents
    if (parent === undefined) throw conflict(one, `the commit ${commit.id} has no parent`)
    const before = (await repository.commitFacts(parent)).tree
    if (before === below) return commit.tree
    const stamp = { author: commit.author, committer: commit.author, message: 'rebase' }
    const shared = await repository.commitTree({ tree: before, parents: [], ...stamp })
    const ours = await repository.commitTree({ tree: below, parents: [shared], ...stamp })
    const theirs = await repository.commitTree({ tree: commit.tree, parents: [shared], ...stamp })
    const merged = await repository.mergeTrees(ours, theirs)
    if (!merged.ok) throw conflict(one, merged.files.join(', '))
    return merged.tree
  }

  function conflict(one: Stored, found: string): ReanchorError {
    return new ReanchorError({
      what: `pull request ${one.number} conflicts with ${one.base}`,
      where: { file: repository.gitDir, object: `branch ${one.branch}` },
      expected: 'changes that merge cleanly',
      found: `conflicts in ${found}`,
      todo: `close it and let reanchor open it anew from ${one.base} as it is now: reanchor next`,
    })
  }

  async function diff(number: number): Promise<string> {
    const one = await current(await storedOne((await state()).snapshot, number))
    const after = one.mergeCommit ?? one.head
    const before =
      one.mergeCommit === null ? await repository.mergeBase(await repository.head(one.base), after) : one.onto
    const paths = [...(await repository.changedPaths(before, after)).keys()]
    return folderDiff(
      before === null ? new Map() : await repository.snapshot(before).readFiles(paths),
      await repository.snapshot(after).readFiles(paths),
    )
  }

  // ------------------------------------------------------------------------------------------------ comments, statuses

  async function commentsOf(snapshot: Snapshot | null, number: number): Promise<readonly Comment[]> {
    const path = `comments/${number}.json`
    const text = (await snapshot?.read(path)) ?? null
    return text === null ? [] : parse<readonly Comment[]>(text, path)
  }

  async function comment(number: number, marker: string, text: string): Promise<void> {
    return change(async snapshot => {
      await storedOne(snapshot, number)
      const all = await commentsOf(snapshot, number)
      const known = all.find(one => one.marker === marker)
      if (known?.text === text) return { result: undefined }
      const is: Comment = { marker, text, at: options.now().toISOString() }
      const next = known === undefined ? [...all, is] : all.map(one => (one === known ? is : one))
      const changes = new Map([[`comments/${number}.json`, json(next)]])
      return { what: `comment on #${number}`, changes, refs: [], result: undefined }
    })
  }

  async function statusesOf(
    snapshot: Snapshot | null,
    commit: string,
  ): Promise<Readonly<Record<string, CommitStatus>>> {
    const path = `statuses/${commit}.json`
    const text = (await snapshot?.read(path)) ?? null
    const all = text === null ? [] : parse<readonly CommitStatus[]>(text, path)
    return Object.fromEntries(all.map(one => [one.context, one]))
  }

  async function setStatus(commit: string, status: CommitStatus): Promise<void> {
    if ([...status.description].length > 140) throw new Error('the description of a status has at most 140 characters')
    const id = await repository.commitAt(commit)
    return change(async snapshot => {
      const all = await statusesOf(snapshot, id)
      const known = all[status.context]
      if (known?.state === status.state && known.description === status.description) return { result: undefined }
      const { context, state, description } = status
      const next = Object.values({ ...all, [context]: { context, state, description } })
      next.sort((a, b) => (a.context < b.context ? -1 : 1))
      const changes = new Map([[`statuses/${id}.json`, json(next)]])
      return { what: `status ${context} ${state} on ${id}`, changes, refs: [], result: undefined }
    })
  }

  function parse<T>(text: string, path: string): T {
    try {
      return JSON.parse(text) as T
    } catch (cause) {
      throw new ReanchorError({
        what: 'the state of the local forge is damaged',
        where: { file: repository.gitDir, object: `${stateRef}:${path}` },
        expected: 'JSON as reanchor wrote it',
        found: 'something else',
        todo: `look at its history, and set it back: git log ${stateRef}`,
        cause,
      })
    }
  }

  return {
    kind: 'local',
    longestBody: usualLongestBody,
    open,
    async find(branch) {
      checkBranch(branch)
      const found = (await stored((await state()).snapshot)).findLast(one => one.branch === branch)
      return found === undefined ? null : neutral(await current(found))
    },
    async listOpen(base) {
      const all = await stored((await state()).snapshot)
      return Promise.all(
        all.filter(one => one.state === 'open' && one.base === base).map(async one => neutral(await current(one))),
      )
    },
    update,
    close,
    comment,
    setStatus,
    async status(commit, context) {
      const id = await repository.resolve(commit)
      if (id === null) return null
      return (await statusesOf((await state()).snapshot, id))[context] ?? null
    },
    async list(wanted) {
      const all = await stored((await state()).snapshot)
      return Promise.all(
        all.filter(one => wanted === 'all' || one.state === wanted).map(async one => neutral(await current(one))),
      )
    },
    get: async number => neutral(await current(await storedOne((await state()).snapshot, number))),
    dashboard: async () => null,
    merge,
    diff,
    async comments(number) {
      const { snapshot } = await state()
      await storedOne(snapshot, number)
      return commentsOf(snapshot, number)
    },
  }
}

function branchRef(branch: string): string {
  return `refs/heads/${branch}`
}

function pullPath(number: number): string {
  return `pulls/${Number.isSafeInteger(number) && number > 0 ? number : 0}.json`
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

function neutral(one: Stored): PullRequest {
  const { number, title, body, branch, base, head, state, mergeCommit, url } = one
  return { number, title, body, branch, base, head, state, mergeCommit, url }
}
