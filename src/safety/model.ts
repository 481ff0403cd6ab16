import type { Fingerprint, Plan, TrustState } from '../rotation.ts'
import type { SafetyModel } from '../systems/system.ts'
import { isSystemName, systemOf } from '../systems/systems.ts'

/** A link: who presents, who verifies, and whether the two may stand in different sites. */
export interface Link {
  readonly name: string
  readonly holder: string
  readonly verifier: string
  readonly acrossSites: boolean
}

/** Who meets whom in the plan's system. A plan of a system that is not known here proves nothing. */
export function modelOf(plan: Pick<Plan, 'system'>): SafetyModel {
  if (!isSystemName(plan.system)) throw new Error(`unknown system ${String(plan.system)}`)
  return systemOf(plan.system).model
}

/** What a holder may present: the CA that signed its leaf, and the intermediates that are served with it. */
export interface Holding {
  /** Where it stands, if not where the rest of its mix does. */
  readonly site?: string
  readonly at: string
  readonly issuer: Fingerprint
  readonly chain: readonly Fingerprint[]
}

/** What a verifier may trust: a set, sorted. */
export interface Trusting {
  /** As for a holding. */
  readonly site?: string
  readonly at: string
  readonly anchors: readonly Fingerprint[]
}

export function holdingOf(state: Pick<TrustState, 'issuer' | 'chain'>, at: string): Holding {
  return { at, issuer: state.issuer, chain: state.chain }
}

export function trustingOf(state: Pick<TrustState, 'bundle'>, at: string): Trusting {
  return { at, anchors: [...new Set(state.bundle)].sort() }
}

export function holdingKey(holding: Pick<Holding, 'issuer' | 'chain'>): string {
  return `${holding.issuer} ${holding.chain.join(' ')}`
}

export function trustingKey(trusting: Pick<Trusting, 'anchors'>): string {
  return trusting.anchors.join(' ')
}
