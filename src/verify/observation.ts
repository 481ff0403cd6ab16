import type { Digest, Evidence } from '../rotation.ts'
import { canonicalJson, sha256, sortedSet } from './values.ts'

/** Reason of the exception that stands for a file whose digest does not match. */
export const damagedReason = 'damaged'

/**
 * Digest of what was seen, for telling whether two observations agree.
 *
 * It covers the states of trust that each owner's pods are in, every exception by name, and the objects; not times, and not how many pods
 * share a state or what they are called: in a large mesh some pod comes or goes every second, and two looks would never agree.
 * Taking consumers away that do not conform changes it, or leaves others behind that conform as little.
 */
export function observationDigest(
  evidence: Pick<Evidence, 'cluster' | 'groups' | 'exceptions' | 'objects' | 'delivery' | 'complete'>,
): Digest {
  const { delivery } = evidence
  const groups = evidence.groups.map(({ consumer, owner, trusts, presents, bundleDigest, facts }) =>
    canonicalJson({ consumer, owner: lasting(owner), trusts, presents, bundleDigest, facts }),
  )
  const exceptions = evidence.exceptions.map(({ consumer, name, reason, verdict }) =>
    canonicalJson({ consumer, name, reason, verdict }),
  )
  const objects = evidence.objects.map(({ id, present, keys, managers, facts }) =>
    canonicalJson({ id, present, keys, managers, facts }),
  )
  return sha256(
    canonicalJson({
      cluster: evidence.cluster.uid,
      complete: evidence.complete,
      delivery: {
        kind: delivery.kind,
        object: delivery.object,
        suspended: delivery.suspended,
        observed: delivery.observed,
        ready: delivery.ready,
        treeDigest: delivery.treeDigest,
        inventory: delivery.inventory,
      },
      groups: sortedSet(groups),
      exceptions: sortedSet(exceptions),
      objects: sortedSet(objects),
    }),
  )
}

/** Jobs come and go by themselves, and their being there is no state of the mesh. */
function lasting(owner: string): string {
  return /\/(Job|CronJob)\//.test(owner) ? '' : owner
}
