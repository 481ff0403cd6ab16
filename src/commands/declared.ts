import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ReanchorError } from '../errors.ts'
import { rotationFolder } from '../plan/steps.ts'
import type { Declaration } from '../rotation.ts'
import type { Context } from './context.ts'
import { defaultBase, isClosed, rotationNames } from './rotation.ts'

/** rotation.yaml as the user has it now. */
export interface Declared {
  readonly declaration: Declaration
  readonly text: string
  /** Path in the repository. */
  readonly file: string
}

/**
 * The declaration to plan from: of the work tree where there is one (it may not be committed yet), else of the base branch.
 * This is the one file that is read from the work tree; all state is what is committed.
 */
export async function findDeclaration(
  context: Context,
  options: { readonly rotation: string | null; readonly base: string | null },
): Promise<Declared> {
  const { readDeclaration } = await import('../declaration/read.ts')
  const { repository } = context
  const found = new Map<string, string>()
  if (repository.workTree !== null) {
    const folder = join(repository.workTree, 'rotations')
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const file = join(folder, name, 'rotation.yaml')
      if (existsSync(file)) found.set(name, readFileSync(file, 'utf8'))
    }
  }
  const snapshot = repository.snapshot(await repository.head(options.base ?? (await defaultBase(repository))))
  const committed = await rotationNames(snapshot)
  for (const name of committed) {
    if (found.has(name)) continue
    if (repository.workTree === null)
      found.set(name, (await snapshot.read(`${rotationFolder(name)}/rotation.yaml`)) ?? '')
  }
  const name =
    options.rotation ??
    (await onlyOpen(
      found.keys(),
      async each => committed.includes(each) && (await hasPlan(each)) && (await isClosed(snapshot, each)),
    ))
  const text = name === null ? undefined : found.get(name)
  if (name === null || text === undefined) {
    const closed = await Promise.all(
      [...found.keys()].map(async each => (await hasPlan(each)) && (await isClosed(snapshot, each))),
    )
    const allClosed = options.rotation === null && found.size > 0 && closed.every(Boolean)
    throw new ReanchorError({
      what:
        found.size === 0
          ? 'no rotation is declared here'
          : allClosed
            ? 'every rotation declared here is closed'
            : 'which rotation is meant is not clear',
      where: { file: 'rotations/<name>/rotation.yaml' },
      expected:
        found.size === 0 || allClosed
          ? 'a rotation.yaml of a rotation that is not closed'
          : `one of ${[...found.keys()].join(', ')}`,
      found: options.rotation ?? (found.size === 0 ? 'none' : [...found.keys()].join(', ')),
      todo:
        found.size === 0 || allClosed
          ? 'declare one with `reanchor init SYSTEM --name NAME`: istio, linkerd, kyma or cassandra'
          : 'say which: --rotation NAME',
    })
  }
  const file = `${rotationFolder(name)}/rotation.yaml`
  const declaration = await readDeclaration(
    text,
    file,
    repository.workTree === null ? {} : { repository: repository.workTree },
  )
  if (declaration.name === name) return { declaration, text, file }
  throw new ReanchorError({
    what: 'the folder and the rotation have different names',
    where: { file, field: 'metadata.name' },
    expected: name,
    found: declaration.name,
    todo: 'rename one of them',
  })

  async function hasPlan(each: string): Promise<boolean> {
    return (await snapshot.read(`${rotationFolder(each)}/plan.yaml`)) !== null
  }
}

/** The only name that is not finished; null where there is none, or more than one. */
async function onlyOpen(names: Iterable<string>, finished: (name: string) => Promise<boolean>): Promise<string | null> {
  const open: string[] = []
  for (const name of names) if (!(await finished(name))) open.push(name)
  return open.length === 1 && open[0] !== undefined ? open[0] : null
}
