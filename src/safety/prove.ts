import { ReanchorError } from '../errors.ts'
import { leastTime } from '../plan/time-left.ts'
import type {
  CertificateFacts,
  Counterexample,
  Instant,
  Plan,
  PlannedPhase,
  Proof,
  ProvenTransition,
  TrustState,
} from '../rotation.ts'
import type { SafetyModel } from '../systems/system.ts'
import {
  type Holding,
  holdingKey,
  holdingOf,
  type Link,
  modelOf,
  type Trusting,
  trustingKey,
  trustingOf,
} from './model.ts'
import { type PathJudge, pathJudge } from './paths.ts'
import { foretoldPairs } from './price.ts'

export interface ProveOptions {
  /** The instant the first open step begins; the plan's `createdAt` by default. */
  readonly at?: Date
  /** The step that every site has reached: only what lies ahead of it is proven. By default all steps. */
  readonly from?: { readonly phase: number; readonly step: number }
}

/** One site's trust at one step. */
interface Stand {
  readonly label: string
  readonly state: TrustState
}

interface Step {
  readonly label: string
  readonly phase: number
  readonly step: number
  /** True for the last step of its phase: its gate has seen every consumer take up the phase. */
  readonly closesPhase: boolean
  readonly stands: ReadonlyMap<
    string,
    { readonly state: TrustState; readonly undo: TrustState | null; readonly nudge: TrustState | null }
  >
}

/** A move between two neighbouring states, and every state that a party may still or already be in while it lasts. */
interface Transition {
  readonly from: string
  readonly to: string
  /** The earliest instant, in ms, at which it can be over. */
  readonly end: number
  /** Site → the states that its parties may be in, the oldest first. */
  readonly windows: ReadonlyMap<string, readonly Stand[]>
  /** The step's own before and after, per site, for the rule that trust and issuer never move together. */
  readonly moves: ReadonlyMap<string, readonly [Stand, Stand]>
}

/**
 * Proves a plan: for every two neighbouring steps (and each step with its undo and its nudge), for every mix in which each
 * party has taken up trust and leaf of either side, in one site and across sites, every link's handshake succeeds, from
 * `at` until the transition can be over. Pure: it reads the plan and nothing else.
 *
 * A gate at the end of a phase has seen every consumer; a gate between the steps of a phase has seen only the data. So
 * until a phase's last step is over, parties may still be where the phase before left them.
 *
 * Throws ReanchorError (2) where a state names a certificate that the plan does not hold.
 */
export function provePlan(plan: Plan, options: ProveOptions = {}): Proof {
  const at = options.at ?? new Date(plan.createdAt)
  if (Number.isNaN(at.getTime())) {
    throw new ReanchorError({
      what: 'the instant to prove the plan for cannot be read',
      where: { file: 'plan.yaml', field: 'createdAt' },
      expected: 'RFC 3339, such as 2026-11-22T06:00:00Z',
      found: String(plan.createdAt),
      todo: 'run `reanchor plan` again',
    })
  }
  const { judge, steps, model, proven } = proofOf(plan, at, options.from, () => true)
  return {
    safe: proven.every(row => row.counterexample === null),
    transitions: proven,
    notes: notesOf(plan, model, steps, proven, judge),
  }
}

/** The rows of the transitions that are wanted, and what they were proven with. */
function proofOf(plan: Plan, at: Date, from: ProveOptions['from'], wanted: (transition: Transition) => boolean) {
  const judge = pathJudge(plan.certificates)
  const steps = stepsOf(plan)
  requireKnownCertificates(steps, judge)
  const model = modelOf(plan)
  const links = model.links(plan.parties)
  const proven = transitionsOf(plan, steps, at.getTime(), from)
    .filter(wanted)
    .flatMap(transition => proveTransition(transition, model, links, judge, at.getTime()))
  return { judge, steps, model, proven }
}

/**
 * The rows of one step's way back, begun at an instant: what `status` asks for, without the price of the whole proof. Empty where the step has none.
 * Throws as `provePlan` does.
 */
export function proveUndo(
  plan: Plan,
  of: { readonly phase: number; readonly step: number },
  at: Date,
): readonly ProvenTransition[] {
  const phase = plan.phases.find(({ number }) => number === of.phase)
  const step = phase?.steps.find(({ number }) => number === of.step)
  if (phase === undefined || step === undefined) return []
  const label = `${stepLabel(phase, step)} undo`
  return proofOf(plan, at, of, ({ to }) => to === label).proven
}

