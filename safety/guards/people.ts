import { demoAuthor, type World } from '../../src/commands/demo.ts'
import type { FileTree } from '../../src/rotation.ts'
import type { TestWorld } from '../../test/rotations/world.ts'

/** Somebody pushes straight to the base branch. */
export async function push(
  world: World,
  message: string,
  changes: ReadonlyMap<string, string | null>,
): Promise<string> {
  return await pushTo(world, 'main', message, changes)
}

/** Somebody adds a commit to a branch. */
export async function pushTo(
  { repository, context }: World,
  branch: string,
  message: string,
  changes: ReadonlyMap<string, string | null>,
): Promise<string> {
  const parent = await repository.commitAt(branch)
  const at = context.now()
  const commit = await repository.commit({ parent, changes, message, trailers: {}, author: demoAuthor, at })
  await repository.publish([{ ref: `refs/heads/${branch}`, from: parent, to: commit }])
  return commit
}

/** The paths below a folder of the base branch, with their texts. */
export async function folderOf({ repository }: World, folder: string): Promise<FileTree> {
  return await repository.snapshot(await repository.head('main')).readFolder(folder)
}

/** A copy of the world in which nobody does what people do in a demo while `next` waits; `instead` does. */
export function withPeople(test: TestWorld, instead?: World['system']['demo']['meanwhile']): TestWorld {
  const { meanwhile: _, ...demo } = test.world.system.demo
  const system = { ...test.world.system, demo: instead === undefined ? demo : { ...demo, meanwhile: instead } }
  return { ...test, world: { ...test.world, system } }
}

/** Pull requests of steps that are open at once. */
export async function openSteps({ forge, rotation }: World): Promise<number> {
  const open = await forge.listOpen('main')
  return open.filter(({ branch }) => branch.startsWith(`reanchor/${rotation}/`)).length
}

/** Whether the local forge's and the repository's branches hold this text somewhere, in any file. */
export async function holdsText({ repository }: World, wanted: string): Promise<readonly string[]> {
  const found: string[] = []
  for (const [branch, commit] of await repository.branches('')) {
    const snapshot = repository.snapshot(commit)
    const files = await snapshot.readMany([...(await snapshot.list()).keys()])
    for (const [path, text] of files) if (text.includes(wanted)) found.push(`${branch}: ${path}`)
  }
  return found
}

/** From now on the context of one site leads to the cluster of another; what is given back sets it right. */
export function leadTo({ context }: World, site: string, other: string): () => void {
  const { openCluster } = context
  Object.assign(context, {
    openCluster: async (asked: Parameters<typeof openCluster>[0]) =>
      await openCluster(asked.name === site ? { ...asked, name: other } : asked),
  })
  return () => void Object.assign(context, { openCluster })
}
