import { findStep, stepFolder, stepsOf } from '../plan/steps.ts'
import type { ConsumerClass, Evidence, EvidenceGroup, Fingerprint, Instant, Plan, TrustState } from '../rotation.ts'
import { type Holding, holdingOf, trustingOf } from '../safety/model.ts'
import { pathJudge } from '../safety/paths.ts'
import { plannedAt, variantOf } from './planned.ts'

/** How far a site's leaves have left the roots that a step takes away: plain data, and its own JSON. */
export interface Drain {
  readonly site: string
  /** The step that takes the roots away: `4-trust-new/1-data`. It opens only when no leaf needs them. */
  readonly before: string
  /** Roots that this step takes away. */
  readonly roots: readonly Fingerprint[]
  /** Leaves are issued that do without these roots. Until then lifetime clears nothing: a leaf that ends is followed by one of the same CA. */
  readonly begun: boolean
  /** Leaves that were seen, and how many of them chain to these roots alone. */
  readonly leaves: number
  readonly left: number
  /** Who presents a leaf and was not seen with it: none of them counts as drained. */
  readonly unseen: number
  /** When the last of these leaves has ended by itself; null: none is left, it has not begun, or one of them shows no end. */
  readonly clearedBy: Instant | null
  /** Those that are left, by owner, the last to end first. */
  readonly stragglers: readonly Straggler[]
  /** The same one by one: pods, nodes, runtimes, the last to end first. Empty where they are too many, and the owners tell of them. */
  readonly named: readonly { readonly consumer: ConsumerClass; readonly name: string; readonly ends: Instant }[]
}

export interface Straggler {
  readonly consumer: ConsumerClass
  readonly owner: string
  readonly count: number
  readonly ends: { readonly first: Instant; readonly last: Instant } | null
}

/**
 * What a site's leaves still need of the roots that go, by the path search that judges handshakes. Null where the plan takes no root away from the site,
 * or the evidence is of no planned place. Pure.
 */
export function drainOf(plan: Plan, evidence: Evidence, now: Date): Drain | null {
  const narrowing = narrowingOf(plan, evidence.site)
  const variant = variantOf(plan, evidence.site, evidence.phase, evidence.step, evidence.treeDigest)
  const place = variant === null ? null : plannedAt(plan, evidence.site, evidence.phase, evidence.step, variant)
  if (narrowing === null || place === null) return null
  const { state, roots, before, first } = narrowing
  const known = [...plan.certificates, ...evidence.certificates]
  const judge = pathJudge([...new Map(known.map(each => [each.sha256, each])).values()])
  const trusting = trustingOf(state, before)
  const at = now.getTime()
  const needsThem = (holding: Holding): boolean => judge.until(holding, trusting, at).until < at

  let leaves = 0
  let unseen = 0
  const left: EvidenceGroup[] = []
  for (const group of evidence.groups) {
    // A ztunnel without workloads has no leaf.
    if (!presenting.has(group.consumer) || group.facts.state === 'no-identities') continue
    const holding = heldBy(group, place.tree.state, first)
    if (holding === null) unseen += group.count
    else {
      leaves += group.count
      if (group.facts.entries === 'differ' || needsThem(holding)) left.push(group)
    }
  }
  const begun = !needsThem(holdingOf(place.tree.state, ''))
  const ends = left.map(({ leavesExpire }) => leavesExpire?.last ?? null)
  return {
    site: evidence.site,
    before,
    roots,
    begun,
    leaves,
    left: left.reduce((sum, { count }) => sum + count, 0),
    // Some that could not be read stand in a group all the same.
    unseen: Math.max(unseen, unread(evidence)),
    clearedBy: begun && !ends.includes(null) ? (latest(ends) ?? null) : null,
    stragglers: left
      .map(({ consumer, owner, count, leavesExpire }) => ({ consumer, owner, count, ends: leavesExpire }))
      .sort((one, other) => lastFirst(one.ends?.last ?? null, other.ends?.last ?? null)),
    named: namedOf(left, evidence),
  }
}

/** Classes that present a leaf of the CA that is rotated. A Kyma gateway's is of another, and so is a webhook's. */
const presenting: ReadonlySet<ConsumerClass> = new Set([
  'istiod',
  'sidecar',
  'gateway',
  'waypoint',
  'ztunnel',
  'proxy',
  'control-plane',
  'node',
  'runtime',
])

interface Narrowing {
  /** State of the site after it. */
  readonly state: TrustState
  readonly roots: readonly Fingerprint[]
  readonly before: string
  /** What the site was adopted with: whoever has not renewed since has a leaf of its issuer. */
  readonly first: TrustState
}

/** The first step from which on a site's bundle lacks what it will lack in the end. */
function narrowingOf(plan: Plan, site: string): Narrowing | null {
  const steps = stepsOf(plan).flatMap(({ phase, step }) => {
    const state = step.sites[site]?.state
    return state === undefined ? [] : [{ phase: phase.number, step: step.number, state }]
  })
  const [first, last] = [steps[0]?.state, steps.at(-1)?.state]
  if (first === undefined || last === undefined) return null
  const roots = [...new Set(first.bundle)].filter(root => !last.bundle.includes(root))
  const step = steps.find(({ state }) => roots.every(root => !state.bundle.includes(root)))
  const at = step === undefined ? null : findStep(plan, step.phase, step.step)
  if (roots.length === 0 || step === undefined || at === null) return null
  return { state: step.state, roots, before: stepFolder(at), first }
}

/** By what its dates tell where its issuer was not seen, as of a runtime whose Secret may not be read; null: nothing tells. */
function heldBy({ presents, facts }: EvidenceGroup, present: TrustState, first: TrustState): Holding | null {
  const [issuer, ...chain] = presents ?? []
  if (issuer !== undefined) return holdingOf({ issuer, chain }, '')
  if (facts.renewed === undefined || facts.dates === 'unknown') return null
  return holdingOf(facts.renewed === 'true' ? present : first, '')
}

/** Consumers that are in no group, since they could not be looked at at all. */
function unread({ exceptions }: Evidence): number {
  const names = exceptions.flatMap(({ consumer, name, reason }) =>
    reason === 'unreadable' && presenting.has(consumer as ConsumerClass) ? [`${consumer} ${name}`] : [],
  )
  return new Set(names).size
}

function namedOf(left: readonly EvidenceGroup[], { exceptions }: Evidence): Drain['named'] {
  const classes = new Set<string>(left.map(({ consumer }) => consumer))
  const named = exceptions.flatMap(({ consumer, name, ends }) =>
    ends === undefined || !classes.has(consumer) ? [] : [{ consumer: consumer as ConsumerClass, name, ends }],
  )
  return named.sort((one, other) => lastFirst(one.ends, other.ends))
}

/** Those without an end come first: nobody knows how long they live. */
function lastFirst(one: Instant | null, other: Instant | null): number {
  const at = (ends: Instant | null): number => (ends === null ? Number.MAX_SAFE_INTEGER : Date.parse(ends))
  return at(other) - at(one)
}

function latest(instants: readonly (Instant | null)[]): Instant | undefined {
  return instants
    .flatMap(each => each ?? [])
    .sort()
    .at(-1)
}
