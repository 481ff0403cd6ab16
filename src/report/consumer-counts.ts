import type { Evidence, EvidenceGroup, Fingerprint } from '../rotation.ts'
import type { CertificateName, ConsumerCounts } from './report-view.ts'

/** How many consumers present and trust what. Copies of a bundle are none, and what presents or trusts nothing is left out of that count. Pure. */
export function consumerCounts(
  evidence: Pick<Evidence, 'site' | 'to' | 'groups' | 'exceptions'>,
  name: (sha256: Fingerprint) => CertificateName,
  place: { readonly label: string; readonly live: boolean },
): ConsumerCounts {
  const groups = evidence.groups.filter(group => group.consumer !== 'configmap')
  const sum = (wanted: (group: EvidenceGroup) => boolean): number =>
    groups.reduce((count, group) => count + (wanted(group) ? group.count : 0), 0)
  const presents = (side: CertificateName['side']): number =>
    sum(group => group.presents?.[0] !== undefined && name(group.presents[0]).side === side)
  const trusts = (kind: keyof ConsumerCounts['trusts']): number =>
    sum(({ trusts: roots }) => roots !== null && trustKind(roots.map(root => name(root).side)) === kind)
  return {
    ...place,
    site: evidence.site,
    at: evidence.to,
    consumers: sum(() => true),
    presents: { old: presents('old'), new: presents('new'), other: presents('other') },
    trusts: { old: trusts('old'), both: trusts('both'), new: trusts('new'), other: trusts('other') },
    exceptions: evidence.exceptions.length,
  }
}

function trustKind(sides: readonly CertificateName['side'][]): keyof ConsumerCounts['trusts'] {
  const [old, next] = [sides.includes('old'), sides.includes('new')]
  if (old && next) return 'both'
  return old ? 'old' : next ? 'new' : 'other'
}
