import type { Snapshot } from '../repository/repository.ts'
import type { FileTree } from '../rotation.ts'

const ofInterest = /\.(ya?ml|json|pem|crt)$|(^|\/)(Kustomization|\.sourceignore)$/

/** Files that may hold GitOps objects, or that decide what is applied; what reanchor renders itself is left out. */
export async function filesForWiring(snapshot: Snapshot): Promise<FileTree> {
  const paths = [...(await snapshot.list()).keys()]
  return await snapshot.readMany(
    paths.filter(path => ofInterest.test(path) && !/^rotations\/[^/]+\/(phases|evidence)\//.test(path)),
  )
}

/** The same, read when they are first asked for and kept: what asks for each site must not read the repository for each. */
export function filesWhenAsked(snapshot: Snapshot): () => Promise<FileTree> {
  let reading: Promise<FileTree> | null = null
  return () => {
    reading ??= filesForWiring(snapshot)
    return reading
  }
}
