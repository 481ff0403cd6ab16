import { type PlanStep, stepFolder, stepsOf } from '../plan/steps.ts'
import { leastTime } from '../plan/time-left.ts'
import { listed, plural } from '../report/escape.ts'
import { spanText } from '../report/span.ts'
import type { CertificateFacts, Evidence, Instant, Plan, TrustState, Verdict } from '../rotation.ts'
import { holdingOf, modelOf, trustingOf } from './model.ts'
import { type PathJudge, pathJudge } from './paths.ts'
import { instant, proveUndo } from './prove.ts'

/** Until when one step can be taken back, and why no longer: plain data, and its own JSON. */
export interface UndoWindow {
  /** `3-issue-new/1-data`; null where nothing can be taken back. */
  readonly step: string | null
  readonly sites: readonly string[]
  /**
   * `holds`: safe if it is begun now. `pending`: it becomes safe by itself, at `from`. `violated`: it is not safe, or there is no way back.
   * `unknown`: it depends on leaves that were not looked at.
   */
  readonly verdict: Verdict
  /** When the last leaf has ended that it would cut off; null: it need not be waited for, or nobody knows. */
  readonly from: Instant | null
  /** The last instant at which it can begin and be over in time; null: no date ends it. */
  readonly until: Instant | null
  /** The step that ends it: from its merge on that one is taken back first. `close` is the closing pull request. Null: there is no way back. */
  readonly before: string | null
  /** Why until then, or why not: whole sentences, without the last full stop. */
  readonly because: string
  /** `evidence`: what was seen of the sites counted. `plan`: only what the plan says anyone may present and trust. */
  readonly judged: 'plan' | 'evidence'
}

export interface UndoQuestion {
  readonly plan: Plan
  readonly at: PlanStep
  readonly sites: readonly string[]
  /** Sites have gone back once already: then leaves of the phase taken back may live, which the plan alone cannot tell. @default false */
  readonly undone?: boolean
  /** What was seen of the sites; empty: the plan alone is asked. */
  readonly evidence: readonly Evidence[]
  readonly now: Date
}

/**
 * Until when the undo of one step is safe: the proof of that very way back over time, less the time that it takes. What was seen counts beside the plan:
 * a leaf that the bundle of before would refuse, or a verifier that would refuse the issuer of before. Pure.
 */
export function undoWindow(question: UndoQuestion): UndoWindow {
  const { plan, at, sites, evidence, now } = question
  const step = stepFolder(at)
  const judged = evidence.length > 0 ? 'evidence' : 'plan'
  const window = (verdict: Verdict, because: string, from: Instant | null, until: Instant | null): UndoWindow => ({
    step,
    sites,
    verdict,
    from,
    until,
    before: stepAfter(plan, at),
    because,
    judged,
  })
  const targets = new Map(sites.flatMap(site => targetOf(at, site)))
  if (targets.size === 0) return noWayBack(plan, at, sites)
  const rows = proveUndo(plan, { phase: at.phase.number, step: at.step.number }, now)
  const broken = rows.find(row => row.counterexample !== null)?.counterexample ?? null
  if (broken !== null) return window('violated', withoutStop(broken.sentence), null, null)

  const ends = rows.flatMap(row => (row.goodUntil === null ? [] : [row.goodUntil])).sort()[0] ?? null
  const length = leastTime(plan, true)
  const until = ends === null ? null : instant(Date.parse(ends) - length)
  const limit =
    ends === null
      ? ''
      : `${endingText(plan.certificates, ends)}, and until every leaf has gone back too ${spanText(length)} pass at the least`
  if (until === null ? ends !== null : Date.parse(until) < now.getTime())
    return window('violated', `it is too late: ${limit}`, null, until)

  const seen = seenAgainst(question, targets)
  if (seen !== null) return window(seen.verdict, seen.because, seen.from, until)
  if (question.undone === true && evidence.length === 0) {
    const because =
      'what was taken back before may still have leaves that this way back cuts off, and nobody has looked: see `reanchor status --live`'
    return window('unknown', because, null, until)
  }
  return window('holds', ends === null ? 'no certificate that it needs has an end' : limit, null, until)
}

/** That nothing can be taken back, and why: at `adopt`, after a restart that moved no trust, in an emergency, once the rotation is closed. */
export function noWayBack(plan: Plan, at: PlanStep | null, sites: readonly string[], closed = false): UndoWindow {
  return {
    step: at === null ? null : stepFolder(at),
    sites,
    verdict: 'violated',
    from: null,
    until: null,
    before: null,
    because: closed ? closedText : whyNone(plan, at),
    judged: 'plan',
  }
}

const closedText =
  'the rotation is closed, and the copies of its steps are gone: going back to the old root is a new rotation'

