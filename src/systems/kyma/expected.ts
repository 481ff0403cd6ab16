import type { EvidenceGroup, Fingerprint, Plan, Verdict } from '../../rotation.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { type PlannedPlace, stoodBefore } from '../../verify/planned.ts'
import { sortedSet } from '../../verify/values.ts'
import { gatewayRestart, type KymaPlaces, placesOf } from './phases.ts'

/** What both Secrets, the gateway and the runtimes must look like at a step: derived from the declared state and nothing else. */
export interface Expected {
  /** Sorted set of the CAs that the gateway trusts. */
  readonly roots: readonly Fingerprint[]
  readonly issuer: Fingerprint
  readonly places: KymaPlaces
  /** Token of the gateway's pods; null: this rotation has not restarted them yet. */
  readonly token: string | null
  /** The connector issues from another CA than before this phase, so that holders have to renew. */
  readonly renews: boolean
  /** Gateways have, or are getting, exactly these roots at this step: not at a data step of a gateway that reads files. */
  readonly gatewayDecided: boolean
  /** Old and new have one key and one subject: a leaf of either verifies with either. */
  readonly sameKey: boolean
  readonly planned: ReadonlySet<Fingerprint>
}

export function expectedOf(plan: Pick<Plan, 'certificates' | 'phases'>, place: PlannedPlace): Expected {
  const { state } = place.tree
  const places = placesOf(state)
  const before = stoodBefore(plan, place)
  return {
    roots: sortedSet(state.bundle),
    issuer: state.issuer,
    places,
    token: state.restarts[gatewayRestart] ?? null,
    renews: before !== null && before.issuer !== state.issuer,
    gatewayDecided: places.gateway.form === 'sds' || place.full,
    sameKey:
      new Set([...state.bundle, state.issuer, ...(before === null ? [] : [before.issuer])].map(spkiOf(plan))).size ===
      1,
    planned: new Set(plan.certificates.map(certificate => certificate.sha256)),
  }
}

function spkiOf({ certificates }: Pick<Plan, 'certificates'>): (sha256: Fingerprint) => string {
  return sha256 => certificates.find(certificate => certificate.sha256 === sha256)?.spki ?? sha256
}

/**
 * What a gateway trusts that reads files and was started with this token, as the plan says; null: no step has it. Files cannot be read back from a
 * running Envoy, so the token of its pod stands for what it read when it started.
 */
export function rootsByToken(plan: Plan, site: string, token: string | null): readonly Fingerprint[] | null {
  for (const { steps } of plan.phases)
    for (const step of steps) {
      const planned = step.sites[site]
      for (const tree of [planned, planned?.undo, planned?.nudge]) {
        if (tree === null || tree === undefined) continue
        const own = tree.state.restarts[gatewayRestart] ?? null
        if (own === token) return sortedSet(tree.state.bundle)
      }
    }
  return null
}

/**
 * The token of a restart that this plan knows; null: none. One of an earlier rotation tells as little of what a pod read as no token does, and must not be waited
 * on: nothing will take it away.
 */
export function knownToken(plan: Plan, site: string, token: string | null): string | null {
  return rootsByToken(plan, site, token) === null ? null : token
}

/** One way in which a consumer differs from what is expected. */
export interface Departure {
  readonly aspect: 'running' | 'restart' | 'roots' | 'connected' | 'renewed'
  readonly reason: string
  readonly detail: string
  readonly verdict: Exclude<Verdict, 'holds'>
}

type Looked = Pick<SeenConsumer, 'consumer' | 'trusts' | 'presents' | 'facts'> | EvidenceGroup

/** Everything in which a gateway pod or a runtime differs from the whole state; empty: it conforms. */
export function departures(seen: Looked, expected: Expected): readonly Departure[] {
  if (seen.consumer === 'gateway') return gatewayDepartures(seen, expected)
  if (seen.consumer === 'runtime') return runtimeDepartures(seen, expected)
  return []
}

function gatewayDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const { facts, trusts } = seen
  if (facts.state !== undefined)
    return [
      {
        aspect: 'running',
        reason: 'not-ready',
        detail: facts.state === 'terminating' ? 'is going away' : 'is not ready',
        verdict: 'pending',
      },
    ]
  const found: Departure[] = []
  if (expected.places.gateway.form === 'mount' && expected.gatewayDecided && (facts.token ?? null) !== expected.token)
    found.push({
      aspect: 'restart',
      reason: 'not-restarted',
      detail: 'has not restarted since its file changed, and reads it at no other time',
      verdict: 'pending',
    })
  if (facts.file === 'foreign')
    found.push({
      aspect: 'roots',
      reason: 'foreign-root',
      detail: 'has loaded from its file a CA that no plan knows',
      verdict: 'violated',
    })
  if (facts.file === 'old')
    found.push({
      aspect: 'restart',
      reason: 'stale-file',
      detail: 'was made while its node still had the old file, and keeps that until it starts once more',
      verdict: 'violated',
    })
  if (facts.warming === 'true')
    found.push({
      aspect: 'roots',
      reason: 'no-roots-yet',
      detail: 'has asked for its CA and has no answer on some listener yet, which refuses every client meanwhile',
      verdict: 'pending',
    })
  if (trusts === null || !expected.gatewayDecided) return found
  const missing = expected.roots.filter(root => !trusts.includes(root))
  const extra = trusts.filter(root => !expected.roots.includes(root))
  if (missing.length > 0)
    found.push({
      aspect: 'roots',
      reason: 'stale-roots',
      detail: `does not trust ${missing.map(short).join(', ')}`,
      verdict: 'pending',
    })
  const foreign = extra.filter(root => !expected.planned.has(root))
  if (foreign.length > 0)
    found.push({
      aspect: 'roots',
      reason: 'foreign-root',
      detail: `trusts ${foreign.map(short).join(', ')}, which no plan knows`,
      verdict: 'violated',
    })
  const old = extra.filter(root => expected.planned.has(root))
  if (old.length > 0)
    found.push({
      aspect: 'roots',
      reason: 'stale-roots',
      detail: `still trusts ${old.map(short).join(', ')}`,
      verdict: 'pending',
    })
  return found
}

function runtimeDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const { facts, presents } = seen
  const found: Departure[] = []
  if (facts.doubt !== undefined)
    for (const aspect of ['connected', 'renewed'] as const)
      found.push({ aspect, reason: 'doubtful', detail: facts.doubt, verdict: 'unknown' })
  if (facts.unreached !== undefined)
    found.push({ aspect: 'connected', reason: 'not-connected', detail: facts.unreached, verdict: 'pending' })
  if (!expected.renews) return found
  // With a new key the signature of the runtime's own certificate says all, and no clock is asked.
  const signed = presents?.includes(expected.issuer) === true
  const late = facts.renewed !== 'true' && !(signed && !expected.sameKey)
  // Where the runtime's own certificate could be read, its signature counts, and dates alone do not.
  const other = presents !== null && !signed ? presents : null
  if (!late && other === null) return found
  const why = late ? [facts.waits ?? 'has not renewed its certificate'] : []
  if (other !== null)
    why.push(
      `its certificate came from ${other.map(short).join(', ') || 'an unknown CA'}, and the connector issues from ${short(expected.issuer)}`,
    )
  found.push({
    aspect: 'renewed',
    reason: other === null ? 'old-leaf' : issuerReason(other, expected),
    detail: why.join('; '),
    verdict: late && facts.dates === 'unknown' ? 'unknown' : 'pending',
  })
  return found
}

function issuerReason(issuers: readonly Fingerprint[], { planned }: Expected): string {
  return issuers.some(issuer => planned.has(issuer)) ? 'old-issuer' : 'foreign-issuer'
}

function short(sha256: string): string {
  return `${sha256.slice(0, 16)}…`
}
