/**
 * The user's GitOps repository: reading any commit, committing without a work tree, and moving refs by compare-and-swap.
 *
 * State is what is committed. The work tree and the index are never read for it and never written.
 */
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { resolve as absolute, join } from 'node:path'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { FileChanges, FileTree } from '../rotation.ts'
import {
  type Credential,
  type GitAnswer,
  type GitObject,
  type GitPlace,
  type GitRun,
  git,
  gitSays,
  keepingReader,
  notARepository,
  openObjectReader,
  type PorcelainAnswer,
  remoteGit,
} from './git.ts'
import { checkBranch, checkFolder, checkPath, checkRef, checkRemote, checkRemoteUrl, localPathOf } from './names.ts'
import { asFile, type FileBytes, type Folder } from './tree-digest.ts'
import { hooked, type WriteHook } from './write-hook.ts'

export interface RepositoryOptions {
  /** Name of the remote whose branches are the state; absent: the branches of this repository itself. */
  readonly remote?: string
  readonly onWrite?: WriteHook
  /** What git logs in with at a remote of this URL; null: it finds its own way in, as when the user calls it. @default null for all */
  readonly loginFor?: (url: string) => { readonly username: string; readonly password: string } | null
}

export interface TreeEntry {
  readonly mode: string
  /** Object id of the file's content. */
  readonly id: string
}

/** One commit's files. Nothing is read before it is asked for. */
export interface Snapshot {
  readonly commit: string
  /** Every file under `prefix` (default: all) by path from the root, in Git's order; empty where there is no such folder. */
  list(prefix?: string): Promise<ReadonlyMap<string, TreeEntry>>
  /** A regular file's text as UTF-8; null where there is none (a folder or a symbolic link is none). */
  read(path: string): Promise<string | null>
  readBytes(path: string): Promise<Buffer | null>
  /** Those of the paths that are regular files. */
  readMany(paths: Iterable<string>): Promise<ReadonlyMap<string, string>>
  /** Those of the paths that are files of any kind, with modes and exact bytes, by path from the root. */
  readFiles(paths: Iterable<string>): Promise<Folder>
  /** The files under `prefix` by path relative to it. Bytes that are not UTF-8 come as U+FFFD: use readFolderBytes for digests. */
  readFolder(prefix: string): Promise<FileTree>
  /** The same with modes and exact bytes: what treeDigest and positionOf take. */
  readFolderBytes(prefix: string): Promise<Folder>
}

export interface Person {
  readonly name: string
  readonly email: string
}

export interface CommitDraft {
  /** Null: a commit without a parent. */
  readonly parent: string | null
  readonly changes: FileChanges
  readonly message: string
  readonly trailers: Readonly<Record<string, string>>
  readonly author: Person
  /** Author and committer time, in whole seconds. */
  readonly at: Date
}

export interface CommitFacts {
  readonly id: string
  readonly tree: string
  readonly parents: readonly string[]
  readonly author: Person & { readonly at: Date }
  readonly committer: Person & { readonly at: Date }
  readonly message: string
  readonly trailers: Readonly<Record<string, string>>
}

export interface RefUpdate {
  readonly ref: string
  /** What it must be now; null: it must not exist. */
  readonly from: string | null
  /** What it becomes; null: it is removed. Equal to `from`: it is only held to that (of a remote: looked at just before). */
  readonly to: string | null
}

/** `ok: false`: somebody else was first, nothing was written. */
export type PublishResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly ref: string; readonly expected: string | null; readonly found: string | null }

export interface WorkTreeChange {
  readonly path: string
  readonly what: 'changed' | 'untracked' | 'conflict'
}

export type MergeResult =
  | { readonly ok: true; readonly tree: string }
  | { readonly ok: false; readonly files: readonly string[] }

export interface Repository {
  /** Git's folder, absolute. */
  readonly gitDir: string
  /** The folder that linked work trees share: refs and objects. Equal to gitDir elsewhere. */
  readonly commonDir: string
  readonly bare: boolean
  /** History was cut off (`git clone --depth`): questions about the past may have no answer. */
  readonly shallow: boolean
  /** The top of the work tree, or null. */
  readonly workTree: string | null
  readonly remote: string | null
  readonly onWrite: WriteHook

  /** The commit that a revision names, or null. */
  resolve(revision: string): Promise<string | null>
  /** The commit that a revision names; throws ReanchorError where there is none. */
  commitAt(revision: string): Promise<string>
  /** The commit of the base branch, as fetched last where there is a remote; throws ReanchorError where there is none. */
  head(base: string): Promise<string>
  /** The commit of any branch, seen as `head` sees the base, or null. */
  branch(name: string): Promise<string | null>
  /** Branches whose name begins with `prefix`, by short name. */
  branches(prefix: string): Promise<ReadonlyMap<string, string>>
  /** What a full ref name holds here, or null. */
  readRef(ref: string): Promise<string | null>
  commitFacts(commit: string): Promise<CommitFacts>
  snapshot(commit: string): Snapshot

  /**
   * Writes a commit and returns its id; no ref moves. Equal input gives an equal id. A file that exists keeps its mode.
   * Where the changes leave the parent's tree as it is, nothing is written and the parent's id comes back.
   */
  commit(draft: CommitDraft): Promise<string>
  /** Writes a commit of a tree that is there already. */
  commitTree(draft: {
    readonly tree: string
    readonly parents: readonly string[]
    readonly message: string
    readonly author: Person & { readonly at: Date }
    readonly committer: Person & { readonly at: Date }
  }): Promise<string>
  /**
   * All refs or none, each only if it still is at `from`; with a remote, there. `ok` too where every ref is at its `to`
   * already: a command that was killed after this write finds its work done. Branches outside `reanchor/` are only ever
   * moved forward, and never removed (ReanchorError, refused).
   */
  publish(updates: readonly RefUpdate[]): Promise<PublishResult>
  /** Moves a ref that is never pushed, under refs/reanchor/: work of this repository alone. Throws where it is not at `from`. */
  keepRef(ref: string, from: string | null, to: string | null): Promise<void>
  /**
   * What a full ref name holds now: with a remote, there, and the commit is fetched. Null where it does not exist. Throws ReanchorError where the remote
   * cannot be reached.
   */
  refNow(ref: string): Promise<string | null>
  /** Takes the remote's branches in. Throws ReanchorError where it cannot be reached; does nothing without a remote. */
  fetch(): Promise<void>

