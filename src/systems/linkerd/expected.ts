import type { EvidenceGroup, Fingerprint, Plan, TrustState, Verdict } from '../../rotation.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { type PlannedPlace, plannedAt } from '../../verify/planned.ts'
import { short, sortedSet } from '../../verify/values.ts'
import { anchorsSetting, controlPlaneKey, literalAnchors } from './phases.ts'

/** What every consumer must look like once a step has reached it: derived from the declared state and nothing else. */
export interface Expected {
  /** Sorted set: what the ConfigMap holds from this step on. */
  readonly roots: readonly Fingerprint[]
  /** Sorted sets that the control plane may hold now: what it has restarted with, and what a pod gets that is made anew by itself; one once it has restarted. */
  readonly controlPlane: readonly (readonly Fingerprint[])[]
  /** Sorted sets that a proxy of the data plane may trust now; one where the phase is through. */
  readonly dataPlane: readonly (readonly Fingerprint[])[]
  readonly issuer: Fingerprint
  readonly restarts: Readonly<Record<string, string>>
  /** Every certificate of the plan: what is none of these is foreign. */
  readonly planned: ReadonlySet<Fingerprint>
  /** The state must have reached every consumer. */
  readonly full: boolean
}

export function expectedOf(plan: Pick<Plan, 'certificates'>, place: PlannedPlace): Expected {
  const { state } = place.tree
  const roots = sortedSet(state.bundle)
  const before = place.before === null ? [] : [sortedSet(place.before.bundle)]
  return {
    roots,
    controlPlane: distinct([...startedWith(state), roots]),
    // Between the steps of a phase a pod may be made anew by itself, and then has what the injector has.
    dataPlane: place.full ? [roots] : distinct([...before, ...dataPlaneSets(state), roots]),
    issuer: state.issuer,
    restarts: state.restarts,
    planned: new Set(plan.certificates.map(certificate => certificate.sha256)),
    full: place.full,
  }
}

function dataPlaneSets(state: TrustState): readonly (readonly Fingerprint[])[] {
  const prefix = anchorsSetting('data-plane')
  const keys = Object.keys(state.settings).filter(key => key.startsWith(prefix))
  return keys.map(key => sortedSet(literalAnchors(state, key.slice(anchorsSetting('').length))))
}

function distinct(sets: readonly (readonly Fingerprint[])[]): readonly (readonly Fingerprint[])[] {
  return [...new Map(sets.map(set => [set.join(), set])).values()]
}

/** What the state says of the control plane's start; what is looked at without a plan says nothing. */
function startedWith(state: TrustState): readonly (readonly Fingerprint[])[] {
  if (state.settings[anchorsSetting(controlPlaneKey)] === undefined) return []
  return [sortedSet(literalAnchors(state, controlPlaneKey))]
}

/** What the control plane's pods were made to trust, by their restart token; null: no step of the plan has that token, or says it. */
export function rootsByToken(plan: Plan, site: string, token: string | undefined): readonly Fingerprint[] | null {
  for (const { steps } of plan.phases)
    for (const step of steps) {
      const planned = step.sites[site]
      for (const tree of [planned, planned?.undo, planned?.nudge]) {
        if (tree === undefined || tree === null || tree.state.restarts[controlPlaneKey] !== token) continue
        return startedWith(tree.state)[0] ?? null
      }
    }
  return null
}

/** The control plane's restart token where this phase, undo or nudge has brought it; null: it stood before, and its own gate has been passed. */
export function freshToken(plan: Plan, site: string, place: PlannedPlace): string | null {
  const token = place.tree.state.restarts[controlPlaneKey]
  const before =
    place.variant === 'step'
      ? place.before
      : (plannedAt(plan, site, place.phase, place.step)?.tree.state ?? place.before)
  return token === undefined || token === before?.restarts[controlPlaneKey] ? null : token
}

/** One way in which a consumer differs from what is expected. */
export interface Departure {
  readonly aspect: 'running' | 'restart' | 'roots' | 'issuer'
  readonly reason: string
  readonly detail: string
  readonly verdict: Exclude<Verdict, 'holds'>
}

