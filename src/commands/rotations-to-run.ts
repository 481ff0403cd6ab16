import { ReanchorError } from '../errors.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { Context } from './context.ts'
import { defaultBase, isClosed, planAt, rotationNames } from './rotation.ts'

/**
 * The rotations that a runner works at where none is named: those that are open, or, where none is, the closed ones whose folders no later one took over, so
 * that changes of trust are still judged. One that has no merged plan yet is left out. Empty: there is nothing to work at.
 */
export async function rotationsToRun({ repository }: Context, base: string | null): Promise<readonly string[]> {
  await repository.fetch()
  const snapshot = repository.snapshot(await repository.head(base ?? (await defaultBase(repository))))
  const planned: { readonly name: string; readonly follows: string | undefined; readonly closed: boolean }[] = []
  for (const name of await rotationNames(snapshot)) {
    const follows = await followedBy(snapshot, name)
    if (follows !== null) planned.push({ name, follows: follows.rotation, closed: await isClosed(snapshot, name) })
  }
  const open = planned.filter(({ closed }) => !closed)
  if (open.length > 0) return open.map(({ name }) => name)
  const followed = new Set(planned.map(({ follows }) => follows))
  return planned.filter(({ name }) => !followed.has(name)).map(({ name }) => name)
}

/** Null: it has no plan. */
async function followedBy(snapshot: Snapshot, name: string): Promise<{ readonly rotation: string | undefined } | null> {
  try {
    const plan = await planAt(snapshot, name)
    return plan === null ? null : { rotation: plan.follows }
  } catch (error) {
    // A plan that cannot be read is worked at like any other, so that it is said what is wrong with it.
    if (error instanceof ReanchorError) return { rotation: undefined }
    throw error
  }
}
