import type { Variant } from '../plan/steps.ts'
import type { Digest, Evidence, GateResult, Instant, Plan, ReportsChoice } from '../rotation.ts'
import { authorshipOf } from './authorship.ts'
import type { WrittenEvidence } from './evidence-file.ts'
import { whyForeign } from './judge.ts'
import { variantOf } from './planned.ts'
import { instantOf, short } from './values.ts'

/** What is asked of the report of a site whose cluster cannot be reached from here. */
export interface ReportDemand {
  readonly plan: Plan
  readonly site: string
  /** Where the site's folder stands. */
  readonly phase: number
  readonly step: number
  readonly variant: Variant
  readonly reports: ReportsChoice
  /** Lines of evidence.signers on the base branch. */
  readonly signers: readonly string[]
  readonly delivered: DeliveredHere
  /** When the newest evidence that is committed was seen; null: there is none. */
  readonly committedAt: Instant | null
  readonly now: Date
}

/** What this clone says of the commit that a report calls delivered: nobody's word is taken for what is in Git. */
export interface DeliveredHere {
  /** Of the site's folder at that commit; null: the commit is not in this clone, or has no such folder. */
  readonly treeDigest: Digest | null
  /** Whether it contains the merge of the step; null: nobody knows. */
  readonly holdsMerge: boolean | null
}

export interface NotTaken {
  readonly because: string
  readonly hint: string
}

/**
 * Why a report says nothing of the site as it is now; null: it is as good as a look of one's own, and its gates are judged like those of one. Pure.
 * An own look is of now, of this cluster's API server and of this clone's commits by itself; a report has to show each of these.
 */
export function whyNotTaken({ evidence, signature }: WrittenEvidence, demand: ReportDemand): NotTaken | null {
  const { plan, site, phase, step, now } = demand
  const foreign = whyForeign(plan, evidence, now)
  if (foreign !== null)
    return { because: foreign, hint: `see that ${jobOf(site)} runs this version, and that clocks agree` }
  if (evidence.site !== site)
    return { because: `it is about site ${evidence.site}`, hint: `see which site ${jobOf(site)} was given` }
  const authorship = whyNotSigned({ evidence, signature }, demand)
  if (authorship !== null) return authorship
  if (evidence.phase !== phase || evidence.step !== step || variantOfIts(plan, evidence) !== demand.variant)
    return {
      because: `it is about ${placeText(evidence.phase, evidence.step, variantOfIts(plan, evidence))}, and the folder is at ${placeText(phase, step, demand.variant)}`,
      hint: 'the next report will be about this step',
    }
  return whyNotOfNow(evidence, demand) ?? whyNotDelivered(evidence, demand)
}

function whyNotSigned(
  { evidence, signature }: WrittenEvidence,
  { signers, reports, site }: ReportDemand,
): NotTaken | null {
  const { kind, by, why } = authorshipOf(evidence, signature, signers)
  const hint = `give ${jobOf(site)} the key of one of evidence.signers (REANCHOR_SIGNING_KEY_FILE)`
  if (kind === 'refused') return { because: why ?? 'its signature does not hold', hint }
  if (kind === 'unsigned' && signers.length > 0) return { because: 'it is unsigned, and evidence.signers is set', hint }
  if (reports.signer === null || by === reports.signer) return null
  return {
    because: `it is signed by ${by ?? 'nobody'}, and only ${reports.signer} may sign the reports of this site`,
    hint,
  }
}

function whyNotOfNow(evidence: Evidence, { reports, site, committedAt, now }: ReportDemand): NotTaken | null {
  const from = Date.parse(evidence.from)
  if (now.getTime() - from > reports.within)
    return {
      because: `it was begun at ${evidence.from}, longer ago than the ${reports.within / 60_000} minutes that are allowed`,
      hint: `see why ${jobOf(site)} has not reported since: kubectl --namespace reanchor get jobs; and that the cluster's clock is right`,
    }
  if (committedAt === null || Date.parse(evidence.to) >= Date.parse(committedAt)) return null
  return {
    because: `it is from ${evidence.to}, and evidence from ${committedAt} is committed already`,
    hint: 'an older report was put in the place of a newer one: find out who pushes it',
  }
}

/** Only of a report that calls the step applied: one that does not says by itself that the delivery is not through. */
function whyNotDelivered(evidence: Evidence, { plan, delivered }: ReportDemand): NotTaken | null {
  const { revision, treeDigest } = evidence.delivery
  if (revision === null || treeDigest === null) return null
  if ((plan.formerDigests[treeDigest] ?? treeDigest) !== evidence.treeDigest) return null
  const hint = 'fetch the base branch into this clone and look again'
  if (delivered.treeDigest === null)
    return { because: `it calls commit ${short(revision)} applied, whose folder is not in this clone`, hint }
  if (delivered.treeDigest !== treeDigest)
    return {
      because: `it says that commit ${short(revision)} has tree ${short(treeDigest)}, and it has ${short(delivered.treeDigest)}`,
      hint: 'the report does not fit to this repository: find out who pushes it',
    }
  if (delivered.holdsMerge !== false) return null
  return {
    because: `the commit that it calls applied, ${short(revision)}, does not contain the merge of this step`,
    hint,
  }
}

function variantOfIts(plan: Plan, { site, phase, step, treeDigest }: Evidence): Variant | null {
  return variantOf(plan, site, phase, step, treeDigest)
}

function placeText(phase: number, step: number, variant: Variant | null): string {
  return `phase ${phase} step ${step}${variant === null || variant === 'step' ? '' : ` (${variant})`}`
}

function jobOf(site: string): string {
  return `the Job that runs \`reanchor observe --site ${site}\``
}

const claim = 'a young report from the cluster, about this step, stands for a look'

/** Of a site with `cluster.reports`; `notTaken` null: its report was taken. */
export function reportGate(site: string, notTaken: NotTaken | null, now: Date): GateResult {
  const holds = notTaken === null
  return {
    id: 'evidence/report',
    site,
    claim,
    verdict: holds ? 'holds' : 'unknown',
    because: holds ? [] : [notTaken.because],
    hint: holds ? null : notTaken.hint,
    retryAt: holds ? null : instantOf(new Date(now.getTime() + 60_000)),
    counted: null,
  }
}

export function noReport(site: string, ref: string, rotation: string): NotTaken {
  return {
    because: `${ref} holds no report of ${rotation}`,
    hint: `let ${jobOf(site)} run in the cluster (docs/runner.md)`,
  }
}
