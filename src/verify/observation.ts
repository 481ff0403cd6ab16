import type { Digest, Evidence } from '../rotation.ts'
import { canonicalJson, sha256, sortedSet } from './values.ts'

/**
 * Digest of what was seen, for telling whether two observations agree.
 *
 * It covers which states of trust there are, every exception by name, and the objects; not times, and not how many pods share a
 * state or what they are called: in a large mesh some pod comes or goes every second, and two looks would never agree.
 */
export function observationDigest(
  evidence: Pick<Evidence, 'cluster' | 'groups' | 'exceptions' | 'objects' | 'delivery' | 'complete'>,
): Digest {
  const { delivery } = evidence
  const groups = evidence.groups.map(({ consumer, trusts, presents, bundleDigest, facts }) =>
    canonicalJson({ consumer, trusts, presents, bundleDigest, facts }),
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
