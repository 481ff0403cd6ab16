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

/** More rows than this say less than their sums. */
const mostLooks = 60

/** By look; of a fleet by step, all sites together, with when the last of them was looked at. Pure. */
export function consumerRows(counts: readonly ConsumerCounts[]): readonly ConsumerCounts[] {
  if (counts.length <= mostLooks) return counts
  const found = new Map<string, { readonly sum: ConsumerCounts; readonly sites: number }>()
  for (const each of counts) {
    const key = `${each.label} ${each.live}`
    const before = found.get(key)
    const sites = (before?.sites ?? 0) + 1
    const sum = before === undefined ? each : added(before.sum, each)
    found.set(key, { sum: { ...sum, site: sites === 1 ? each.site : `${sites} sites` }, sites })
  }
  return [...found.values()].map(({ sum }) => sum)
}

function added(one: ConsumerCounts, other: ConsumerCounts): ConsumerCounts {
  const { presents, trusts } = one
  return {
    ...one,
    at: one.at > other.at ? one.at : other.at,
    consumers: one.consumers + other.consumers,
    presents: {
      old: presents.old + other.presents.old,
      new: presents.new + other.presents.new,
      other: presents.other + other.presents.other,
    },
    trusts: {
      old: trusts.old + other.trusts.old,
      both: trusts.both + other.trusts.both,
      new: trusts.new + other.trusts.new,
      other: trusts.other + other.trusts.other,
    },
    exceptions: one.exceptions + other.exceptions,
  }
}