  /** Files that differ between two commits (null: nothing). */
  changedPaths(a: string | null, b: string): Promise<ReadonlyMap<string, 'added' | 'removed' | 'changed'>>
  isAncestor(a: string, b: string): Promise<boolean>
  mergeBase(a: string, b: string): Promise<string | null>
  /**
   * The first-parent commits from `commit` back that touch one of `paths` (none given: all), newest first.
   * `since`: only those that this commit does not reach.
   */
  log(
    commit: string,
    options: { readonly paths?: readonly string[]; readonly since?: string; readonly limit?: number },
  ): Promise<readonly CommitFacts[]>
  /** The commits of `head` that `base` lacks, oldest first, merges left out. */
  commitsBetween(base: string, head: string): Promise<readonly CommitFacts[]>
  /** Where `base` took `head` in: the first-parent commit that first contains it, or null. */
  containedBy(base: string, head: string): Promise<string | null>
  /** Three-way merge of two commits into a tree; conflicts are named. Needs git 2.38. */
  mergeTrees(ours: string, theirs: string): Promise<MergeResult>

  /** Uncommitted changes under `paths` (none given: everywhere). Empty where there is no work tree. */
  workTreeState(paths?: readonly string[]): Promise<readonly WorkTreeChange[]>
  /** Throws ReanchorError that names uncommitted changes under `paths`. It changes none of them. */
  requireClean(paths: readonly string[]): Promise<void>
  remotes(): Promise<readonly string[]>
  /** The URL that fetches (or pushes) go to, checked; throws ReanchorError where there is no such remote. */
  remoteUrl(remote: string, direction?: 'fetch' | 'push'): Promise<string>
  /** Ends the reading process. Optional: an idle one does not keep the program from ending. */
  close(): void
}

let imports = 0

/** Answers about the past that one repository keeps. */
const keptAnswers = 10_000