/** `2-trust-both/1-data`: how a step is named everywhere. */
export function stepLabel(
  phase: Pick<PlannedPhase, 'number' | 'name'>,
  step: { readonly number: number; readonly name: string },
): string {
  return `${phase.number}-${phase.name}/${step.number}-${step.name}`
}

// ------------------------------------------------------------------------------------------------- transitions

function stepsOf(plan: Plan): readonly Step[] {
  const steps: Step[] = []
  const present = new Map<string, TrustState>()
  for (const phase of plan.phases) {
    const withSites = phase.steps.filter(step => Object.keys(step.sites).length > 0)
    for (const [index, step] of withSites.entries()) {
      const stands = new Map<string, { state: TrustState; undo: TrustState | null; nudge: TrustState | null }>()
      for (const site of plan.sites) {
        const own = Object.hasOwn(step.sites, site.name) ? step.sites[site.name] : undefined
        if (own !== undefined) present.set(site.name, own.state)
        const state = present.get(site.name)
        if (state !== undefined)
          stands.set(site.name, { state, undo: own?.undo?.state ?? null, nudge: own?.nudge?.state ?? null })
      }
      steps.push({
        label: stepLabel(phase, step),
        phase: phase.number,
        step: step.number,
        closesPhase: index === withSites.length - 1,
        stands,
      })
    }
  }
  return steps
}

function transitionsOf(
  plan: Plan,
  steps: readonly Step[],
  at: number,
  from: ProveOptions['from'],
): readonly Transition[] {
  const transitions: Transition[] = []
  const siteNames = plan.sites.map(site => site.name)
  const passed = (step: Step) =>
    from !== undefined && (step.phase < from.phase || (step.phase === from.phase && step.step < from.step))
  let end = at
  for (const [index, step] of steps.entries()) {
    if (passed(step)) continue
    const before = steps[index - 1]
    const floor = floorOf(steps, index)
    const window = steps.slice(floor, index + 1)
    const arrived = from !== undefined && step.phase === from.phase && step.step === from.step
    if (!arrived) end += stepLength(plan, step)

    if (before !== undefined && !arrived) {
      transitions.push(
        transition(siteNames, before.label, step.label, end, window, site => {
          const old = before.stands.get(site)
          const own = step.stands.get(site)
          return {
            extra: [],
            move:
              old === undefined || own === undefined
                ? null
                : [
                    { label: before.label, state: old.state },
                    { label: step.label, state: own.state },
                  ],
          }
        }),
      )
    }
    for (const way of ['undo', 'nudge'] as const) {
      if (![...step.stands.values()].some(stand => stand[way] !== null)) continue
      const label = `${step.label} ${way}`
      transitions.push(
        transition(siteNames, step.label, label, end, window, site => {
          const own = step.stands.get(site)
          const target = own?.[way] ?? null
          if (own === undefined || target === null) return { extra: [], move: null }
          // A nudge may have gone before an undo.
          const nudged =
            way === 'undo' && own.nudge !== null ? [{ label: `${step.label} nudge`, state: own.nudge }] : []
          return {
            extra: [...nudged, { label, state: target }],
            move: [
              { label: step.label, state: own.state },
              { label, state: target },
            ],
          }
        }),
      )
    }
  }
  return transitions
}

/** Index of the last step before this one whose gate has seen every consumer. */
function floorOf(steps: readonly Step[], index: number): number {
  for (let floor = index - 1; floor >= 0; floor--) if (steps[floor]?.closesPhase === true) return floor
  return 0
}

function stepLength(plan: Plan, step: Step): number {
  return leastTime(plan, step.closesPhase)
}

function transition(
  sites: readonly string[],
  from: string,
  to: string,
  end: number,
  window: readonly Step[],
  of: (site: string) => { readonly extra: readonly Stand[]; readonly move: readonly [Stand, Stand] | null },
): Transition {
  const windows = new Map<string, readonly Stand[]>()
  const moves = new Map<string, readonly [Stand, Stand]>()
  for (const site of sites) {
    const stands: Stand[] = []
    for (const step of window) {
      const stand = step.stands.get(site)
      if (stand !== undefined) stands.push({ label: step.label, state: stand.state })
    }
    const { extra, move } = of(site)
    stands.push(...extra)
    if (stands.length > 0) windows.set(site, stands)
    if (move !== null) moves.set(site, move)
  }
  return { from, to, end, windows, moves }
}

