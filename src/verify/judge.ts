import type { Variant } from '../plan/steps.ts'
import type { Evidence, GateResult, Instant, Plan, Verdict } from '../rotation.ts'
import { authorshipOf } from './authorship.ts'
import { type Attestation, gatesFor } from './gate.ts'
import { damagedReason, observationDigest } from './observation.ts'
import { plannedAt, variantOf } from './planned.ts'
import { instantOf } from './values.ts'
import { worst } from './verdict.ts'

export interface Judgement {
  readonly verdict: Verdict
  readonly gates: readonly GateResult[]
  /** The earliest instant at which looking again may change it, or null. */
  readonly retryAt: Instant | null
}

export interface JudgeOptions {
  /** The step that is judged. @default the one that the first evidence is about */
  readonly phase?: number
  readonly step?: number
  /** Sites that must have evidence. @default every site of the step */
  readonly sites?: readonly string[]
  /** Which tree of the step must stand in the folders. @default whichever of step, undo and nudge the evidence is about */
  readonly variant?: Variant
  /** UID of each site's cluster as seen before. @default none known */
  readonly clusters?: Readonly<Record<string, string>>
  /** @default none given */
  readonly attestations?: readonly Attestation[]
  /** The evidence was gathered a moment ago: where it looks stale all the same, a clock is wrong. @default false */
  readonly live?: boolean
  /** Lines of an allowed-signers file: evidence that none of them signed is `unknown`. @default evidence need not be signed */
  readonly signers?: readonly string[]
  /** By site: the signature that its evidence came with. @default none */
  readonly signatures?: Readonly<Record<string, string>>
}

/** An API server's clock may run ahead of ours by this much before its times are called future ones. */
const skew = 60_000

/**
 * Whether the next step may open: every gate of the step holds at every site. Pure.
 * Evidence that is missing, stale, partial, damaged, of another cluster or of a future time is `unknown`, and unknown never opens a step.
 */
export function judge(plan: Plan, evidence: readonly Evidence[], now: Date, options: JudgeOptions = {}): Judgement {
  const phase = options.phase ?? evidence[0]?.phase ?? 0
  const step = options.step ?? evidence[0]?.step ?? 1
  const sites = options.sites ?? sitesOf(plan, phase, step)
  const results: GateResult[] = []
  if (sites.length === 0) {
    const because = `the plan has no site at phase ${phase} step ${step}`
    results.push(result('evidence/present', '', 'there is evidence of every site', 'unknown', [because], null))
  }
  for (const site of sites) {
    const ours = evidence.filter(one => one.site === site)
    const [looked] = ours
    if (looked === undefined || ours.length > 1) {
      const because =
        looked === undefined ? `no evidence of site ${site}` : `${ours.length} pieces of evidence of site ${site}`
      results.push(
        result(
          'evidence/present',
          site,
          'there is evidence of the site',
          'unknown',
          [because],
          'run `reanchor verify`',
        ),
      )
      continue
    }
    const damage = damageOf(looked)
    if (damage !== null) {
      // Nothing in it is worth a verdict of its own, a bad one as little as a good one.
      const hint = 'run `reanchor verify` to look again'
      results.push(result('evidence/intact', site, 'the evidence is as it was written', 'unknown', [damage], hint))
      continue
    }
    results.push(...judgeEvidence(plan, looked, evidence, now, { ...options, phase, step }))
    const variant = options.variant ?? variantOf(plan, site, phase, step, looked.treeDigest) ?? 'step'
    const context = { plan, now, attestations: options.attestations ?? [] }
    const gates = gatesFor(plan, phase, step, variant)
    if (gates.length === 0) {
      const because = `phase ${phase} step ${step} is not planned`
      results.push(result('evidence/step', site, 'the step is planned', 'unknown', [because], null))
    }
    results.push(...gates.map(gate => gate.judge(looked, context)))
    results.push(judgeHold(plan, looked, now), judgeSettled(plan, looked))
  }
  const verdict = worst(results.map(gate => gate.verdict))
  return { verdict, gates: results, retryAt: verdict === 'holds' ? null : earliest(results) }
}

function sitesOf(plan: Plan, phase: number, step: number): readonly string[] {
  const planned = plan.phases.find(({ number }) => number === phase)?.steps.find(({ number }) => number === step)
  const named = Object.keys(planned?.sites ?? {})
  if (named.length > 0) return named.sort()
  return plan.sites.filter(({ name }) => plannedAt(plan, name, phase, step) !== null).map(({ name }) => name)
}