/** Opens a bare repository, a clone, or a folder inside a work tree. Throws ReanchorError where there is none. */
export async function openRepository(dir: string, options: RepositoryOptions = {}): Promise<Repository> {
  const start = absolute(dir)
  await checkDirectory(start)
  const remote = options.remote === undefined ? null : checkRemote(options.remote)
  const onWrite = options.onWrite ?? (() => undefined)
  const asked = await git({ cwd: start, gitDir: null }, 'rev-parse', [
    '--path-format=absolute',
    '--git-dir',
    '--git-common-dir',
    '--is-bare-repository',
    '--is-inside-work-tree',
    '--is-shallow-repository',
    '--show-object-format',
    '--show-cdup',
  ])
  const [gitDir = '', commonDir = '', isBare, isInside, isShallow, format = 'sha1', cdup = ''] = asked.stdout
    .toString('utf8')
    .split('\n')
  const bare = isBare === 'true'
  const workTree = isInside === 'true' ? absolute(start, cdup) : null
  const place: GitPlace = { cwd: gitDir, gitDir }
  const reader = keepingReader(openObjectReader(place), format === 'sha256' ? 64 : 40)
  const zero = '0'.repeat(format === 'sha256' ? 64 : 40)
  const trees = new Map<string, Promise<readonly NamedEntry[]>>()

  function write<T>(what: string, run: () => Promise<T>): Promise<T> {
    return hooked(onWrite, what, run)
  }

  // ------------------------------------------------------------------------------------------------ reading

  async function resolve(revision: string): Promise<string | null> {
    return (await reader.read(`${revision}^{commit}`))?.id ?? null
  }

  async function commitAt(revision: string): Promise<string> {
    const found = await resolve(revision)
    if (found !== null) return found
    throw new ReanchorError({
      what: 'no such commit',
      where: { file: gitDir, object: `revision ${JSON.stringify(revision)}` },
      expected: 'a branch, a tag or a commit id that this repository holds',
      found: 'nothing by that name',
      todo: shallow ? 'fetch the whole history: git fetch --unshallow' : 'check the name, or fetch it: git fetch',
    })
  }

  const shallow = isShallow === 'true'

  function refOf(branch: string): string {
    checkBranch(branch)
    return remote === null ? `refs/heads/${branch}` : `refs/remotes/${remote}/${branch}`
  }

  async function head(base: string): Promise<string> {
    const found = await resolve(refOf(base))
    if (found !== null) return found
    if (remote !== null) {
      await remoteUrl(remote)
      throw new ReanchorError({
        what: `the base branch ${base} of the remote ${remote} is not in this clone`,
        where: { file: gitDir, object: refOf(base) },
        expected: 'the branch that Flux or Argo CD follows, fetched',
        found: await listed(`refs/remotes/${remote}/`),
        todo: `fetch it, or set spec.base in rotation.yaml: git fetch ${remote} ${base}`,
      })
    }
    throw new ReanchorError({
      what: `there is no base branch ${base}`,
      where: { file: gitDir, object: `refs/heads/${base}` },
      expected: 'the branch that Flux or Argo CD follows, with at least one commit',
      found: await listed('refs/heads/'),
      todo: 'set spec.base in rotation.yaml, or create the branch with a first commit',
      example: 'base: main',
    })
  }

  async function listed(prefix: string): Promise<string> {
    const names = [...(await refs(prefix)).keys()].map(ref => ref.slice(prefix.length))
    if (names.length === 0) return 'no branches'
    return `${names.slice(0, 10).join(', ')}${names.length > 10 ? ` and ${names.length - 10} more` : ''}`
  }

  async function refs(prefix: string): Promise<Map<string, string>> {
    // A pattern of for-each-ref matches whole parts or with a final slash; the rest of the prefix is compared here.
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    const { stdout } = await git(place, 'for-each-ref', ['--format=%(objectname) %(refname)', folder])
    const found = new Map<string, string>()
    for (const line of stdout.toString('utf8').split('\n')) {
      const space = line.indexOf(' ')
      const ref = line.slice(space + 1)
      if (space > 0 && ref.startsWith(prefix)) found.set(ref, line.slice(0, space))
    }
    return found
  }

  async function object(id: string, type: string): Promise<GitObject> {
    const found = await reader.read(id)
    if (found?.type === type) return found
    throw new ReanchorError({
      what: `Git has no ${type} of this name`,
      where: { file: gitDir, object: id },
      expected: `a ${type}`,
      found: found === null ? 'nothing' : `a ${found.type}`,
      todo: 'the repository may be damaged or a partial clone: run git fsck, or clone it anew',
    })
  }

  function entries(tree: string): Promise<readonly NamedEntry[]> {
    const known = trees.get(tree)
    if (known !== undefined) return known
    const read = object(tree, 'tree').then(found => parseTree(found.content, zero.length / 2))
    trees.set(tree, read)
    return read
  }

  async function commitFacts(commit: string): Promise<CommitFacts> {
    const id = await commitAt(commit)
    return parseCommit(id, (await object(id, 'commit')).content)
  }

  async function entryAt(tree: string, path: string): Promise<NamedEntry | null> {
    let entry: NamedEntry | null = { name: '', mode: treeMode, id: tree }
    for (const segment of path.split('/')) {
      if (entry === null || entry.mode !== treeMode) return null
      entry = (await entries(entry.id)).find(one => one.name === segment) ?? null
    }
    return entry
  }

  async function walk(tree: string, prefix: string): Promise<[string, TreeEntry][]> {
    const parts = await Promise.all(
      (await entries(tree)).map(async (entry): Promise<[string, TreeEntry][]> => {
        const path = prefix + entry.name
        if (entry.mode === treeMode) return walk(entry.id, `${path}/`)
        return [[path, { mode: entry.mode, id: entry.id }]]
      }),
    )
    return parts.flat()
  }

  async function content(entry: TreeEntry): Promise<Buffer> {
    if (entry.mode === submoduleMode) return Buffer.from(entry.id, 'latin1')
    return (await object(entry.id, 'blob')).content
  }

  function snapshot(commit: string): Snapshot {
    let tree: Promise<string> | null = null
    function root(): Promise<string> {
      tree ??= commitFacts(commit).then(facts => facts.tree)
      return tree
    }

    async function list(prefix = ''): Promise<Map<string, TreeEntry>> {
      const folder = checkFolder(prefix)
      if (folder === '') return new Map(await walk(await root(), ''))
      const entry = await entryAt(await root(), folder)
      if (entry === null || entry.mode !== treeMode) return new Map()
      return new Map(await walk(entry.id, `${folder}/`))
    }

    async function readBytes(path: string): Promise<Buffer | null> {
      const entry = await entryAt(await root(), checkPath(path))
      return entry !== null && isRegular(entry.mode) ? content(entry) : null
    }

    async function read(path: string): Promise<string | null> {
      return (await readBytes(path))?.toString('utf8') ?? null
    }

    async function readFolderBytes(prefix: string): Promise<Folder> {
      const cut = checkFolder(prefix) === '' ? 0 : checkFolder(prefix).length + 1
      const files = [...(await list(prefix))]
      return new Map(
        await Promise.all(
          files.map(
            async ([path, entry]): Promise<[string, FileBytes]> => [
              path.slice(cut),
              { mode: entry.mode, bytes: await content(entry) },
            ],
          ),
        ),
      )
    }

    return {
      commit,
      list,
      read,
      readBytes,
      async readMany(paths) {
        const found = await Promise.all([...paths].map(async path => [path, await read(path)] as const))
        return new Map(found.filter((one): one is readonly [string, string] => one[1] !== null))
      },
      async readFiles(paths) {
        const found = await Promise.all(
          [...paths].map(async (path): Promise<readonly [string, FileBytes] | null> => {
            const entry = await entryAt(await root(), checkPath(path))
            if (entry === null || entry.mode === treeMode) return null
            return [path, { mode: entry.mode, bytes: await content(entry) }]
          }),
        )
        return new Map(found.filter(one => one !== null))
      },
      async readFolder(prefix) {
        const files = await readFolderBytes(prefix)
        return new Map([...files].map(([path, file]) => [path, Buffer.from(file.bytes).toString('utf8')]))
      },
      readFolderBytes,
    }
  }

  // ------------------------------------------------------------------------------------------------ committing

  async function commit(draft: CommitDraft): Promise<string> {
    const parent = draft.parent === null ? null : await commitFacts(draft.parent)
    const message = messageWith(draft.message, draft.trailers)
    const changes = await effective(parent?.tree ?? null, draft.changes)
    if (parent !== null && changes.length === 0) return parent.id

    // fast-import needs a ref for a commit; taken back in the same stream, it never comes into being.
    imports += 1
    const ref = `refs/reanchor/import/${process.pid}-${imports}`
    const stream: Buffer[] = []
    const say = (text: string): void => void stream.push(Buffer.from(text, 'utf8'))
    const data = (bytes: Uint8Array): void =>
      void stream.push(Buffer.from(`data ${bytes.length}\n`), Buffer.from(bytes), newline)
    changes.forEach((change, index) => {
      if (change.bytes === null) return
      say(`blob\nmark :${index + 1}\n`)
      data(change.bytes)
    })
    const mark = changes.length + 1
    const person = signature({ ...draft.author, at: draft.at })
    say(`commit ${ref}\nmark :${mark}\nauthor ${person}\ncommitter ${person}\n`)
    data(Buffer.from(message, 'utf8'))
    if (parent !== null) say(`from ${parent.id}\n`)
    // Removals first: a folder may take the place of a file.
    for (const change of changes) if (change.bytes === null) say(`D ${quoted(change.path)}\n`)
    changes.forEach((change, index) => {
      if (change.bytes !== null) say(`M ${change.mode} :${index + 1} ${quoted(change.path)}\n`)
    })
    say(`\nget-mark :${mark}\nreset ${ref}\nfrom ${zero}\n\ndone\n`)

    const { stdout } = await write(`commit ${firstLine(message)}`, () =>
      git(place, 'fast-import', ['--quiet', '--done', '--date-format=raw'], { stdin: Buffer.concat(stream) }),
    )
    return stdout.toString('utf8').trim()
  }

  interface Change {
    readonly path: string
    readonly mode: string
    readonly bytes: Uint8Array | null
  }

  /** The changes that make a difference, with the modes to write. Throws where a path would pass through what is no folder. */
  async function effective(tree: string | null, changes: FileChanges): Promise<readonly Change[]> {
    const written = new Set([...changes].filter(([, text]) => text !== null).map(([path]) => path))
    const found = await Promise.all(
      [...changes].map(async ([path, text]): Promise<Change | null> => {
        checkPath(path)
        const segments = path.split('/')
        for (let length = 1; length < segments.length; length += 1) {
          const above = segments.slice(0, length).join('/')
          if (text !== null && written.has(above)) throw inTheWay(path, `${above} is to be a file as well`)
          const entry = tree === null ? null : await entryAt(tree, above)
          if (entry === null) break
          const goes = changes.get(above) === null && isRegular(entry.mode)
          if (entry.mode !== treeMode && !goes && text !== null)
            throw inTheWay(path, `${above} is ${kindOf(entry.mode)}`)
        }
        const entry = tree === null ? null : await entryAt(tree, path)
        if (text === null) {
          if (entry === null) return null
          if (entry.mode === treeMode) throw inTheWay(path, 'it is a folder, and only files are removed')
          return { path, mode: entry.mode, bytes: null }
        }
        if (entry !== null && !isRegular(entry.mode)) throw inTheWay(path, `it is ${kindOf(entry.mode)}`)
        const { bytes } = asFile(text)
        if (entry !== null && entry.id === blobId(bytes, format)) return null
        return { path, mode: entry?.mode === '100755' ? '100755' : '100644', bytes }
      }),
    )
    return found.filter(change => change !== null).sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  }

  function inTheWay(path: string, found: string): ReanchorError {
    return new ReanchorError({
      what: 'this file cannot be written',
      where: { file: path },
      expected: 'a regular file, or a free place in folders',
      found,
      todo: 'move what is in the way, or choose another path in rotation.yaml',
    })
  }

  async function commitTree(draft: Parameters<Repository['commitTree']>[0]): Promise<string> {
    const text = [
      `tree ${draft.tree}`,
      ...draft.parents.map(parent => `parent ${parent}`),
      `author ${signature(draft.author)}`,
      `committer ${signature(draft.committer)}`,
      '',
      messageWith(draft.message, {}),
    ].join('\n')
    const { stdout } = await write(`commit ${firstLine(draft.message)}`, () =>
      git(place, 'hash-object', ['-t', 'commit', '-w', '--stdin'], { stdin: text }),
    )
    return stdout.toString('utf8').trim()
  }

  // ------------------------------------------------------------------------------------------------ publishing

  async function publish(updates: readonly RefUpdate[]): Promise<PublishResult> {
    if (updates.length === 0) return { ok: true }
    for (const update of updates) checkRef(update.ref)
    await Promise.all(updates.map(onlyForward))
    if (remote !== null) return publishTo(remote, updates)
    await notCheckedOut(updates)

    const lines = updates.map(({ ref, from, to }) => {
      if (from === to) return `verify ${ref}\0${from ?? zero}\0`
      if (to === null) return `delete ${ref}\0${from}\0`
      return `update ${ref}\0${to}\0${from ?? zero}\0`
    })
    const names = updates.map(update => update.ref).join(' ')
    const failure = await write(`refs ${names}`, () =>
      git(place, 'update-ref', ['--no-deref', '-z', '--stdin'], { stdin: lines.join('') }).then(
        () => null,
        (error: Error) => error,
      ),
    )
    if (failure === null) return { ok: true }
    const now = new Map(await Promise.all(updates.map(async ({ ref }) => [ref, await readRef(ref)] as const)))
    const lost = verdictOn(updates, now)
    if (lost !== null) return lost
    throw failure
  }

  async function keepRef(ref: string, from: string | null, to: string | null): Promise<void> {
    checkRef(ref)
    if (!ref.startsWith('refs/reanchor/')) throw new Error(`${ref} is not one of reanchor's own refs`)
    const line = to === null ? `delete ${ref}\0${from ?? zero}\0` : `update ${ref}\0${to}\0${from ?? zero}\0`
    await write(`refs ${ref}`, () => git(place, 'update-ref', ['--no-deref', '-z', '--stdin'], { stdin: line }))
  }

  async function onlyForward({ ref, from, to }: RefUpdate): Promise<void> {
    if (!ref.startsWith('refs/heads/') || ref.startsWith('refs/heads/reanchor/') || from === null || from === to) return
    if (to !== null && (await isAncestor(from, to))) return
    throw new ReanchorError({
      what: to === null ? 'this branch is not removed' : 'this branch is only ever moved forward',
      where: { object: ref },
      expected: to === null ? 'a branch under reanchor/' : `a commit that contains ${from}`,
      found: to ?? 'a removal',
      exit: exitCodes.refused,
    })
  }

  /** A ref that moves under a work tree would make every file in it look edited. */
  async function notCheckedOut(updates: readonly RefUpdate[]): Promise<void> {
    const moving = updates.filter(one => one.from !== one.to && one.ref.startsWith('refs/heads/')).map(one => one.ref)
    if (bare || moving.length === 0) return
    const { stdout } = await git(place, 'for-each-ref', ['--format=%(refname) %(worktreepath)', ...moving])
    for (const line of stdout.toString('utf8').split('\n')) {
      const space = line.indexOf(' ')
      const ref = line.slice(0, space)
      if (space < 0 || line.length <= space + 1 || !moving.includes(ref)) continue
      throw new ReanchorError({
        what: 'this branch is checked out in a work tree, which would fall behind it',
        where: { file: line.slice(space + 1), object: ref },
        expected: 'a branch that no work tree has checked out',
        found: 'the branch that is checked out',
        todo: 'switch the work tree to another branch, or work on a bare repository',
      })
    }
  }

  async function publishTo(name: string, updates: readonly RefUpdate[]): Promise<PublishResult> {
    const credential = credentialOf(await remoteUrl(name, 'push'))
    const moving = updates.filter(update => update.from !== update.to)
    const held = updates.filter(update => update.from === update.to)
    // A push has no way to hold a ref that it does not move: those are looked at once before.
    const lostBefore =
      held.length === 0
        ? null
        : verdictOn(
            held,
            await remoteRefs(
              name,
              held.map(one => one.ref),
            ),
          )
    if (lostBefore?.ok === false) return lostBefore
    // Without refspecs, git would push what push.default says.
    if (moving.length === 0) return { ok: true }
    // Without `+`: it would push past a lease that does not hold. An empty lease means: must not exist.
    const args = [
      '--atomic',
      '--no-verify',
      '--porcelain',
      '--no-follow-tags',
      '--recurse-submodules=no',
      ...moving.map(({ ref, from }) => `--force-with-lease=${ref}:${from ?? ''}`),
      '--end-of-options',
      name,
      ...moving.map(({ ref, to }) => `${to ?? ''}:${ref}`),
    ]
    const failed = await write(`push ${updates.map(update => update.ref).join(' ')}`, async () => {
      const answer = await remoteGit(workTree ?? gitDir, 'push', args, credential)
      return answer.ok ? null : answer
    })
    if (failed === null) {
      await Promise.all(moving.map(update => track(name, update)))
      return { ok: true }
    }
    const now = await remoteRefs(
      name,
      updates.map(update => update.ref),
    )
    const lost = verdictOn(updates, now)
    if (lost !== null) return lost
    throw remoteFailure('the push was refused', name, failed)
  }

  /** The tracking ref as a later read shall see it; Git does this itself only where a fetch refspec is configured. */
  async function track(name: string, { ref, to }: RefUpdate): Promise<void> {
    if (!ref.startsWith('refs/heads/')) return
    const tracking = `refs/remotes/${name}/${ref.slice('refs/heads/'.length)}`
    if ((await readRef(tracking)) === to) return
    const line = to === null ? `delete ${tracking}\0\0` : `update ${tracking}\0${to}\0\0`
    await write(`refs ${tracking}`, () => git(place, 'update-ref', ['--no-deref', '-z', '--stdin'], { stdin: line }))
  }

  async function remoteRefs(name: string, wanted: readonly string[]): Promise<Map<string, string>> {
    const credential = credentialOf(await remoteUrl(name))
    const args = ['--quiet', '--end-of-options', name, ...wanted]
    const answer = await remoteGit(workTree ?? gitDir, 'ls-remote', args, credential)
    if (!answer.ok) throw remoteFailure('the remote cannot be reached', name, answer)
    const found = new Map<string, string>()
    for (const line of answer.output.split('\n')) {
      const [id, ref] = line.split('\t')
      if (id !== undefined && ref !== undefined) found.set(ref, id)
    }
    return found
  }

  async function fetch(): Promise<void> {
    if (remote === null) return
    await fetchFrom(remote, remote, ['--prune'], `+refs/heads/*:refs/remotes/${remote}/*`)
  }

  async function fetchFrom(name: string, what: string, options: readonly string[], refspec: string): Promise<void> {
    const credential = credentialOf(await remoteUrl(name))
    const args = [
      ...options,
      '--no-tags',
      '--no-recurse-submodules',
      '--no-write-fetch-head',
      '--no-auto-maintenance',
      '--end-of-options',
      name,
      refspec,
    ]
    const answer = await write(`fetch ${what}`, () => remoteGit(workTree ?? gitDir, 'fetch', args, credential))
    if (!answer.ok) throw remoteFailure('the remote cannot be fetched', name, answer)
  }

  async function refNow(ref: string): Promise<string | null> {
    if (remote === null) return readRef(ref)
    const id = (await remoteRefs(remote, [checkRef(ref)])).get(ref) ?? null
    if (id === null || (await resolve(id)) !== null) return id
    await fetchFrom(remote, ref, [], ref)
    return id
  }

  function remoteFailure(what: string, name: string, answer: PorcelainAnswer): ReanchorError {
    const denied = isDenied(answer.output)
    return new ReanchorError({
      what,
      where: { file: gitDir, object: `remote ${name}` },
      expected: 'a remote that can be reached and written with the credentials at hand',
      found: gitSays(answer.output) || 'no message',
      todo: denied
        ? `let git log in, or set REANCHOR_TOKEN to a token that may push (docs/forges.md): git ls-remote ${name}`
        : `try by hand: git ls-remote ${name}`,
      exit: !denied && isOutage(answer.output) ? exitCodes.waiting : exitCodes.usage,
      transient: !denied,
    })
  }

  function credentialOf(url: string): Credential | null {
    const login = options.loginFor?.(url) ?? null
    return login === null ? null : { ...login, origin: new URL(url).origin }
  }

  async function readRef(ref: string): Promise<string | null> {
    return (await reader.read(checkRef(ref)))?.id ?? null
  }

  // ------------------------------------------------------------------------------------------------ history

  const past = new Map<string, Promise<GitAnswer>>()

  /** What two or more commits, given by their ids, are to each other never changes, unless history that was cut off is fetched. */
  function ofPast(
    subcommand: 'merge-base' | 'rev-list',
    args: readonly string[],
    run: GitRun = {},
  ): Promise<GitAnswer> {
    if (shallow) return git(place, subcommand, args, run)
    const asked = `${subcommand} ${args.join('\0')}`
    const known = past.get(asked)
    if (known !== undefined) return known
    const answer = git(place, subcommand, args, run)
    if (past.size >= keptAnswers) past.clear()
    past.set(asked, answer)
    answer.catch(() => past.delete(asked))
    return answer
  }

  async function changedPaths(a: string | null, b: string): Promise<Map<string, 'added' | 'removed' | 'changed'>> {
    const before = a === null ? null : (await commitFacts(a)).tree
    return new Map(await compared(before, (await commitFacts(b)).tree, ''))
  }

  type Changed = [string, 'added' | 'removed' | 'changed']

  async function compared(a: string | null, b: string | null, prefix: string): Promise<Changed[]> {
    if (a === b) return []
    const [before, after] = await Promise.all([a === null ? [] : entries(a), b === null ? [] : entries(b)])
    const left = new Map(before.map(entry => [entry.name, entry]))
    const right = new Map(after.map(entry => [entry.name, entry]))
    const names = [...new Set([...left.keys(), ...right.keys()])].sort()
    const parts = await Promise.all(
      names.map(async (name): Promise<Changed[]> => {
        const was = left.get(name) ?? null
        const is = right.get(name) ?? null
        if (was !== null && is !== null && was.id === is.id && was.mode === is.mode) return []
        const path = prefix + name
        const wasTree = was?.mode === treeMode ? was.id : null
        const isTree = is?.mode === treeMode ? is.id : null
        const inside = await compared(wasTree, isTree, `${path}/`)
        const wasFile = was !== null && wasTree === null
        const isFile = is !== null && isTree === null
        if (!wasFile && !isFile) return inside
        return [[path, wasFile && isFile ? 'changed' : wasFile ? 'removed' : 'added'], ...inside]
      }),
    )
    return parts.flat()
  }

  async function isAncestor(a: string, b: string): Promise<boolean> {
    const [older, newer] = await Promise.all([commitAt(a), commitAt(b)])
    if (older === newer) return true
    return (await ofPast('merge-base', ['--is-ancestor', older, newer], { answers: [1] })).code === 0
  }

  async function mergeBase(a: string, b: string): Promise<string | null> {
    const [one, other] = await Promise.all([commitAt(a), commitAt(b)])
    if (one === other) return one
    const { code, stdout } = await ofPast('merge-base', [one, other], { answers: [1] })
    return code === 0 ? stdout.toString('utf8').trim() : null
  }

  async function facts(subcommand: 'rev-list', args: readonly string[]): Promise<readonly CommitFacts[]> {
    const { stdout } = await ofPast(subcommand, args)
    const ids = stdout
      .toString('utf8')
      .split('\n')
      .filter(id => id !== '')
    return Promise.all(ids.map(id => commitFacts(id)))
  }

  async function log(
    commit: string,
    options: { readonly paths?: readonly string[]; readonly since?: string; readonly limit?: number },
  ): Promise<readonly CommitFacts[]> {
    const paths = (options.paths ?? []).map(checkFolder).filter(path => path !== '')
    const since = options.since === undefined ? [] : [`^${await commitAt(options.since)}`]
    const limit = options.limit === undefined ? [] : [`--max-count=${Math.max(0, Math.floor(options.limit))}`]
    return facts('rev-list', ['--first-parent', ...limit, await commitAt(commit), ...since, '--', ...paths])
  }

  async function commitsBetween(base: string, newest: string): Promise<readonly CommitFacts[]> {
    const range = [await commitAt(newest), `^${await commitAt(base)}`]
    return facts('rev-list', ['--reverse', '--topo-order', '--no-merges', ...range])
  }

  async function containedBy(base: string, newest: string): Promise<string | null> {
    const wanted = await commitAt(newest)
    if (!(await isAncestor(wanted, base))) return null
    const { stdout } = await ofPast('rev-list', ['--first-parent', await commitAt(base), `^${wanted}`])
    const oldest = stdout.toString('utf8').trim().split('\n').at(-1) ?? ''
    if (oldest === '') return wanted
    return (await commitFacts(oldest)).parents[0] === wanted ? wanted : oldest
  }

  async function mergeTrees(ours: string, theirs: string): Promise<MergeResult> {
    const args = ['--write-tree', '-z', '--name-only', '--no-messages', await commitAt(ours), await commitAt(theirs)]
    const answer = await write('merge tree', () => git(place, 'merge-tree', args, { answers: [1, 129] }))
    if (answer.code === 129) {
      throw new ReanchorError({
        what: 'this git cannot merge without a work tree',
        expected: 'git 2.38 or newer',
        found: gitSays(answer.stderr),
        todo: 'install a newer git',
      })
    }
    const [tree = '', ...files] = answer.stdout
      .toString('utf8')
      .split('\0')
      .filter(part => part !== '')
    return answer.code === 0 ? { ok: true, tree } : { ok: false, files: [...new Set(files)] }
  }

  // ------------------------------------------------------------------------------------------------ work tree, remotes

  async function workTreeState(paths: readonly string[] = []): Promise<readonly WorkTreeChange[]> {
    if (workTree === null) return []
    const { stdout } = await git({ cwd: workTree, gitDir, workTree }, 'status', [
      '--porcelain=v2',
      '-z',
      '--untracked-files=all',
      '--no-renames',
      '--ignore-submodules=none',
      '--',
      ...paths.map(checkFolder).map(path => (path === '' ? '.' : path)),
    ])
    return parseStatus(stdout.toString('utf8'))
  }

  async function requireClean(paths: readonly string[]): Promise<void> {
    const changes = await workTreeState(paths)
    if (changes.length === 0) return
    const names = changes.slice(0, 10).map(change => `${change.path} (${change.what})`)
    throw new ReanchorError({
      what: 'there are uncommitted changes in files that this command reads from Git',
      where: { file: join(workTree ?? gitDir, changes[0]?.path ?? '') },
      expected: 'what counts committed: reanchor reads commits, never the work tree',
      found: names.join(', ') + (changes.length > 10 ? ` and ${changes.length - 10} more` : ''),
      todo: 'commit them and merge them to the base branch, or set them aside with git stash; they were left as they are',
    })
  }

  async function remotes(): Promise<readonly string[]> {
    const { stdout } = await git(place, 'remote', [])
    return stdout
      .toString('utf8')
      .split('\n')
      .filter(name => name !== '')
  }

  async function remoteUrl(name: string, direction: 'fetch' | 'push' = 'fetch'): Promise<string> {
    checkRemote(name)
    const args = ['get-url', ...(direction === 'push' ? ['--push'] : []), '--all', name]
    const answer = await git(place, 'remote', args, { answers: [2, 128] })
    const urls = answer.stdout
      .toString('utf8')
      .split('\n')
      .filter(url => url !== '')
    if (answer.code !== 0 || urls[0] === undefined) {
      const known = await remotes()
      throw new ReanchorError({
        what: `there is no remote ${name}`,
        where: { file: gitDir },
        expected: 'the remote that holds the base branch',
        found: known.length === 0 ? 'no remotes' : `the remotes ${known.join(', ')}`,
        todo: 'add it, or name another one',
        example: `git remote add ${name} https://git.example.com/acme/fleet.git`,
      })
    }
    for (const url of urls) checkRemoteUrl(url)
    return urls[0]
  }

  return {
    gitDir,
    commonDir,
    bare,
    shallow,
    workTree,
    remote,
    onWrite,
    resolve,
    commitAt,
    head,
    branch: async name => resolve(refOf(name)),
    async branches(prefix) {
      const folder = remote === null ? 'refs/heads/' : `refs/remotes/${remote}/`
      const found = await refs(folder + prefix)
      return new Map([...found].map(([ref, id]) => [ref.slice(folder.length), id]))
    },
    readRef,
    commitFacts,
    snapshot,
    commit,
    commitTree,
    publish,
    keepRef,
    refNow,
    fetch,
    changedPaths,
    isAncestor,
    mergeBase,
    log,
    commitsBetween,
    containedBy,
    mergeTrees,
    workTreeState,
    requireClean,
    remotes,
    remoteUrl,
    close: () => reader.close(),
  }
}