// ------------------------------------------------------------------------------------------------------- proof

/** What parties of one site, or of many that are alike, may present and trust during a transition. */
export interface Mix {
  readonly site: string
  readonly holdings: readonly Holding[]
  readonly trustings: readonly Trusting[]
}

export interface MixVerdict {
  readonly handshakes: number
  readonly counterexample: Counterexample | null
  /** ms; the last instant at which every handshake still succeeds. */
  readonly until: number
}

function proveTransition(
  move: Transition,
  model: SafetyModel,
  links: readonly Link[],
  judge: PathJudge,
  at: number,
): readonly ProvenTransition[] {
  const groups = groupSites(move)
  const rows: ProvenTransition[] = []
  for (const { name, mix, sites } of groups) {
    const verdict = judgeLinks(model, links, mix, mix, judge, at, move.end)
    const site = sites[0] ?? ''
    const counterexample = verdict.counterexample ?? changedBoth(model, links, move.moves.get(site), name)
    rows.push({
      from: move.from,
      to: move.to,
      site: name,
      mixes: (mix.holdings.length * mix.trustings.length) ** 2,
      handshakes: verdict.handshakes,
      counterexample,
      goodUntil: counterexample === null ? instant(verdict.until) : null,
    })
  }
  if (groups.length < 2) return rows
  rows.push(proveAcross(move, groups, model, links, judge, at))
  return rows
}

/** Mesh links between sites: each distinct thing presented anywhere against each distinct set trusted anywhere. */
function proveAcross(
  move: Transition,
  groups: readonly SiteGroup[],
  model: SafetyModel,
  links: readonly Link[],
  judge: PathJudge,
  at: number,
): ProvenTransition {
  const across = links.filter(link => link.acrossSites)
  const holdings = distinctOwners(groups, group => group.mix.holdings, holdingKey)
  const trustings = distinctOwners(groups, group => group.mix.trustings, trustingKey)
  let handshakes = 0
  let until = Number.POSITIVE_INFINITY
  let counterexample: Counterexample | null = null
  for (const holding of holdings) {
    for (const trusting of trustings) {
      handshakes += across.length
      const verdict = judge.until(holding.value, trusting.value, at)
      until = Math.min(until, verdict.until)
      const link = across[0]
      if (counterexample === null && verdict.until < move.end && link !== undefined)
        counterexample = counter(
          model,
          link,
          holding.site,
          holding.value,
          trusting.site,
          trusting.value,
          verdict,
          judge,
          at,
          move.end,
        )
    }
  }
  return {
    from: move.from,
    to: move.to,
    site: '*',
    mixes: holdings.length * trustings.length,
    handshakes,
    counterexample,
    goodUntil: counterexample === null ? instant(until) : null,
  }
}

/** Walks every link between one site's holders and verifiers; the first failure, in the links' order, is the counterexample. */
export function judgeLinks(
  model: SafetyModel,
  links: readonly Link[],
  holders: Mix,
  verifiers: Mix,
  judge: PathJudge,
  at: number,
  end: number,
): MixVerdict {
  let handshakes = 0
  let until = Number.POSITIVE_INFINITY
  let counterexample: Counterexample | null = null
  for (const holding of holders.holdings) {
    for (const trusting of verifiers.trustings) {
      handshakes += links.length
      const verdict = judge.until(holding, trusting, at)
      until = Math.min(until, verdict.until)
      const link = links[0]
      if (counterexample === null && verdict.until < end && link !== undefined)
        counterexample = counter(model, link, holders.site, holding, verifiers.site, trusting, verdict, judge, at, end)
    }
  }
  return { handshakes, counterexample, until }
}

interface SiteGroup {
  readonly name: string
  readonly sites: readonly string[]
  readonly mix: Mix
}