type Looked = Pick<SeenConsumer, 'consumer' | 'trusts' | 'presents' | 'facts'> | EvidenceGroup

/** Everything in which a consumer differs from the state of the step; empty: it conforms. */
export function departures(seen: Looked, expected: Expected): readonly Departure[] {
  const { state } = seen.facts
  if (state === 'not-ready')
    return [{ aspect: 'running', reason: 'not-ready', detail: 'its proxy does not run', verdict: 'pending' }]
  if (state === 'terminating')
    return [{ aspect: 'running', reason: 'not-ready', detail: 'is going away', verdict: 'pending' }]
  return [...restartDepartures(seen, expected), ...rootDepartures(seen, expected), ...issuerDepartures(seen, expected)]
}

/** A departure's detail with what keeps its pod from ever being made anew: one that nothing rolls is another matter than one that waits its turn. */
export function withStuck(detail: string, stuck: string | undefined): string {
  return stuck === undefined ? detail : `${detail} (${stuck})`
}

function restartDepartures({ consumer, facts }: Looked, { restarts }: Expected): readonly Departure[] {
  const token = consumer === 'control-plane' ? restarts[controlPlaneKey] : undefined
  if (token === undefined || facts.restart === token) return []
  const detail = `runs with restart token ${short(facts.restart ?? 'none')}, expected ${short(token)}`
  return [{ aspect: 'restart', reason: 'not-restarted', detail, verdict: 'pending' }]
}

function rootDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const wanted = wantedRoots(seen.consumer, expected)
  if (wanted === null) return []
  if (seen.trusts === null)
    return [{ aspect: 'roots', reason: 'unreadable', detail: 'which roots it trusts was not seen', verdict: 'unknown' }]
  const found = seen.trusts.join()
  if (wanted.some(set => set.join() === found)) return []
  const detail = `trusts ${shortList(seen.trusts)}, expected ${wanted.map(shortList).join(' or ')}`
  if (seen.trusts.some(root => !expected.planned.has(root)))
    return [{ aspect: 'roots', reason: 'foreign-root', detail, verdict: 'violated' }]
  return [{ aspect: 'roots', reason: 'stale-roots', detail, verdict: 'pending' }]
}

/** Null: it verifies nobody. */
function wantedRoots(consumer: string, expected: Expected): readonly (readonly Fingerprint[])[] | null {
  switch (consumer) {
    case 'configmap':
      return [expected.roots]
    case 'control-plane':
    case 'identity':
      return expected.controlPlane
    case 'proxy':
    case 'gateway':
      return expected.dataPlane
    default:
      return null
  }
}

const presenting: ReadonlySet<string> = new Set(['control-plane', 'proxy', 'gateway', 'identity'])

/** A leaf must be the planned issuer's where a phase is through; before that, any that the plan knows. */
function issuerDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  if (!presenting.has(seen.consumer)) return []
  // Versions of identity before edge-25.2.1 do not show it: the leaves that it issues do.
  if (seen.facts.issuer === 'not-shown') return []
  if (seen.presents === null)
    return [{ aspect: 'issuer', reason: 'unreadable', detail: 'its leaf was not seen', verdict: 'unknown' }]
  const [issuer] = seen.presents
  if (issuer === undefined)
    return [
      {
        aspect: 'issuer',
        reason: 'unreadable',
        detail: 'no certificate at hand verifies its leaf',
        verdict: 'unknown',
      },
    ]
  if (issuer === expected.issuer) return []
  const detail = `leaf is signed by ${short(issuer)}, expected ${short(expected.issuer)}`
  if (!expected.planned.has(issuer))
    return [{ aspect: 'issuer', reason: 'foreign-issuer', detail, verdict: 'violated' }]
  if (!expected.full) return []
  return [{ aspect: 'issuer', reason: 'old-issuer', detail, verdict: 'pending' }]
}

function shortList(digests: readonly string[]): string {
  return digests.length === 0 ? 'nothing' : digests.map(short).join('+')
}