/** What the forges and git itself say where somebody is not let in, or may not write. */
function isDenied(output: string): boolean {
  return /authentication failed|could not read username|access denied|permission .*denied|denied to|not allowed to push|error: 40[13]|forbidden|unauthorized/i.test(
    output,
  )
}

/**
 * What git, curl and ssh say of a remote that is away or breaks off, in distinction to one that is not there or does not exist: no declaration is wrong then,
 * and scripts that tell exit codes apart need not be.
 */
function isOutage(output: string): boolean {
  return /could ?n[o']t (resolve|connect)|could not resolve|failed to connect|connection (refused|reset|timed out|closed)|operation timed out|timeout was reached|no route to host|network is unreachable|temporary failure|empty reply|early eof|hung up unexpectedly|unexpected disconnect|rpc failed|returned error: (429|5\d\d)|service unavailable/i.test(
    output,
  )
}

/** Clones `url` bare or with a work tree into `dir`, which must not exist yet. Throws ReanchorError. */
export async function cloneRepository(
  url: string,
  dir: string,
  options: { readonly bare?: boolean; readonly branch?: string } = {},
): Promise<void> {
  checkRemoteUrl(url)
  const source = localPathOf(url) === url ? absolute(url) : url
  const target = absolute(dir)
  const answer = await remoteGit(process.cwd(), 'clone', [
    '--quiet',
    '--no-tags',
    '--no-recurse-submodules',
    ...(options.bare === true ? ['--bare'] : []),
    ...(options.branch === undefined ? [] : [`--branch=${checkBranch(options.branch)}`]),
    '--end-of-options',
    source,
    target,
  ])
  if (answer.ok) return
  throw new ReanchorError({
    what: 'the repository cannot be cloned',
    where: { file: target },
    expected: 'a repository that can be reached, and a folder that does not exist yet',
    found: gitSays(answer.output) || 'no message',
    todo: 'check the URL and the credentials',
  })
}

