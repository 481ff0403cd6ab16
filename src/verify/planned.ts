import { plannedTree, type Variant, variants } from '../plan/steps.ts'
import type { Digest, Plan, PlannedTree, TrustState } from '../rotation.ts'
import { sha256 } from './values.ts'

export interface PlannedPlace {
  readonly phase: number
  readonly step: number
  readonly stepName: string
  readonly variant: Variant
  readonly tree: PlannedTree
  /** The last step of its phase, or a variant: then the whole state must have reached every consumer. */
  readonly full: boolean
  /** What the folder declared before this phase; null at the first. */
  readonly before: TrustState | null
}

/**
 * What a site's folder declares at a step, or null where that step is not planned for the site at all.
 * A phase that changes no site (the closing one) leaves what was declared last.
 */
export function plannedAt(
  plan: Plan,
  site: string,
  phase: number,
  step: number,
  variant: Variant = 'step',
): PlannedPlace | null {
  let found: PlannedPlace | null = null
  let declared: TrustState | null = null
  for (const { number: phaseNumber, steps } of plan.phases) {
    if (phaseNumber > phase) break
    const before = declared
    for (const [index, planned] of steps.entries()) {
      if (phaseNumber === phase && planned.number > step) break
      const tree = plannedTree(planned.sites[site], phaseNumber === phase && planned.number === step ? variant : 'step')
      if (tree === null) continue
      const isVariant = phaseNumber === phase && planned.number === step && variant !== 'step'
      found = {
        phase: phaseNumber,
        step: planned.number,
        stepName: planned.name,
        variant: isVariant ? variant : 'step',
        tree,
        full: isVariant || index === steps.length - 1,
        before,
      }
      declared = tree.state
    }
  }
  return found?.variant === variant ? found : null
}

/**
 * What consumers had before a place: before a phase what it began with, before an undo the step that it takes back, whose CA they may hold
 * certificates of by now. Null: nothing is known.
 */
export function stoodBefore({ phases }: Pick<Plan, 'phases'>, place: PlannedPlace): TrustState | null {
  if (place.variant !== 'undo') return place.before
  const { phase, step, tree } = place
  const undone = phases.find(({ number }) => number === phase)?.steps.find(({ number }) => number === step)
  return Object.values(undone?.sites ?? {}).find(({ undo }) => undo?.digest === tree.digest)?.state ?? null
}

/** Which variant of a step has this digest; a digest from before the step was sealed again counts as the present one. */
export function variantOf(plan: Plan, site: string, phase: number, step: number, digest: Digest): Variant | null {
  const present = plan.formerDigests[digest] ?? digest
  for (const variant of variants) {
    if (plannedAt(plan, site, phase, step, variant)?.tree.digest === present) return variant
  }
  return null
}

/** Bytes of root-cert.pem as the folder delivers it, and as istiod copies it into every namespace. */
export function bundleBytes(plan: Pick<Plan, 'certificates'>, state: TrustState): string {
  const pems = new Map(plan.certificates.map(({ sha256: fingerprint, pem }) => [fingerprint, pem]))
  return state.bundle.map(fingerprint => pems.get(fingerprint) ?? '').join('')
}

/**
 * What an attestation is bound to: the bundle of all sites at a step. Where they differ, as by a further CA that one site trusts, it is all of them, so that
 * one word is enough for all.
 */
export function vouchedBundle(
  plan: Pick<Plan, 'certificates' | 'phases'>,
  { phase, step, variant }: Pick<PlannedPlace, 'phase' | 'step' | 'variant'>,
): Digest {
  const planned = plan.phases.find(({ number }) => number === phase)?.steps.find(({ number }) => number === step)
  const trees = Object.values(planned?.sites ?? {}).map(site => plannedTree(site, variant) ?? site)
  const digests = [...new Set(trees.map(({ state }) => bundleDigest(plan, state)))].sort()
  return digests.length === 1 ? (digests[0] as Digest) : sha256(digests.join('\n'))
}

export function bundleDigest(plan: Pick<Plan, 'certificates'>, state: TrustState): Digest {
  return sha256(bundleBytes(plan, state))
}