function judgeEvidence(
  plan: Plan,
  evidence: Evidence,
  all: readonly Evidence[],
  now: Date,
  options: JudgeOptions & { readonly phase: number; readonly step: number },
): readonly GateResult[] {
  const { site } = evidence
  return [
    result('evidence/step', site, 'the evidence is about this step', ...judgeStep(plan, evidence, options)),
    result(
      'evidence/cluster',
      site,
      'the evidence is from this cluster',
      ...judgeCluster(plan, evidence, all, options.clusters ?? {}),
    ),
    result('evidence/fresh', site, 'the evidence is fresh', ...judgeFresh(plan, evidence, now, options.live === true)),
    result('evidence/complete', site, 'the evidence is whole', ...judgeComplete(evidence)),
    ...((options.signers ?? []).length === 0
      ? []
      : [
          result(
            'evidence/signed',
            site,
            'one of the signers has signed the evidence',
            ...judgeSigned(evidence, options),
          ),
        ]),
  ]
}

type Finding = readonly [verdict: Verdict, because: readonly string[], hint: string | null]

const holding: Finding = ['holds', [], null]

function judgeStep(
  plan: Plan,
  evidence: Evidence,
  options: JudgeOptions & { readonly phase: number; readonly step: number },
): Finding {
  const { phase, step, treeDigest, rotation, site } = evidence
  if (rotation !== plan.metadata.name) return ['unknown', [`it is about rotation ${rotation}`], null]
  if (phase !== options.phase || step !== options.step)
    return ['unknown', [`it is about phase ${phase} step ${step}`], null]
  const variant = variantOf(plan, site, phase, step, treeDigest)
  if (variant === null) return ['unknown', [`tree ${treeDigest} is not planned at this step`], null]
  if (options.variant === undefined || variant === options.variant) return holding
  return ['unknown', [`it is about the step's ${variant}, not its ${options.variant}`], null]
}

function judgeCluster(
  plan: Plan,
  evidence: Evidence,
  all: readonly Evidence[],
  clusters: Readonly<Record<string, string>>,
): Finding {
  const { uid } = evidence.cluster
  if (uid === '') return ['unknown', ['the cluster does not say who it is'], null]
  const hint = "check the site's `cluster` in rotation.yaml: the context may point elsewhere now"
  // Whoever planned may have had another context than whoever looks: one of the two has the wrong cluster (F27).
  const planned = plan.sites.find(({ name }) => name === evidence.site)?.cluster
  if (planned !== undefined && planned !== uid)
    return ['unknown', [`cluster ${uid}, but the plan replaces the CA of ${planned}`], hint]
  const known = clusters[evidence.site]
  if (known !== undefined && known !== uid)
    return ['unknown', [`cluster ${uid}, but earlier evidence is from ${known}`], hint]
  const twin = all.find(other => other.site !== evidence.site && other.cluster.uid === uid)
  if (twin !== undefined) return ['unknown', [`cluster ${uid} is also what site ${twin.site} shows`], hint]
  return holding
}

function judgeFresh(plan: Plan, evidence: Evidence, now: Date, live: boolean): Finding {
  const from = Date.parse(evidence.from)
  const to = Date.parse(evidence.to)
  if (Number.isNaN(from) || Number.isNaN(to) || from > to)
    return ['unknown', [`from ${evidence.from} to ${evidence.to} is no span of time`], null]
  if (to > now.getTime() + skew) {
    return ['unknown', [`it is from ${evidence.to}, and now is ${instantOf(now)}`], clocksHint]
  }
  const change = evidence.lastChange === null ? Number.NEGATIVE_INFINITY : Date.parse(evidence.lastChange)
  if (Number.isNaN(change) || change > to + skew)
    return ['unknown', [`its last change, ${evidence.lastChange ?? ''}, is in the future`], writersHint]
  if (now.getTime() - from > plan.gates.fresh) {
    if (live) {
      const because = `the API server said ${evidence.to} a moment ago, and this machine says ${instantOf(now)}`
      return ['unknown', [because], clocksHint]
    }
    return [
      'unknown',
      [`it was begun at ${evidence.from}, longer ago than gates.fresh`],
      'run `reanchor verify` to look again',
    ]
  }
  return holding
}

const clocksHint = 'set the clocks: this machine and the API server disagree'
const writersHint = 'set the clocks of the cluster: its API server and what wrote there last disagree'

