/**
 * What the forges on servers have in common: never a second request, comment or dashboard, and texts that fit. Each API is a Driver.
 *
 * All of it can be run twice: what is there is asked for first, and what another runner made meanwhile is found after a refusal.
 */
import { exitCodes, ReanchorError } from '../../errors.ts'
import { checkBranch } from '../../repository/names.ts'
import type { HostedForgeChoice } from '../../rotation.ts'
import type { CommitStatus, Forge, PullRequest, PullRequestDraft } from '../forge.ts'
import type { Driver, Issues, NotedIssue } from './driver.ts'
import { fitting } from './fitting.ts'
import { refusalIn } from './http.ts'
import { refused, type Use } from './refused.ts'

export interface Hosted {
  readonly choice: HostedForgeChoice
  readonly server: string
  readonly tokenFrom: string
}

export function hostedForge(driver: Driver, { choice, server, tokenFrom }: Hosted): Forge {
  const { kind, repository } = choice
  const { longest, issues } = driver
  const written = driver.written ?? ((text: string): string => text)
  const where = { object: `${repository} on ${server}` }

  async function asking<T>(use: Use, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      const refusal = refusalIn(error)
      // The library's own error stays behind: it holds the request with all its headers. A refusal has none of what was sent.
      if (refusal !== null) throw refused(refusal, { kind, repository, server, tokenFrom, use })
      throw error
    }
  }

  /**
   * Whether something that was posted has arrived is not known where no answer came. Each of these asks what is there before it writes, so it is simply
   * done once more from its beginning.
   */
  async function twice<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      const refusal = error instanceof ReanchorError ? refusalIn(error.cause) : null
      if (refusal?.method !== 'POST' || !(refusal.status === null || refusal.status >= 500)) throw error
      return await run()
    }
  }

  function fits(draft: PullRequestDraft): PullRequestDraft {
    return {
      ...draft,
      title: fitting(draft.title.replace(/\s+/g, ' ').trim(), longest.title),
      body: fitting(written(draft.body), longest.body),
    }
  }

  async function find(branch: string): Promise<PullRequest | null> {
    checkBranch(branch)
    return preferred(await asking('read requests', () => driver.of(branch)))
  }

  async function one(number: number): Promise<PullRequest> {
    const found = await asking('read requests', () => driver.get(number))
    if (found !== null) return found
    throw new ReanchorError({
      what: `there is no pull request ${number}`,
      where,
      expected: 'the number of one',
      found: String(number),
      todo: 'see which there are on the pages of the repository',
    })
  }

  function mergedAlready(pull: PullRequest): ReanchorError {
    return new ReanchorError({
      what: 'this branch is merged already',
      where: { object: `branch ${pull.branch}` },
      expected: 'a branch with commits that no merged pull request has brought',
      found: `pull request ${pull.number}, merged as ${pull.mergeCommit ?? 'a commit'}`,
      todo: 'run the same command again: it takes up what is there now',
      exit: exitCodes.waiting,
    })
  }

  async function open(draft: PullRequestDraft): Promise<PullRequest> {
    checkBranch(draft.base)
    const known = await find(draft.branch)
    if (known?.state === 'open') return known
    // Squashed or rebased, its commits are not on the base branch, and the forge would take them for new ones.
    if (known?.state === 'merged') {
      const head = await asking('branches', () => driver.branchHead(draft.branch))
      if (head === known.head) throw mergedAlready(known)
    }
    await refuseNothing(draft)
    let pull: PullRequest
    try {
      pull = await asking('write requests', () => driver.create(fits(draft)))
    } catch (error) {
      // Another runner may have been first, or the answer got lost on its way.
      const found = preferred(await driver.of(draft.branch).catch(() => []))
      if (found?.state === 'open') return found
      if (found?.state === 'merged' && found.number !== known?.number) throw mergedAlready(found)
      throw error
    }
    const first = await oneOfTwins(pull)
    if (first.number === pull.number) await furnish(pull)
    return first
  }

  /** Of two runners at the same moment Gitea lets both open one. Both see both now, and keep the first. */
  async function oneOfTwins(pull: PullRequest): Promise<PullRequest> {
    const open = await asking('read requests', () => driver.listOpen(pull.base))
    const first = open
      .filter(one => one.branch === pull.branch && one.number < pull.number)
      .sort((a, b) => a.number - b.number)[0]
    if (first === undefined) return pull
    await asking('write requests', () => driver.edit(pull.number, { closed: true }))
    return first
  }

  /** Some forges open requests that bring nothing. */
  async function refuseNothing({ branch, base }: PullRequestDraft): Promise<void> {
    const ahead = await asking('branches', () => driver.ahead(branch, base))
    if (ahead !== null && ahead > 0) return
    throw new ReanchorError({
      what: 'there is nothing to open a pull request for',
      where: { object: `branch ${branch} of ${repository} on ${server}` },
      expected: `a branch with commits that ${base} lacks`,
      found: ahead === null ? 'no such branch' : `all its commits are on ${base}`,
      todo: 'push the branch first',
    })
  }

  /** The request is open whatever comes of this, and found the next time. */
  async function furnish({ number }: PullRequest): Promise<void> {
    if (choice.labels.length > 0) await asking('labels', () => driver.label(number, choice.labels))
    if (choice.reviewers.length > 0) await asking('reviewers', () => driver.ask(number, choice.reviewers))
  }

  async function update(number: number, to: { readonly title?: string; readonly body?: string }): Promise<PullRequest> {
    const was = await one(number)
    const is = fits({ ...was, ...to })
    const title = is.title === was.title ? {} : { title: is.title }
    const body = to.body === undefined || sameText(is.body, was.body) ? {} : { body: is.body }
    if ('title' in title || 'body' in body)
      await asking('write requests', () => driver.edit(number, { ...title, ...body }))
    return { ...was, ...title, ...body }
  }

  async function close(number: number): Promise<PullRequest> {
    const was = await one(number)
    if (was.state !== 'open') return was
    await asking('write requests', () => driver.edit(number, { closed: true }))
    // It may have been merged in between, which closes nothing.
    return await one(number)
  }

  async function comment(number: number, marker: string, text: string): Promise<void> {
    const sign = written(`<!-- reanchor:comment=${marker} -->`)
    const body = `${fitting(written(text).trimEnd(), longest.comment - sign.length - 2)}\n\n${sign}`
    await asking('comments', async () => {
      for await (const note of driver.comments(number)) {
        if (!note.body.includes(sign)) continue
        if (sameText(note.body, body)) return
        try {
          return await driver.editComment(number, note.id, body)
        } catch (error) {
          // Anybody can quote a marker; what others wrote is theirs.
          const status = refusalIn(error)?.status
          if (status !== 403 && status !== 404) throw error
        }
      }
      await driver.addComment(number, body)
    })
  }

  async function setStatus(commit: string, status: CommitStatus): Promise<void> {
    if ([...status.description].length > 140) throw new Error('the description of a status has at most 140 characters')
    await asking('statuses', async () => {
      const before = await driver.status(commit, status.context)
      // GitHub takes a thousand of a context on one commit, and no more (its REST docs, commit statuses).
      if (before?.state === status.state && before.description === status.description) return
      await driver.setStatus(commit, status, before)
    })
  }

  // ------------------------------------------------------------------------------------------------ the dashboard

  async function boards(issues: Issues, sign: string): Promise<readonly NotedIssue[]> {
    const found: NotedIssue[] = []
    for await (const issue of issues.open()) if (issue.body.includes(sign)) found.push(issue)
    return found.sort((a, b) => a.number - b.number)
  }

  async function dashboard(
    rotation: string,
    board: { readonly title: string; readonly body: string } | null,
  ): Promise<{ readonly number: number; readonly url: string | null } | null> {
    if (issues === null) return null
    const sign = written(`<!-- reanchor:dashboard=${rotation} -->`)
    return await asking('issues', async () => {
      let all = await boards(issues, sign)
      if (board === null) {
        for (const issue of all) await issues.edit(issue.number, { closed: true })
        return null
      }
      const title = fitting(board.title.replace(/\s+/g, ' ').trim(), longest.title)
      const body = `${sign}\n${fitting(written(board.body), longest.body - sign.length - 1)}`
      if (all.length === 0) {
        const issue = await issues.add(title, body)
        // Of two runners that both found none, both see both now, and both keep the first.
        all = await boards(issues, sign)
        if (all.length === 0) return { number: issue.number, url: issue.url }
      }
      const [first, ...rest] = all
      for (const issue of rest) await issues.edit(issue.number, { closed: true })
      if (first === undefined) return null
      const other = first.title === title ? {} : { title }
      if ('title' in other || !sameText(first.body, body)) await issues.edit(first.number, { ...other, body })
      return { number: first.number, url: first.url }
    })
  }

  return {
    kind,
    longestBody: longest.body,
    open: draft => twice(() => open(draft)),
    find,
    listOpen: base => asking('read requests', () => driver.listOpen(checkBranch(base))),
    update,
    close,
    comment: (...given) => twice(() => comment(...given)),
    setStatus: (...given) => twice(() => setStatus(...given)),
    status: (commit, context) => asking('statuses', () => driver.status(commit, context)),
    dashboard: (...given) => twice(() => dashboard(...given)),
  }
}

function preferred(found: readonly PullRequest[]): PullRequest | null {
  for (const state of ['open', 'merged'] as const) {
    const one = found.find(each => each.state === state)
    if (one !== undefined) return one
  }
  return found[0] ?? null
}

/** Forges turn line ends into those of a form, and take off blank ones at the end. */
function sameText(one: string, other: string): boolean {
  const plain = (text: string): string => text.replaceAll('\r\n', '\n').trimEnd()
  return plain(one) === plain(other)
}
