import type { FileTree } from '../../src/rotation.ts'

/** The demo's fleet with emojivoto alone: what a rotation must show is shown by few workloads too, in half the time. */
export function smallFleet(fleet: FileTree): FileTree {
  return new Map(
    [...fleet].flatMap(([path, text]): readonly (readonly [string, string])[] => {
      if (/^apps\/[^/]+\/(shop|edge)\.yaml$/.test(path)) return []
      if (/^apps\/[^/]+\/kustomization\.yaml$/.test(path))
        return [[path, text.replace(/ {2}- (shop|edge)\.yaml\n/g, '')]]
      return [[path, text]]
    }),
  )
}
