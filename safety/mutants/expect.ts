import type { Fingerprint, Plan, SystemName, TrustState } from '../../src/rotation.ts'

/**
 * What must go wrong in a plan, told by sets alone: which root each issuer needs, and who may meet whom. It opens no certificate and shares
 * nothing with the proof that it is held against.
 */
export type PlanReason = 'no-path' | 'trusts-nothing' | 'moves-both'

/** Root that each issuer's leaves need. */
export type Needs = ReadonlyMap<Fingerprint, Fingerprint>

/** Facts of the systems, from docs: whose parties meet across sites, and where one object is both trust and issuer to its consumers. */
const meetsAcross: Readonly<Record<SystemName, boolean>> = { istio: true, linkerd: true, cassandra: true, kyma: false }
const movesBoth: Readonly<Record<SystemName, boolean>> = { istio: false, linkerd: false, cassandra: true, kyma: true }

type Stands = ReadonlyMap<string, readonly TrustState[]>

export function planReasons(plan: Plan, needs: Needs): ReadonlySet<PlanReason> {
  const found = new Set<PlanReason>()
  for (const { window, moves } of windowsOf(plan)) {
    for (const reason of mixReasons(plan.system, window, needs)) found.add(reason)
    if (movesBoth[plan.system]) continue
    for (const [before, after] of moves)
      if (before.issuer !== after.issuer && setOf(before) !== setOf(after)) found.add('moves-both')
  }
  return found
}

/** Reasons in a mix of states per site. */
export function mixReasons(system: SystemName, window: Stands, needs: Needs): ReadonlySet<PlanReason> {
  const found = new Set<PlanReason>()
  for (const [holderSite, held] of window)
    for (const [verifierSite, trusted] of window) {
      if (holderSite !== verifierSite && !meetsAcross[system]) continue
      for (const { issuer } of held)
        for (const { bundle } of trusted) {
          if (bundle.length === 0) found.add('trusts-nothing')
          else if (!bundle.includes(needs.get(issuer) ?? '')) found.add('no-path')
        }
    }
  return found
}

function setOf({ bundle }: TrustState): string {
  return [...new Set(bundle)].sort().join()
}

/** For every step: all states that parties of each site may be in while it is entered, taken back or nudged, and each single move. */
function windowsOf(
  plan: Plan,
): readonly { readonly window: Stands; readonly moves: readonly (readonly [TrustState, TrustState])[] }[] {
  const present = new Map<string, TrustState>()
  let window = new Map<string, TrustState[]>()
  const found: { window: Stands; moves: [TrustState, TrustState][] }[] = []
  for (const { steps } of plan.phases) {
    const filled = steps.filter(({ sites }) => Object.keys(sites).length > 0)
    for (const { sites } of filled) {
      const moves: [TrustState, TrustState][] = []
      const whole = new Map<string, TrustState[]>()
      for (const { name } of plan.sites) {
        const own = sites[name]
        const before = present.get(name)
        if (own !== undefined) {
          if (before !== undefined) moves.push([before, own.state])
          for (const way of [own.undo, own.nudge]) if (way !== null) moves.push([own.state, way.state])
          present.set(name, own.state)
        }
        const now = present.get(name)
        if (now === undefined) continue
        window.set(name, [...(window.get(name) ?? []), now])
        const ways = [own?.undo, own?.nudge].flatMap(way => (way == null ? [] : [way.state]))
        whole.set(name, [...(window.get(name) ?? []), ...ways])
      }
      found.push({ window: whole, moves })
    }
    // The gate at the end of a phase has seen everyone: only where it stands counts from there on.
    if (filled.length > 0) window = new Map([...present].map(([site, state]) => [site, [state]]))
  }
  return found
}