async function checkDirectory(dir: string): Promise<void> {
  const found = await stat(dir).catch(() => null)
  if (found?.isDirectory() === true) return
  throw found === null
    ? new ReanchorError({
        what: 'there is no such folder',
        where: { file: dir },
        expected: 'the folder of a Git repository',
        found: 'nothing',
        todo: 'check the path that --repo names',
      })
    : notARepository(dir)
}

// ------------------------------------------------------------------------------------------------------- pure parts

const treeMode = '40000'
const submoduleMode = '160000'
const newline = Buffer.from('\n')

interface NamedEntry extends TreeEntry {
  readonly name: string
}

function isRegular(mode: string): boolean {
  return mode === '100644' || mode === '100755' || mode === '100664'
}

function kindOf(mode: string): string {
  if (mode === treeMode) return 'a folder'
  if (mode === '120000') return 'a symbolic link'
  if (mode === submoduleMode) return 'a submodule'
  return 'a file'
}

/** A tree object: entries of `mode SP name NUL id`, the id raw. */
function parseTree(content: Buffer, idLength: number): readonly NamedEntry[] {
  const found: NamedEntry[] = []
  let at = 0
  while (at < content.length) {
    const space = content.indexOf(32, at)
    const end = content.indexOf(0, space)
    found.push({
      mode: content.toString('latin1', at, space),
      name: content.toString('utf8', space + 1, end),
      id: content.toString('hex', end + 1, end + 1 + idLength),
    })
    at = end + 1 + idLength
  }
  return found
}

