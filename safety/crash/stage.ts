import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { readRootKeyHeader } from '../../src/custody/root-key.ts'

export type Refs = Readonly<Record<string, string>>

/** `local`: the embedded forge in a bare repository. `none`: no forge, in a bare repository. `clone`: no forge, in a clone whose remote holds the branches. */
export const places = ['local', 'none', 'clone'] as const
export type PlaceKind = (typeof places)[number]

/** A folder in which one command runs, as often as it is wanted. */
export interface Stage {
  readonly kind: PlaceKind
  readonly folder: string
  /** The bare repository that holds the branches. */
  readonly bare: string
  /** What `--repo` names: the bare repository or the clone. */
  readonly repo: string
  readonly rootKeyFile: string
}

/** Where a command left everything. Two ends that are equal are equal to the byte: a commit's id stands for all of its bytes and history. */
export interface End {
  readonly refs: Refs
  /** Of the clone; null where there is none. */
  readonly cloneRefs: Refs | null
  /** The root that the root key file is of; null where there is no such file. Its ciphertext has randomness of its own. */
  readonly rootKey: string | null
  /** Every file outside of Git's object store, apart from refs; with digests where they are of the user's. */
  readonly files: readonly string[]
  /** What blocks or tells: locks, unfinished files, private keys in the clear. */
  readonly leftovers: readonly string[]
}

/** Makes a stage whose repository stands at `refs` and borrows the objects of `from`: made in no time. */
export function stageAt(
  folder: string,
  kind: PlaceKind,
  refs: Refs,
  from: string,
  workFiles: Readonly<Record<string, string>> = {},
): Stage {
  const bare = join(folder, 'fleet.git')
  const kept = Object.entries(refs).filter(([ref]) => kind === 'local' || !/^refs\/(reanchor|pull)\//.test(ref))
  makeRepository(bare, kept, from, '\tbare = true\n')
  const stage = { kind, folder, bare, rootKeyFile: join(folder, 'root.key.age') }
  if (kind !== 'clone') return { ...stage, repo: bare }
  const work = join(folder, 'work')
  const tracking = kept.map(([ref, id]) => [ref.replace('refs/heads/', 'refs/remotes/origin/'), id] as const)
  const remote = `[remote "origin"]\n\turl = ${bare}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n`
  makeRepository(join(work, '.git'), tracking, from, `\tbare = false\n${remote}`)
  writeFileSync(join(work, '.git', 'HEAD'), 'ref: refs/heads/elsewhere\n')
  mkdirSync(join(work, '.git/refs/remotes/origin'), { recursive: true })
  writeFileSync(join(work, '.git/refs/remotes/origin/HEAD'), 'ref: refs/remotes/origin/main\n')
  for (const [path, text] of Object.entries(workFiles)) {
    mkdirSync(join(work, path, '..'), { recursive: true })
    writeFileSync(join(work, path), text)
  }
  return { ...stage, repo: work }
}

function makeRepository(dir: string, refs: readonly (readonly [string, string])[], from: string, config: string): void {
  for (const part of ['objects/info', 'objects/pack', 'refs/heads']) mkdirSync(join(dir, part), { recursive: true })
  writeFileSync(join(dir, 'HEAD'), 'ref: refs/heads/main\n')
  writeFileSync(join(dir, 'config'), `[gc]\n\tauto = 0\n[core]\n\trepositoryformatversion = 0\n${config}`)
  writeFileSync(join(dir, 'objects/info/alternates'), `${join(from, 'objects')}\n`)
  const lines = refs.map(([ref, id]) => `${id} ${ref}\n`).sort()
  writeFileSync(join(dir, 'packed-refs'), `# pack-refs with: peeled fully-peeled \n${lines.join('')}`)
}

/** Every ref by name, read from Git's files: asking git for it would cost more than the commands that are looked at. */
export function refsOf(dir: string): Refs {
  const found: Record<string, string> = {}
  const packed = join(dir, 'packed-refs')
  for (const line of existsSync(packed) ? readFileSync(packed, 'utf8').split('\n') : []) {
    const [, id, ref] = /^([0-9a-f]{40}) (\S+)$/.exec(line) ?? []
    if (id !== undefined && ref !== undefined) found[ref] = id
  }
  for (const path of filesUnder(join(dir, 'refs'))) {
    const text = readFileSync(join(dir, 'refs', path), 'utf8').trim()
    if (/^[0-9a-f]{40}$/.test(text)) found[`refs/${path}`] = text
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)))
}

export function endOf(stage: Stage): End {
  const all = filesUnder(stage.folder)
  const ofGit = /^(fleet\.git|work\/\.git)\//
  const files = all.filter(path => !/^(fleet\.git|work\/\.git)\/(objects|refs|logs|packed-refs)/.test(path))
  const own = files.filter(path => !ofGit.test(path))
  const keys = own.filter(path => findPrivateKeys(readFileSync(join(stage.folder, path))).length > 0)
  return {
    refs: refsOf(stage.bare),
    cloneRefs: stage.kind === 'clone' ? refsOf(join(stage.repo, '.git')) : null,
    rootKey: existsSync(stage.rootKeyFile) ? readRootKeyHeader(stage.rootKeyFile).sha256 : null,
    files: files.map(path =>
      ofGit.test(path) || path === 'root.key.age' ? path : `${path} ${digestOf(join(stage.folder, path))}`,
    ),
    leftovers: [
      ...all.filter(path => /\.lock$|\/tmp_|\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}$/.test(path)),
      ...keys.map(path => `a private key in ${path}`),
    ],
  }
}

/** What differs between two ends, one line each; empty where they are equal. */
export function differences(wanted: End, found: End): readonly string[] {
  const lines: string[] = []
  const compare = (what: string, a: Refs, b: Refs) => {
    for (const ref of new Set([...Object.keys(a), ...Object.keys(b)]))
      if (a[ref] !== b[ref]) lines.push(`${what}${ref}: ${a[ref] ?? 'none'}, found ${b[ref] ?? 'none'}`)
  }
  compare('', wanted.refs, found.refs)
  compare('clone: ', wanted.cloneRefs ?? {}, found.cloneRefs ?? {})
  if (wanted.rootKey !== found.rootKey) lines.push(`root key file of ${wanted.rootKey}, found ${found.rootKey}`)
  for (const file of wanted.files) if (!found.files.includes(file)) lines.push(`${file} is missing`)
  for (const file of found.files) if (!wanted.files.includes(file)) lines.push(`${file} is left behind`)
  return [...lines, ...found.leftovers.map(file => `${file} is left behind`)]
}

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

function filesUnder(folder: string): readonly string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => statSync(join(folder, path), { throwIfNoEntry: false })?.isFile() === true)
    .sort()
}