/** Sites whose parties may present and trust the same are judged once: the work is linear in what differs. */
function groupSites(move: Transition): readonly SiteGroup[] {
  const byKey = new Map<string, { sites: string[]; holdings: Holding[]; trustings: Trusting[] }>()
  for (const [site, stands] of move.windows) {
    const holdings = distinct(
      stands.map(stand => holdingOf(stand.state, stand.label)),
      holdingKey,
    )
    const trustings = distinct(
      stands.map(stand => trustingOf(stand.state, stand.label)),
      trustingKey,
    )
    const moved = move.moves.has(site) ? 'moves' : 'stays'
    const key = [moved, ...holdings.map(holdingKey), '|', ...trustings.map(trustingKey)].join('\n')
    const group = byKey.get(key)
    if (group === undefined) byKey.set(key, { sites: [site], holdings, trustings })
    else group.sites.push(site)
  }
  return [...byKey.values()].map(({ sites, holdings, trustings }) => {
    const name = siteGroupName(sites)
    return { name, sites, mix: { site: name, holdings, trustings } }
  })
}

/** `eu-1, us-1` or `eu-1, eu-2 and 998 more`. */
export function siteGroupName(sites: readonly string[]): string {
  if (sites.length <= 3) return sites.join(', ')
  return `${sites.slice(0, 2).join(', ')} and ${sites.length - 2} more`
}

function distinct<T>(values: readonly T[], key: (value: T) => string): T[] {
  const byKey = new Map<string, T>()
  for (const value of values) if (!byKey.has(key(value))) byKey.set(key(value), value)
  return [...byKey.values()]
}

function distinctOwners<T>(
  groups: readonly SiteGroup[],
  of: (group: SiteGroup) => readonly T[],
  key: (value: T) => string,
): readonly { site: string; value: T }[] {
  return distinct(
    groups.flatMap(group => of(group).map(value => ({ site: group.name, value }))),
    owned => key(owned.value),
  )
}

/**
 * Anchors and issuer that move in one step, for more than one party: even where every mix happens to work, nobody could
 * then tell what was taken up, and a step back is no longer one change.
 */
function changedBoth(
  model: SafetyModel,
  links: readonly Link[],
  move: readonly [Stand, Stand] | undefined,
  site: string,
): Counterexample | null {
  const [link] = links
  if (move === undefined || link === undefined || model.movesBoth === true) return null
  const [before, after] = move
  const held = holdingOf(after.state, after.label)
  const trusted = trustingOf(before.state, before.label)
  if (before.state.issuer === held.issuer) return null
  if (trustingKey(trusted) === trustingKey(trustingOf(after.state, after.label))) return null
  const reason = 'trusted roots and issuer change in one step'
  return {
    link: link.name,
    holder: { party: `${model.partyName(link.holder)} at ${site}`, at: after.label, presents: held.issuer },
    verifier: { party: `${model.partyName(link.verifier)} at ${site}`, at: before.label, trusts: trusted.anchors },
    reason,
    sentence: `${after.label} changes both the trusted roots and the issuing CA at ${site} in one step: the set of roots must be seen everywhere before the issuer moves.`,
  }
}

function counter(
  model: SafetyModel,
  link: Link,
  holderSite: string,
  holding: Holding,
  verifierSite: string,
  trusting: Trusting,
  verdict: { readonly until: number; readonly why: string },
  judge: PathJudge,
  at: number,
  end: number,
): Counterexample {
  const holder = `${model.partyName(link.holder)} at ${holding.site ?? holderSite}`
  const verifier = `${model.partyName(link.verifier)} at ${trusting.site ?? verifierSite}`
  const issuer = judge.name(holding.issuer)
  const trusts = trusting.anchors.length === 0 ? 'nothing' : trusting.anchors.map(judge.name).join(' and ')
  const late = verdict.until >= at
  const reason = late
    ? `${verdict.why.replace(' ended ', ' ends ')}, and the step cannot be over before ${instant(end)}`
    : verdict.why
  return {
    link: link.name,
    holder: { party: holder, at: holding.at, presents: holding.issuer },
    verifier: { party: verifier, at: trusting.at, trusts: trusting.anchors },
    reason,
    sentence: `${holder} with a leaf of ${holding.at} (issuer ${issuer}) meets ${verifier}, which has the trust of ${trusting.at} (${trusts}): ${reason}.`,
  }
}

export function instant(ms: number): Instant | null {
  return Number.isFinite(ms) && ms >= 0 ? new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z') : null
}