function whyNone({ strategy }: Plan, at: PlanStep | null): string {
  if (at === null) return 'no site is at a step yet'
  if (at.phase.number === 0)
    return 'adopt changes no trust: `reanchor abandon` closes the rotation, and what runs stays as it is'
  if (strategy === 'emergency') return 'an emergency has none: it would trust the CA again that is in foreign hands'
  return 'this step restarts what runs and moves no trust: the way is forward, or `reanchor abandon`'
}

function targetOf(at: PlanStep, site: string): readonly (readonly [string, TrustState])[] {
  const undo = at.step.sites[site]?.undo ?? null
  return undo === null ? [] : [[site, undo.state]]
}

/** `3-issue-new/2-restart`, or `close` after the last. */
function stepAfter(plan: Plan, at: PlanStep): string {
  const next = stepsOf(plan).find(({ index, step }) => index > at.index && Object.keys(step.sites).length > 0)
  return next === undefined ? 'close' : stepFolder(next)
}

/** Of every step that changes a site, `adopt` aside: as far ahead as the plan can tell. What runs is asked once a step is merged. */
export function undoWindows(plan: Plan): readonly UndoWindow[] {
  const now = new Date(plan.createdAt)
  return stepsOf(plan).flatMap(at => {
    const sites = Object.keys(at.step.sites)
    return at.phase.number === 0 || sites.length === 0 ? [] : [undoWindow({ plan, at, sites, evidence: [], now })]
  })
}

/** Which certificate a path ends with: a path ends with one of its certificates, so that its date names it. */
function endingText(certificates: Plan['certificates'], ends: Instant): string {
  const found = certificates.filter(({ notAfter }) => notAfter === ends)
  const names = found.map(({ role, subject, sha256 }) => `${role} ${JSON.stringify(subject)} ${sha256.slice(0, 12)}`)
  if (names.length === 0) return `a path that it needs ends ${ends}`
  return `${listed(names)} ${names.length === 1 ? 'ends' : 'end'} ${ends}`
}

interface Against {
  readonly verdict: 'pending' | 'violated'
  readonly because: string
  readonly from: Instant | null
}

/**
 * What was seen that this way back would break: leaves that the bundle of before refuses, which end some day, and verifiers that refuse the issuer of
 * before, which do not.
 */
function seenAgainst({ plan, evidence, now }: UndoQuestion, targets: ReadonlyMap<string, TrustState>): Against | null {
  const judge = pathJudge(allCertificates(plan, evidence))
  const across = modelOf(plan)
    .links(plan.parties)
    .some(link => link.acrossSites)
  const at = now.getTime()
  const cut: string[] = []
  const refusing: string[] = []
  let last: Instant | null = null
  let endless = false
  for (const { site, groups } of evidence)
    for (const group of groups) {
      if (notOfTheMesh.has(group.consumer)) continue
      for (const [target, state] of targets) {
        if (target !== site && !across) continue
        const who = `${plural(group.count, group.consumer)} of ${group.owner} at ${site}`
        const [issuer, ...chain] = group.presents ?? []
        if (issuer !== undefined && refuses(judge, { issuer, chain }, state, at)) {
          const end = group.leavesExpire?.last ?? null
          endless ||= end === null
          if (end !== null && (last === null || Date.parse(end) > Date.parse(last))) last = end
          cut.push(`${who} (leaf of ${judge.name(issuer)}${end === null ? '' : `, until ${end}`})`)
        }
        if (group.trusts !== null && refuses(judge, state, { bundle: group.trusts }, at))
          refusing.push(`${who}, which would refuse leaves of ${judge.name(state.issuer)}`)
      }
    }
  if (refusing.length > 0)
    return { verdict: 'violated', because: `it would cut off ${listed([...new Set(refusing)], 6)}`, from: null }
  if (cut.length === 0) return null
  const named = `leaves still live that it would cut off: ${listed([...new Set(cut)], 6)}`
  return { verdict: 'pending', because: named, from: endless ? null : last }
}

/** Copies of a bundle, and what has a PKI of its own. */
const notOfTheMesh: ReadonlySet<string> = new Set(['configmap', 'webhook'])

function refuses(
  judge: PathJudge,
  holder: Pick<TrustState, 'issuer' | 'chain'>,
  verifier: Pick<TrustState, 'bundle'>,
  at: number,
): boolean {
  return judge.until(holdingOf(holder, ''), trustingOf(verifier, ''), at).until < at
}

function allCertificates(plan: Plan, evidence: readonly Evidence[]): readonly CertificateFacts[] {
  const all = [...plan.certificates, ...evidence.flatMap(({ certificates }) => certificates)]
  return [...new Map(all.map(each => [each.sha256, each])).values()]
}

function withoutStop(sentence: string): string {
  return sentence.replace(/\.$/, '')
}
