import type { Evidence, EvidenceGroup } from '../../src/rotation.ts'
import { observationDigest } from '../../src/verify/observation.ts'

/** One group of sidecars, as seen. */
export function group(part: Partial<EvidenceGroup> = {}): EvidenceGroup {
  return {
    consumer: 'sidecar',
    owner: 'shop/Deployment/cart',
    count: 3,
    members: 'a'.repeat(64),
    trusts: null,
    presents: null,
    bundleDigest: null,
    facts: {},
    leavesExpire: null,
    ...part,
  }
}

/** Of a site to which the deliverer has brought all there is. */
export const delivered = {
  kind: 'flux' as const,
  object: 'Kustomization/flux-system/trust',
  suspended: false,
  observed: true,
  ready: true,
  revision: null,
  treeDigest: null,
  inventory: [],
  message: '',
  nextDue: null,
  hurry: null,
}

/** What was seen of one site: these groups, and nothing that keeps it from counting. */
export function seenOf(site: string, groups: readonly EvidenceGroup[], part: Partial<Evidence> = {}): Evidence {
  const looked = {
    cluster: { uid: site },
    delivery: delivered,
    objects: [],
    groups,
    exceptions: [],
    complete: true,
    ...part,
  }
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: 'mesh-2026',
    site,
    phase: 3,
    step: 2,
    treeDigest: '0'.repeat(64),
    from: '2026-11-22T06:00:00Z',
    to: '2026-11-22T06:00:00Z',
    agreesWith: null,
    lastChange: null,
    certificates: [],
    ...looked,
    observation: observationDigest(looked),
  }
}
