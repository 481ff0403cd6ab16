import type { ConsumerClass, EvidenceGroup, Fingerprint, Plan, TrustState, Verdict } from '../../rotation.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { bundleDigest, type PlannedPlace } from '../../verify/planned.ts'
import { short, sortedSet } from '../../verify/values.ts'
import { subjectList, subjectsIn } from './observe-authorities.ts'
import { multirootSetting, restartToken, xdsAgentSetting } from './phases.ts'

/** What every consumer must look like once a step has reached it: derived from the declared state and nothing else. */
export interface Expected {
  /** Sorted set. */
  readonly roots: readonly Fingerprint[]
  readonly issuer: Fingerprint
  /** SHA-256 of the exact bytes of `istio-ca-root-cert`; null where istiod writes it from its own CA. */
  readonly bundle: string | null
  readonly settings: Readonly<Record<string, string>>
  readonly restarts: Readonly<Record<string, string>>
  readonly source: TrustState['source']
  /** The roots that every replica of istiod must have started with, as its fact tells them; null: it need not have started since they changed. */
  readonly startedWith: StartRoots | null
  /** Every certificate of the plan: what is none of these is foreign. */
  readonly planned: ReadonlySet<Fingerprint>
  /** The state must have reached every consumer. Otherwise the step only delivers data that the next one makes them read. */
  readonly full: boolean
}

export interface StartRoots {
  /** Of the roots, sorted, with repeats. */
  readonly subjects: readonly string[]
  /** Subjects of every certificate of the plan: names beside these are of other trust domains, which istiod federates with. */
  readonly known: ReadonlySet<string>
}

export function expectedOf(plan: Plan, place: PlannedPlace): Expected {
  const { state } = place.tree
  const roots = sortedSet(state.bundle)
  const restarted = state.restarts.istiod !== undefined
  return {
    roots,
    issuer: state.issuer,
    bundle: state.source === 'plugged' && restarted ? bundleDigest(plan, state) : null,
    settings: state.settings,
    restarts: state.restarts,
    source: state.source,
    startedWith: restartedFor(state) ? startRoots(plan, roots) : null,
    planned: new Set(plan.certificates.map(certificate => certificate.sha256)),
    full: place.full,
  }
}

/** An undo leaves the token of the step that it takes back: it relies on what istiod reloads, and restarts nothing. */
export function restartedFor(state: TrustState): boolean {
  return state.source === 'plugged' && state.restarts.istiod === restartToken(state)
}

function startRoots({ certificates }: Plan, roots: readonly Fingerprint[]): StartRoots {
  const planned = certificates.filter(({ sha256 }) => roots.includes(sha256))
  return {
    subjects: planned.map(({ subject }) => subject).sort(),
    known: new Set(certificates.map(({ subject }) => subject)),
  }
}

/** One way in which a consumer differs from what is expected. */
export interface Departure {
  readonly aspect: 'roots' | 'bundle' | 'issuer' | 'settings' | 'subscription' | 'restart' | 'start' | 'running'
  readonly reason: string
  readonly detail: string
  readonly verdict: Exclude<Verdict, 'holds'>
}

type Looked = Pick<SeenConsumer, 'consumer' | 'trusts' | 'presents' | 'bundleDigest' | 'facts'> | EvidenceGroup

const trusting: ReadonlySet<ConsumerClass> = new Set([
  'sidecar',
  'gateway',
  'waypoint',
  'ztunnel',
  'configmap',
  'webhook',
])
const presenting: ReadonlySet<ConsumerClass> = new Set(['istiod', 'sidecar', 'gateway', 'waypoint', 'ztunnel'])
const envoys: ReadonlySet<ConsumerClass> = new Set(['sidecar', 'gateway', 'waypoint'])

/** Everything in which a consumer differs from the whole state; empty: it conforms. */
export function departures(seen: Looked, expected: Expected): readonly Departure[] {
  const { state } = seen.facts
  if (state === 'not-ready') {
    return [{ aspect: 'running', reason: 'not-ready', detail: 'its proxy does not run', verdict: 'pending' }]
  }
  if (state === 'terminating') {
    return [{ aspect: 'running', reason: 'not-ready', detail: 'is going away', verdict: 'pending' }]
  }
  if (state === 'warming') {
    return [{ aspect: 'running', reason: 'not-ready', detail: 'waits for its first certificates', verdict: 'pending' }]
  }
  // A ztunnel on a node without workloads of the mesh gets roots and leaf together, with the first workload.
  if (state === 'no-identities' && seen.consumer === 'ztunnel') return restartDepartures(seen, expected)
  return [
    ...rootDepartures(seen, expected),
    ...issuerDepartures(seen, expected),
    ...settingDepartures(seen, expected),
    ...restartDepartures(seen, expected),
    ...startDepartures(seen, expected),
  ]
}

function rootDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  if (!trusting.has(seen.consumer)) return []
  if (seen.trusts === null) return [unseen('roots', 'which roots it trusts was not seen')]
  const foreign = seen.trusts.filter(root => !expected.planned.has(root))
  const missing = expected.roots.filter(root => !seen.trusts?.includes(root))
  const extra = seen.trusts.filter(root => !expected.roots.includes(root))
  const detail = `trusts ${shortList(seen.trusts)}, expected ${shortList(expected.roots)}`
  if (foreign.length > 0) return [{ aspect: 'roots', reason: 'foreign-root', detail, verdict: 'violated' }]
  if (missing.length > 0 || extra.length > 0)
    return [{ aspect: 'roots', reason: 'stale-roots', detail, verdict: 'pending' }]
  // All entries trust what is expected, and one of them more than that.
  if (seen.facts.roots === 'differ') {
    const more = `one of its entries trusts more than ${shortList(expected.roots)}`
    return [{ aspect: 'roots', reason: 'root-entries-differ', detail: more, verdict: 'pending' }]
  }
  if (seen.consumer !== 'configmap' || expected.bundle === null || seen.bundleDigest === expected.bundle) return []
  const bytes = `bytes ${short(seen.bundleDigest ?? 'none')}, expected ${short(expected.bundle)}`
  return [{ aspect: 'bundle', reason: 'other-bytes', detail: bytes, verdict: 'pending' }]
}

function issuerDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  if (!presenting.has(seen.consumer)) return []
  if (seen.facts.entries === 'differ') {
    return [
      { aspect: 'issuer', reason: 'entries-differ', detail: 'holds leaves of several CAs at once', verdict: 'pending' },
    ]
  }
  if (seen.presents === null) return [unseen('issuer', 'which CA signed its leaf was not seen')]
  const [issuer] = seen.presents
  if (issuer === undefined) return [unseen('issuer', 'no certificate at hand verifies its leaf')]
  if (issuer === expected.issuer) return []
  const detail = `leaf is signed by ${short(issuer)}, expected ${short(expected.issuer)}`
  if (expected.planned.has(issuer)) return [{ aspect: 'issuer', reason: 'old-issuer', detail, verdict: 'pending' }]
  return [{ aspect: 'issuer', reason: 'foreign-issuer', detail, verdict: 'violated' }]
}

function settingDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const departed: Departure[] = []
  const multiroot = expected.settings[multirootSetting]
  if (seen.consumer === 'istiod' && multiroot !== undefined && seen.facts.multiroot !== multiroot) {
    departed.push(setting(multirootSetting, seen.facts.multiroot, multiroot))
  }
  const agent = expected.settings[xdsAgentSetting]
  if (!envoys.has(seen.consumer) || agent === undefined) return departed
  if (seen.facts.xdsAgent !== agent) departed.push(setting(xdsAgentSetting, seen.facts.xdsAgent, agent))
  if (agent !== 'true' || seen.facts.subscribed === 'true') return departed
  if (seen.facts.subscribed !== 'false') {
    departed.push(unseen('subscription', 'whether it asked for pushed trust was not seen'))
    return departed
  }
  const detail = 'is connected and has not asked for pushed trust'
  departed.push({ aspect: 'subscription', reason: 'not-subscribed', detail, verdict: 'pending' })
  return departed
}

function setting(name: string, found: string | undefined, expected: string): Departure {
  const detail = `${name} is ${found ?? 'unset'}, expected ${expected}`
  return { aspect: 'settings', reason: 'setting-missing', detail, verdict: 'pending' }
}

function restartDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  const token = seen.consumer === 'istiod' || seen.consumer === 'ztunnel' ? expected.restarts[seen.consumer] : undefined
  if (token === undefined || seen.facts.restart === token) return []
  const detail = `runs with restart token ${short(seen.facts.restart ?? 'none')}, expected ${short(token)}`
  return [{ aspect: 'restart', reason: 'not-restarted', detail, verdict: 'pending' }]
}

/** It hands the roots that it started with to whoever connects, until it reloads them; what it reloads shows nowhere but at proxies. */
function startDepartures(seen: Looked, expected: Expected): readonly Departure[] {
  if (seen.consumer !== 'istiod' || expected.startedWith === null) return []
  const { subjects, known } = expected.startedWith
  const named = subjectsIn(seen.facts.startedWith ?? '')
  if (named === null) return [unseen('start', 'which roots it started with was not seen')]
  const found = named.filter(subject => known.has(subject))
  if (subjectList(found) === subjectList(subjects)) return []
  const detail = `started with the roots ${quoted(found)}, expected ${quoted(subjects)}`
  return [{ aspect: 'start', reason: 'stale-start', detail, verdict: 'pending' }]
}

function quoted(subjects: readonly string[]): string {
  return subjects.length === 0 ? 'of nobody' : subjects.map(subject => `"${subject}"`).join(', ')
}

function unseen(aspect: Departure['aspect'], detail: string): Departure {
  return { aspect, reason: 'unreadable', detail, verdict: 'unknown' }
}

function shortList(digests: readonly string[]): string {
  return digests.length === 0 ? 'nothing' : digests.map(short).join('+')
}
