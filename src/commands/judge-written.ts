import type { GateResult } from '../rotation.ts'
import { type Authorship, authorshipOf } from '../verify/authorship.ts'
import type { WrittenEvidence } from '../verify/evidence-file.ts'
import type { Attestation } from '../verify/gate.ts'
import { judge } from '../verify/judge.ts'
import { variantOf } from '../verify/planned.ts'
import { readAttestations } from './attest.ts'
import type { Context } from './context.ts'
import { type CommittedEvidence, committedEvidence, newestEvidence, presentAt, whyOutOfOrder } from './evidence.ts'
import type { OpenRotation } from './rotation.ts'

export interface SiteAuthorship extends Authorship {
  readonly site: string
}

export interface JudgedWritten {
  readonly gates: readonly GateResult[]
  readonly authorship: readonly SiteAuthorship[]
}

/** What the repository tells beside the evidence that is judged. */
export interface WrittenScene {
  readonly committed: readonly CommittedEvidence[]
  readonly words: readonly Attestation[]
  /** No earlier than the real one. */
  readonly present: Date
}

/** Judges evidence as the look that wrote it did, from the repository alone: see `judgedWritten`. */
export async function judgeWritten(
  context: Context,
  rotation: OpenRotation,
  written: readonly WrittenEvidence[],
  asOf: Date | null,
): Promise<JudgedWritten> {
  const { plan, declaration, commit, snapshot } = rotation
  const present = await presentAt(context.repository, [commit], context.now())
  const committed = await committedEvidence(snapshot, { plan, signers: declaration.evidence.signers, present })
  const words = await readAttestations(snapshot, rotation.name)
  return judgedWritten(rotation, written, asOf, { committed, words, present })
}

/** As of when it was seen, unless `asOf` names another time. What is from a time to come is judged as of the present, which is `unknown`. Pure. */
export function judgedWritten(
  { plan, declaration }: OpenRotation,
  written: readonly WrittenEvidence[],
  asOf: Date | null,
  { committed, words, present }: WrittenScene,
): JudgedWritten {
  const { signers } = declaration.evidence
  const clusters = Object.fromEntries(
    [...newestEvidence(committed)].map(([site, one]) => [site, one.evidence.cluster.uid]),
  )
  const evidence = written.map(each => each.evidence)
  const signatures = Object.fromEntries(
    written.flatMap(each => (each.signature === null ? [] : [[each.evidence.site, each.signature]])),
  )
  const gates = evidence.flatMap(each => {
    const { phase, step, site, to, treeDigest } = each
    const seen = new Date(to)
    const at = asOf ?? (seen.getTime() > present.getTime() ? present : seen)
    // A word that was given afterwards did not open the step.
    const attestations = words.filter(word => word.at === undefined || Date.parse(word.at) <= seen.getTime())
    const variant = variantOf(plan, site, phase, step, treeDigest) ?? 'step'
    const options = { phase, step, variant, sites: [site], clusters, attestations, signers, signatures }
    return [...judge(plan, evidence, at, options).gates, ...orderGate(site, whyOutOfOrder(plan, committed, each))]
  })
  const authorship = written.map(each => ({
    site: each.evidence.site,
    ...authorshipOf(each.evidence, each.signature, signers),
  }))
  return { gates, authorship }
}

/** None where nothing speaks against it: then the gates are those of the look itself. */
function orderGate(site: string, why: string | null): readonly GateResult[] {
  if (why === null) return []
  return [
    {
      id: 'evidence/order',
      site,
      claim: 'the evidence is later than that of the steps before',
      verdict: 'unknown',
      because: [why],
      hint: 'take the file as it was committed for this step',
      retryAt: null,
      counted: null,
    },
  ]
}