function parseCommit(id: string, content: Buffer): CommitFacts {
  const text = content.toString('utf8')
  const end = text.indexOf('\n\n')
  const header = (end < 0 ? text : text.slice(0, end)).split('\n')
  const message = end < 0 ? '' : text.slice(end + 2)
  const field = (name: string): string => header.find(line => line.startsWith(`${name} `))?.slice(name.length + 1) ?? ''
  return {
    id,
    tree: field('tree'),
    parents: header.filter(line => line.startsWith('parent ')).map(line => line.slice(7)),
    author: parseSignature(field('author')),
    committer: parseSignature(field('committer')),
    message,
    trailers: parseTrailers(message),
  }
}

function parseSignature(text: string): Person & { readonly at: Date } {
  const found = /^(.*?) ?<(.*?)> (\d+) [+-]\d{4}$/.exec(text)
  return { name: found?.[1] ?? '', email: found?.[2] ?? '', at: new Date(Number(found?.[3] ?? 0) * 1000) }
}

/** The last paragraph, where every line of it is `Key: value` (git-interpret-trailers(1), its strict case). */
function parseTrailers(message: string): Readonly<Record<string, string>> {
  const paragraphs = message.trimEnd().split(/\n{2,}/)
  const last = paragraphs.length > 1 ? (paragraphs.at(-1) ?? '').split('\n') : []
  const found = last.map(line => /^([A-Za-z][A-Za-z0-9-]*): (.*)$/.exec(line))
  if (found.some(one => one === null)) return {}
  return Object.fromEntries(found.map(one => [one?.[1] ?? '', one?.[2] ?? '']))
}