function requireKnownCertificates(steps: readonly Step[], judge: PathJudge): void {
  for (const step of steps) {
    for (const [site, stand] of step.stands) {
      for (const state of [stand.state, stand.undo, stand.nudge]) {
        if (state === null) continue
        const missing = [...state.bundle, state.issuer, ...state.chain].find(sha256 => !judge.knows(sha256))
        if (missing === undefined) continue
        throw new ReanchorError({
          what: 'a step names a certificate that the plan does not hold',
          where: { file: 'plan.yaml', object: `${step.label} at ${site}` },
          expected: 'every fingerprint of bundle, issuer and chain under `certificates`',
          found: missing,
          todo: 'run `reanchor plan` again; plan.yaml is generated and never edited',
        })
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------- notes

const dayMs = 86_400_000

function notesOf(
  plan: Plan,
  model: SafetyModel,
  steps: readonly Step[],
  proven: readonly ProvenTransition[],
  judge: PathJudge,
): readonly string[] {
  const notes = new Set<string>()
  for (const note of sameSubjectNotes(plan.certificates, steps)) notes.add(note)
  const last = steps.at(-1)
  const first = steps[0]
  const issuers = new Set([...(last?.stands.values() ?? [])].map(stand => stand.state.issuer))
  const anchors = new Set([...(first?.stands.values() ?? [])].flatMap(stand => stand.state.bundle))
  for (const certificate of plan.certificates) {
    const until = Date.parse(certificate.notAfter)
    const days = Math.floor((until - Date.parse(plan.createdAt)) / dayMs)
    if (anchors.has(certificate.sha256) && days < 60)
      notes.add(
        `${judge.name(certificate.sha256)} ends on ${certificate.notAfter}, ${days} days after the plan was made: the rotation must be over before.`,
      )
    if (issuers.has(certificate.sha256) && days < 90)
      notes.add(
        `the new issuer ${judge.name(certificate.sha256)} ends on ${certificate.notAfter}, ${days} days after the plan was made: the next rotation starts soon.`,
      )
  }
  for (const row of proven) {
    const note = untilNote(row, plan)
    if (note !== null) notes.add(note)
  }
  for (const note of model.notes(plan, proven, () => foretoldPairs(plan))) notes.add(note)
  return [...notes]
}

/** The note of a transition that is safe for less than thirty days after the plan was made; null: it is safe for longer, or not at all. */
export function untilNote(row: ProvenTransition, plan: Pick<Plan, 'createdAt'>): string | null {
  if (row.counterexample !== null || row.goodUntil === null) return null
  const days = Math.floor((Date.parse(row.goodUntil) - Date.parse(plan.createdAt)) / dayMs)
  return days < 30 ? `${row.from} to ${row.to} at ${row.site} is safe only until ${row.goodUntil}.` : null
}

/**
 * Two CAs of one subject and two keys: verifiers of the OpenSSL family pick the issuer by subject first and need subject and
 * authority key identifiers to tell them apart (istio#37096, jruby-openssl#362).
 */
function sameSubjectNotes(certificates: readonly CertificateFacts[], steps: readonly Step[]): readonly string[] {
  const together = new Set(
    steps.flatMap(step =>
      [...step.stands.values()]
        .filter(stand => new Set(stand.state.bundle).size > 1)
        .flatMap(stand => stand.state.bundle),
    ),
  )
  const bySubject = new Map<string, CertificateFacts[]>()
  for (const certificate of certificates) {
    if (!together.has(certificate.sha256)) continue
    const list = bySubject.get(certificate.subject) ?? []
    if (!list.some(other => other.sha256 === certificate.sha256)) list.push(certificate)
    bySubject.set(certificate.subject, list)
  }
  const notes: string[] = []
  for (const [subject, list] of bySubject) {
    const keys = new Set(list.map(certificate => certificate.spki))
    if (keys.size < 2) {
      if (list.length > 1)
        notes.push(
          `${list.length} roots share the subject ${JSON.stringify(subject)} and the key: every leaf chains to either, so what a verifier trusts tells them apart, not what it is shown.`,
        )
      continue
    }
    notes.push(
      `${list.length} roots share the subject ${JSON.stringify(subject)}: they are told apart by key identifier only.`,
    )
  }
  return notes
}