function judgeComplete(evidence: Evidence): Finding {
  if (evidence.complete) return holding
  const because = 'a list came back incomplete, so what is absent proves nothing'
  return ['unknown', [because], 'the exceptions say which list, and why']
}

function judgeSigned(evidence: Evidence, { signers = [], signatures = {} }: JudgeOptions): Finding {
  const { kind, why } = authorshipOf(evidence, signatures[evidence.site] ?? null, signers)
  if (kind === 'signed') return holding
  const because = kind === 'unsigned' ? 'it is unsigned, and evidence.signers is set' : (why ?? kind)
  return ['unknown', [because], 'run `reanchor verify` to look again; whoever runs `next` gives --signing-key']
}

/**
 * Why a piece of evidence says nothing of this rotation, whatever its verdict would be: it is damaged, another rotation's or plan's, or from a
 * time to come. Null: none of these.
 */
export function whyForeign(plan: Plan, evidence: Evidence, present: Date): string | null {
  const damage = damageOf(evidence)
  if (damage !== null) return damage
  const { phase, step, site, treeDigest, rotation, to } = evidence
  if (rotation !== plan.metadata.name) return `it is about rotation ${rotation}`
  if (variantOf(plan, site, phase, step, treeDigest) === null) return `tree ${treeDigest} is not planned at its step`
  if (Date.parse(to) > present.getTime() + skew) return `it is from ${to}, and now is ${instantOf(present)}`
  return null
}

function damageOf(evidence: Evidence): string | null {
  const damaged = evidence.exceptions.find(({ reason }) => reason === damagedReason)
  if (damaged !== undefined) return damaged.detail
  if (observationDigest(evidence) === evidence.observation) return null
  return 'its content does not match its digest: it is damaged or was edited'
}

function judgeHold(plan: Plan, evidence: Evidence, now: Date): GateResult {
  const claim = 'the last change lies back long enough'
  const { hold } = plan.gates
  const { site, lastChange } = evidence
  if (hold === 0) return result('evidence/hold', site, claim, 'holds', [], null)
  if (lastChange === null) {
    const because = 'the cluster shows no time of a change'
    return result('evidence/hold', site, claim, 'unknown', [because], null)
  }
  // Held against the end of the observation: what happened after it is not known.
  const until = Date.parse(lastChange) + hold
  if (until <= Date.parse(evidence.to)) return result('evidence/hold', site, claim, 'holds', [], null)
  const retryAt = instantOf(new Date(Math.max(until, now.getTime())))
  return result(
    'evidence/hold',
    site,
    claim,
    'pending',
    [`last change at ${lastChange}, holds from ${retryAt}`],
    null,
    retryAt,
  )
}

function judgeSettled(plan: Plan, evidence: Evidence): GateResult {
  const claim = 'two observations some time apart agree'
  const { site, agreesWith } = evidence
  const { settle } = plan.gates
  if (settle === 0) return result('evidence/settled', site, claim, 'holds', [], null)
  if (agreesWith === null) {
    const retryAt = instantOf(new Date(Date.parse(evidence.to) + settle))
    return result('evidence/settled', site, claim, 'pending', ['no earlier observation agrees with it'], null, retryAt)
  }
  const because: string[] = []
  if (agreesWith.observation !== evidence.observation) because.push('the earlier observation is another one')
  if (Date.parse(agreesWith.at) > Date.parse(evidence.from))
    because.push('the observation that agrees is not the earlier one')
  const until = Date.parse(agreesWith.at) + settle
  if (because.length > 0) return result('evidence/settled', site, claim, 'unknown', because, null)
  if (until <= Date.parse(evidence.from)) return result('evidence/settled', site, claim, 'holds', [], null)
  return result(
    'evidence/settled',
    site,
    claim,
    'pending',
    [`the observation that agrees is from ${agreesWith.at}`],
    null,
    instantOf(new Date(until)),
  )
}

function result(
  id: string,
  site: string,
  claim: string,
  verdict: Verdict,
  because: readonly string[],
  hint: string | null,
  retryAt: Instant | null = null,
): GateResult {
  return { id, site, claim, verdict, because, hint, retryAt, counted: null }
}

function earliest(results: readonly GateResult[]): Instant | null {
  const times = results.flatMap(({ retryAt }) => (retryAt === null ? [] : [retryAt]))
  return times.sort((one, other) => Date.parse(one) - Date.parse(other))[0] ?? null
}