function messageWith(message: string, trailers: Readonly<Record<string, string>>): string {
  const lines = Object.entries(trailers).map(([key, value]) => {
    if (!/^[A-Za-z][A-Za-z0-9-]*$/.test(key) || /[\r\n\0]/.test(value))
      throw new Error(`${key} is no trailer of one line`)
    return `${key}: ${value}`
  })
  const body = message.replaceAll('\0', '').trimEnd()
  return lines.length === 0 ? `${body}\n` : `${body}\n\n${lines.join('\n')}\n`
}

function firstLine(message: string): string {
  return message.split('\n')[0] ?? ''
}

function signature(person: Person & { readonly at: Date }): string {
  const seconds = Math.floor(person.at.getTime() / 1000)
  if (!Number.isInteger(seconds) || seconds < 0) throw new Error('a commit needs a time after 1970')
  for (const part of [person.name, person.email]) {
    if (!/[<>\n\r\0]/.test(part)) continue
    throw new ReanchorError({
      what: 'this name cannot be the author of a commit',
      where: { object: JSON.stringify(part) },
      expected: 'a name and an address without angle brackets and line ends',
      found: 'one of them',
    })
  }
  return `${person.name.trim()} <${person.email.trim()}> ${seconds} +0000`
}

/** A path as fast-import takes it in quotes. Control characters and backslashes are refused before. */
function quoted(path: string): string {
  return `"${path.replaceAll('"', '\\"')}"`
}

