import type { EvidenceGroup, Fingerprint, Plan, TrustState, Verdict } from '../../rotation.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import type { PlannedPlace } from '../../verify/planned.ts'
import { sortedSet } from '../../verify/values.ts'
import { checksumSetting } from './phases.ts'

/** What the CA Secret, and every node that has restarted with it, must look like at a step: derived from the declared state and nothing else. */
export interface Expected {
  /** Sorted set of the CAs that nodes trust. */
  readonly roots: readonly Fingerprint[]
  readonly issuer: Fingerprint
  /** Keys of the Secret, sorted. */
  readonly keys: readonly string[]
  /** Keys that a later step takes away or changes the owner of: no one else may own them. */
  readonly removable: readonly string[]
  readonly namespace: string
  readonly secret: string
  /** Value of the operator's annotation once it has taken up this step's data. */
  readonly checksum: string
  /** Every certificate of the plan: what is none of these is foreign. */
  readonly planned: ReadonlySet<Fingerprint>
}

export function expectedOf(plan: Pick<Plan, 'certificates'>, place: PlannedPlace): Expected {
  const { state } = place.tree
  const { settings } = state
  const keys = keysOf(state)
  return {
    roots: sortedSet(state.bundle),
    issuer: state.issuer,
    keys: [...keys].sort(),
    removable: keys.filter(key => key !== settings.certificateKey && key !== settings.privateKey),
    namespace: settings.namespace ?? '',
    secret: settings.secret ?? '',
    checksum: settings[checksumSetting] ?? '',
    planned: new Set(plan.certificates.map(certificate => certificate.sha256)),
  }
}

function keysOf(state: Pick<TrustState, 'settings'>): readonly string[] {
  return (state.settings.keys ?? '').split(' ').filter(key => key !== '')
}

/** What nodes trust that have restarted since the operator took up the data with this checksum; null: no step of the plan has it. */
export function rootsByChecksum(plan: Plan, site: string, checksum: string): readonly Fingerprint[] | null {
  for (const { steps } of plan.phases)
    for (const step of steps) {
      const planned = step.sites[site]
      for (const tree of [planned, planned?.undo, planned?.nudge]) {
        if (tree?.state.settings[checksumSetting] === checksum) return sortedSet(tree.state.bundle)
      }
    }
  return null
}

/** One way in which a consumer differs from what is expected. */
export interface Departure {
  readonly aspect: 'running' | 'restart' | 'roots' | 'issuer'
  readonly reason: string
  readonly detail: string
  readonly verdict: Exclude<Verdict, 'holds'>
}

type Looked = Pick<SeenConsumer, 'consumer' | 'trusts' | 'presents' | 'facts'> | EvidenceGroup

/**
 * Everything in which a node, the prober or the reaper differs from the whole state; empty: it conforms. Which CAs it trusts is told by what the
 * operator had taken up when it started: a truststore can be read by no one but its node.
 */
export function departures(seen: Looked, expected: Expected): readonly Departure[] {
  const { facts } = seen
  if (facts.state === 'not-ready')
    return [{ aspect: 'running', reason: 'not-ready', detail: 'is not ready', verdict: 'pending' }]
  if (facts.state === 'terminating')
    return [{ aspect: 'running', reason: 'not-ready', detail: 'is going away', verdict: 'pending' }]
  return [...restartDepartures(seen), ...rootDepartures(seen, expected), ...issuerDepartures(seen, expected)]
}

function restartDepartures({ consumer, facts }: Looked): readonly Departure[] {
  const departed = (detail: string): Departure => ({
    aspect: 'restart',
    reason: 'not-restarted',
    detail,
    verdict: 'pending',
  })
  if (facts.started !== 'after') return [departed('has not restarted since its node certificate was made anew')]
  if (consumer === 'node' && facts.revision !== 'current') return [departed('is not of the newest revision')]
  const kept = oldKeystore[facts.leaf ?? '']
  return kept === undefined ? [] : [departed(kept)]
}

/** What is served counts: a node that restarted with a keystore of before trusts what stood beside it then. By the fact `leaf`. */
const oldKeystore: Readonly<Record<string, string>> = {
  other: 'has restarted, but presents another certificate than the nodes whose is newest: it read an old keystore',
  replaced:
    'has restarted, but presents a certificate that the operator has replaced since: it read an old keystore, or the operator’s clock is more than 5 minutes behind that of the API server',
}

function rootDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const { trusts, facts } = seen
  // What it trusted before it restarted, or has kept since, is no matter of its own.
  if (facts.started !== 'after' || oldKeystore[facts.leaf ?? ''] !== undefined) return []
  if (trusts === null) {
    const detail = 'what it trusts is not known: the operator took up a Secret that is of no step'
    return [{ aspect: 'roots', reason: 'unreadable', detail, verdict: 'unknown' }]
  }
  if (trusts.join() === expected.roots.join()) return []
  const detail = `trusts ${shortList(trusts)}, expected ${shortList(expected.roots)}`
  const foreign = trusts.some(root => !expected.planned.has(root))
  return [
    foreign
      ? { aspect: 'roots', reason: 'foreign-root', detail, verdict: 'violated' }
      : { aspect: 'roots', reason: 'stale-roots', detail, verdict: 'pending' },
  ]
}

function issuerDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  if (seen.consumer !== 'node') return []
  if (seen.presents === null)
    return [
      {
        aspect: 'issuer',
        reason: 'unreadable',
        detail: 'which CA signed its certificate was not seen',
        verdict: 'unknown',
      },
    ]
  const [issuer] = seen.presents
  if (issuer === expected.issuer) return []
  const detail = `presents a leaf of ${issuer === undefined ? 'no CA at hand' : short(issuer)}, expected ${short(expected.issuer)}`
  if (issuer !== undefined && expected.planned.has(issuer))
    return [{ aspect: 'issuer', reason: 'old-issuer', detail, verdict: 'pending' }]
  return [{ aspect: 'issuer', reason: 'foreign-issuer', detail, verdict: 'violated' }]
}

/** Enough of a digest for a person to tell two apart; the whole stands in the evidence. */
function short(digest: string): string {
  return digest.slice(0, 12)
}

function shortList(digests: readonly string[]): string {
  return digests.length === 0 ? 'nothing' : digests.map(short).join('+')
}
