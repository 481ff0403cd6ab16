import type { Variant } from '../plan/steps.ts'
import type { Evidence, GateResult, Instant, Plan, Verdict } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import { type PlannedPlace, plannedAt, variantOf } from './planned.ts'
import { instantOf, short } from './values.ts'

/** A person's word for consumers that no API shows; it counts for one bundle only. */
export interface Attestation {
  readonly name: string
  readonly phase: number
  /** SHA-256 of the root bundle's bytes that the word was given for. */
  readonly bundle: string
  /** When it was given, for systems in which it is about what has happened until then. */
  readonly at?: Instant
}

export interface GateContext {
  readonly plan: Plan
  readonly now: Date
  readonly attestations: readonly Attestation[]
}

/** One condition for leaving a step, about one site. Pure: it reads what it is handed and nothing else. */
export interface Gate {
  readonly id: string
  readonly claim: string
  readonly hint: string
  judge(evidence: Evidence, context: GateContext): GateResult
}

export interface Judged {
  readonly verdict: Verdict
  readonly because: readonly string[]
  readonly retryAt?: Instant | null
  readonly counted?: GateResult['counted']
  readonly hint?: string
}

export interface Case extends GateContext {
  readonly evidence: Evidence
  readonly place: PlannedPlace
}

/** What a system judges at one place. */
export interface Rule {
  readonly id: string
  readonly claim: string
  readonly hint: string
  judge(subject: Case): Judged
}

/**
 * The gates of one step, in the order in which a roll-out fulfils them. What each expects is derived from the state that the
 * evidence's tree declares, so steps, undos and nudges of every strategy have the gates that fit them.
 */
export function gatesFor(plan: Plan, phase: number, step: number, variant?: Variant): readonly Gate[] {
  const site = plan.sites.find(({ name }) => plannedAt(plan, name, phase, step, variant) !== null)
  const place = site === undefined ? null : plannedAt(plan, site.name, phase, step, variant)
  if (place === null) return []
  return systemOf(plan.system)
    .rules(plan, place)
    .map(rule => gateOf(rule, phase, step))
}

function gateOf(rule: Rule, phase: number, step: number): Gate {
  const { id, claim, hint } = rule
  return {
    id,
    claim,
    hint,
    judge(evidence, context) {
      const judged = judgeRule(rule, evidence, context, phase, step)
      const { verdict } = judged
      return {
        id,
        site: evidence.site,
        claim,
        verdict,
        because: verdict === 'holds' ? [] : judged.because.length > 0 ? judged.because : [claim],
        hint: verdict === 'holds' ? null : (judged.hint ?? hint),
        retryAt: verdict === 'holds' || verdict === 'violated' ? null : (judged.retryAt ?? soon(context.now)),
        counted: judged.counted ?? null,
      }
    },
  }
}

function judgeRule(rule: Rule, evidence: Evidence, context: GateContext, phase: number, step: number): Judged {
  const { plan } = context
  const about = `evidence is about phase ${evidence.phase} step ${evidence.step} of ${evidence.rotation}`
  if (evidence.rotation !== plan.metadata.name || evidence.phase !== phase || evidence.step !== step) {
    return { verdict: 'unknown', because: [about] }
  }
  const variant = variantOf(plan, evidence.site, phase, step, evidence.treeDigest)
  const place = variant === null ? null : plannedAt(plan, evidence.site, phase, step, variant)
  if (place === null) {
    return {
      verdict: 'unknown',
      because: [`evidence is about tree ${short(evidence.treeDigest)}, which is not planned here`],
    }
  }
  return rule.judge({ ...context, evidence, place })
}

function soon(now: Date): Instant {
  return instantOf(new Date(now.getTime() + 30_000))
}
