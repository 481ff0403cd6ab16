import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes, ReanchorError } from '../errors.ts'
import { readPlan } from '../plan/lock.ts'
import { findStep, plannedTree, rotationFolder, treeFolder, variants } from '../plan/steps.ts'
import { Remembered } from '../remember.ts'
import { positionOf } from '../repository/position.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import type { Declaration, FileTree, Plan, SitePosition } from '../rotation.ts'

/** A rotation as the base branch has it. */
export interface OpenRotation {
  readonly name: string
  readonly base: string
  /** Commit of the base branch that all of this was read from. */
  readonly commit: string
  readonly snapshot: Snapshot
  readonly declaration: Declaration
  readonly plan: Plan
  /** The closing pull request is merged: the sealed copies are gone. */
  readonly closed: boolean
}

/** The branch that rotations are looked for on, before any declaration is read: the remote's, or this repository's, default one. */
export async function defaultBase(repository: Repository): Promise<string> {
  const head = await headBranch(repository)
  if (head !== null) return head
  throw new ReanchorError({
    what: 'no branch to look for rotations on',
    where: { file: repository.gitDir },
    expected: 'HEAD on the branch that Flux or Argo CD follows',
    found: 'a detached HEAD',
    todo: 'switch to that branch, or name it: --base main',
  })
}

async function headBranch(repository: Repository): Promise<string | null> {
  if (repository.remote !== null) {
    const remote = symbolicRef(join(repository.commonDir, 'refs', 'remotes', repository.remote, 'HEAD'))
    if (remote !== null) return remote.slice(`refs/remotes/${repository.remote}/`.length)
  }
  const local = symbolicRef(join(repository.gitDir, 'HEAD'))
  return local === null ? null : local.slice('refs/heads/'.length)
}

function symbolicRef(file: string): string | null {
  if (!existsSync(file)) return null
  const text = readFileSync(file, 'utf8').trim()
  return text.startsWith('ref: ') ? text.slice('ref: '.length) : null
}

/** Names of the rotations on the base branch, sorted. */
export async function rotationNames(snapshot: Snapshot): Promise<readonly string[]> {
  const names = new Set<string>()
  for (const path of (await snapshot.list('rotations')).keys()) {
    const name = /^rotations\/([^/]+)\/rotation\.yaml$/.exec(path)?.[1]
    if (name !== undefined) names.add(name)
  }
  return [...names].sort()
}

/** Read once while a rotation waits: the same bytes are asked for at every turn of a loop. */
const plans = new Remembered<Plan>(8)
const declarations = new Remembered<Declaration>(8)

async function declarationAt(snapshot: Snapshot, file: string): Promise<Declaration> {
  const { readDeclaration } = await import('../declaration/read.ts')
  const text = (await snapshot.read(file)) ?? ''
  const key = `${file}\n${text}`
  const read = declarations.peek(key) ?? (await readDeclaration(text, file))
  declarations.set(key, read)
  return read
}

/** The plan of a rotation on a commit, or null where there is none. */
export async function planAt(snapshot: Snapshot, name: string): Promise<Plan | null> {
  const file = `${rotationFolder(name)}/plan.yaml`
  const text = await snapshot.read(file)
  return text === null ? null : plans.get(`${file}\n${text}`, () => readPlan(text, file))
}

export async function isClosed(snapshot: Snapshot, name: string): Promise<boolean> {
  return (await snapshot.list(`${rotationFolder(name)}/phases`)).size === 0
}

/** Picks the rotation to work on: the one named, else the only one that is not closed, else the only one. */
async function chooseRotation(snapshot: Snapshot, asked: string | null): Promise<string> {
  const names = await rotationNames(snapshot)
  if (asked !== null) {
    if (names.includes(asked)) return asked
    throw new ReanchorError({
      what: `no rotation ${asked} on the base branch`,
      expected: names.length === 0 ? 'a merged plan pull request' : `one of ${names.join(', ')}`,
      found: asked,
      todo: 'merge its plan pull request first, or correct --rotation',
      exit: exitCodes.waiting,
    })
  }
  if (names.length === 0) {
    throw new ReanchorError({
      what: 'no rotation on the base branch',
      expected: 'rotations/<name>/plan.yaml, which the plan pull request brings',
      found: 'none',
      todo: 'run `reanchor init` and `reanchor plan`, then merge the plan pull request',
      exit: exitCodes.waiting,
    })
  }
  if (names.length === 1 && names[0] !== undefined) return names[0]
  const open: string[] = []
  for (const name of names) if (!(await isClosed(snapshot, name))) open.push(name)
  if (open.length === 1 && open[0] !== undefined) return open[0]
  throw new ReanchorError({
    what: 'more than one rotation',
    expected: 'one of them by name',
    found: names.join(', '),
    todo: `say which: --rotation ${open[0] ?? names[0]}`,
  })
}

/** Loads a rotation whose plan is merged. Exit 3 (waiting) where it is not merged yet. */
export async function loadRotation(
  repository: Repository,
  options: { readonly rotation: string | null; readonly base: string | null },
): Promise<OpenRotation> {
  let base = options.base ?? (await defaultBase(repository))
  let commit = await repository.head(base)
  let snapshot = repository.snapshot(commit)
  const name = await chooseRotation(snapshot, options.rotation)
  const file = `${rotationFolder(name)}/rotation.yaml`
  const declaration = await declarationAt(snapshot, file)
  if (declaration.base !== base && options.base === null) {
    base = declaration.base
    commit = await repository.head(base)
    snapshot = repository.snapshot(commit)
  }
  const plan = await planAt(snapshot, name)
  if (plan === null) {
    throw new ReanchorError({
      what: `rotation ${name} has no plan on ${base}`,
      where: { file: `${rotationFolder(name)}/plan.yaml` },
      expected: 'the plan pull request, merged',
      found: 'rotation.yaml alone',
      todo: 'run `reanchor plan` and merge its pull request',
      exit: exitCodes.waiting,
    })
  }
  return { name, base, commit, snapshot, declaration, plan, closed: await isClosed(snapshot, name) }
}

/** Where each site stands on a commit of the base branch. */
export async function positionsAt(snapshot: Snapshot, plan: Plan): Promise<Readonly<Record<string, SitePosition>>> {
  const positions: Record<string, SitePosition> = {}
  for (const site of plan.sites) positions[site.name] = await positionAt(snapshot, plan, site.name)
  return positions
}

async function positionAt(snapshot: Snapshot, plan: Plan, siteName: string): Promise<SitePosition> {
  const site = plan.sites.find(each => each.name === siteName)
  if (site === undefined) throw new Error(`the plan has no site ${siteName}`)
  const folder = await snapshot.readFolderBytes(site.path)
  const trees = new Map<string, FileTree>()
  // What was rendered is needed only to say what differs, so it is read only where no digest matches.
  const rendered = (phase: number, step: number, variant: 'step' | 'undo' | 'nudge'): FileTree | null =>
    trees.get(`${phase}/${step}/${variant}`) ?? null
  const exact = positionOf(folder, plan, site.name, () => null)
  if (exact.kind === 'at' || exact.kind === 'absent') return exact
  for (const phase of plan.phases) {
    for (const step of phase.steps) {
      const at = findStep(plan, phase.number, step.number)
      if (at === null) continue
      for (const variant of variants) {
        if (plannedTree(step.sites[site.name], variant) === null) continue
        const files = await snapshot.readFolder(treeFolder(plan.metadata.name, at, variant, site.name))
        if (files.size > 0) trees.set(`${phase.number}/${step.number}/${variant}`, files)
      }
    }
  }
  return positionOf(folder, plan, site.name, rendered)
}
