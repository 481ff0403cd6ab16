import type { ConsumerClass, EvidenceGroup, Fingerprint, Instant } from '../rotation.ts'
import { canonicalJson, instantOf, sha256 } from './values.ts'

/** One consumer as it was seen. */
export interface SeenConsumer {
  readonly consumer: ConsumerClass
  readonly owner: string
  /** namespace/name */
  readonly name: string
  readonly trusts: readonly Fingerprint[] | null
  readonly presents: readonly Fingerprint[] | null
  readonly bundleDigest: string | null
  readonly facts: Readonly<Record<string, string>>
  readonly leafExpires: Date | null
}

/** Collects consumers into groups that were seen alike. Keeps a name per consumer and nothing else of it. */
export interface GroupCollector {
  add(seen: SeenConsumer): void
  /** In a fixed order, whatever the order of `add`. */
  groups(): readonly EvidenceGroup[]
}

interface OpenGroup {
  readonly alike: Pick<SeenConsumer, 'consumer' | 'owner' | 'trusts' | 'presents' | 'bundleDigest' | 'facts'>
  readonly names: string[]
  first: number
  last: number
}

export function groupCollector(): GroupCollector {
  const open = new Map<string, OpenGroup>()
  return {
    add(seen) {
      const { consumer, owner, trusts, presents, bundleDigest, facts } = seen
      const alike = { consumer, owner, trusts, presents, bundleDigest, facts }
      const key = canonicalJson(alike)
      let group = open.get(key)
      if (group === undefined) {
        group = { alike, names: [], first: Number.POSITIVE_INFINITY, last: Number.NEGATIVE_INFINITY }
        open.set(key, group)
      }
      group.names.push(seen.name)
      if (seen.leafExpires === null) return
      group.first = Math.min(group.first, seen.leafExpires.getTime())
      group.last = Math.max(group.last, seen.leafExpires.getTime())
    },
    groups() {
      const keys = [...open.keys()].sort()
      return keys.flatMap(key => {
        const group = open.get(key)
        return group === undefined ? [] : [closed(group)]
      })
    },
  }
}

function closed(group: OpenGroup): EvidenceGroup {
  const { consumer, owner, trusts, presents, bundleDigest, facts } = group.alike
  return {
    consumer,
    owner,
    count: group.names.length,
    members: sha256([...group.names].sort().join('\n')),
    trusts,
    presents,
    bundleDigest,
    facts,
    leavesExpire: span(group.first, group.last),
  }
}

function span(first: number, last: number): { readonly first: Instant; readonly last: Instant } | null {
  if (!Number.isFinite(first)) return null
  return { first: instantOf(new Date(first)), last: instantOf(new Date(last)) }
}