function blobId(bytes: Uint8Array, format: string): string {
  return createHash(format === 'sha256' ? 'sha256' : 'sha1')
    .update(`blob ${bytes.length}\0`)
    .update(bytes)
    .digest('hex')
}

/** Why an atomic update failed: the first ref that is not where it was expected; null where the refs do not say why. */
function verdictOn(updates: readonly RefUpdate[], now: ReadonlyMap<string, string | null>): PublishResult | null {
  const found = (ref: string): string | null => now.get(ref) ?? null
  if (updates.every(({ ref, to }) => found(ref) === to)) return { ok: true }
  const lost =
    updates.find(({ ref, from, to }) => found(ref) !== from && found(ref) !== to) ??
    updates.find(({ ref, from }) => found(ref) !== from)
  return lost === undefined ? null : { ok: false, ref: lost.ref, expected: lost.from, found: found(lost.ref) }
}

/** git-status(1), porcelain version 2 with -z: `1 XY … path`, `u XY … path`, `? path`. */
function parseStatus(output: string): readonly WorkTreeChange[] {
  const changes: WorkTreeChange[] = []
  for (const record of output.split('\0')) {
    if (record.startsWith('? ')) changes.push({ path: record.slice(2), what: 'untracked' })
    if (record.startsWith('1 ')) changes.push({ path: record.split(' ').slice(8).join(' '), what: 'changed' })
    if (record.startsWith('u ')) changes.push({ path: record.split(' ').slice(10).join(' '), what: 'conflict' })
  }
  return changes
}
