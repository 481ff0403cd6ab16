import type { FileTree, SystemName } from '../../src/rotation.ts'

/**
 * A demo's fleet with few workloads and one replica of each: what a run under faults must show is shown by few, and hundreds of runs are wanted.
 * The control planes keep their replicas, of which one may lag.
 */
export function smallFleet(system: SystemName, fleet: FileTree): FileTree {
  const left = leftOut[system]
  if (left === undefined) return fleet
  const gone = new RegExp(`^apps/[^/]+/(${left.join('|')})\\.yaml$`)
  const listed = new RegExp(`^ {2}- (${left.join('|')})\\.yaml.*\\n`, 'gm')
  return new Map(
    [...fleet].flatMap(([path, text]): readonly (readonly [string, string])[] => {
      if (gone.test(path)) return []
      if (/^apps\/[^/]+\/emojivoto\.yaml$/.test(path)) return [[path, twoOf(text)]]
      if (/^apps\/[^/]+\/kustomization\.yaml$/.test(path)) return [[path, text.replace(listed, '')]]
      return [[path, text]]
    }),
  )
}

/** The first two workloads, with their accounts. */
function twoOf(text: string): string {
  return text
    .split('---\n')
    .slice(0, 4)
    .join('---\n')
    .replace(/^ {2}replicas: 2$/gm, '  replicas: 1')
}

const leftOut: Readonly<Partial<Record<SystemName, readonly string[]>>> = {
  istio: ['shop', 'ingress'],
  linkerd: ['shop', 'edge'],
}
