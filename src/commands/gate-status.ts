import { exitCodes, ReanchorError } from '../errors.ts'
import type { CommitStatus, Forge, PullRequest } from '../forge/forge.ts'
import { positionText } from '../plan/advance.ts'
import { closeBranch, findStep, planBranch, plannedTree, stepFolder } from '../plan/steps.ts'
import type { GateResult, Instant, Plan, SitePosition } from '../rotation.ts'
import { liveSite } from '../safety/check.ts'
import { instantOf, later } from '../verify/values.ts'
import { type CheckOutcome, check, type LiveCommitted } from './check.ts'
import type { Context } from './context.ts'
import { type OpenRotation, positionsAt } from './rotation.ts'
import type { SiteLook } from './verify.ts'

/** What branch protection asks for. */
export const gateContext = 'reanchor/gate'

/** What was seen a moment ago, and who says so. */
export interface Observed {
  readonly looks: readonly SiteLook[]
  readonly positions: Readonly<Record<string, SitePosition>>
  /** It goes on observing, so that what it calls safe is called so only for as long as it is. */
  readonly runner: boolean
  /** It has stopped since: what it saw is not to be posted any more. */
  readonly stopped?: () => boolean
  /** Takes what would be posted. @default it is posted */
  readonly post?: PostGate
}

/** One rotation's word on an open pull request. */
export interface GateWord {
  readonly rotation: OpenRotation
  readonly forge: Forge
  readonly request: PullRequest
  readonly status: CommitStatus
  /** Newer observations, for the comment; null: the pull request is none of the rotation's. */
  readonly observation: string | null
  /** When it was judged. */
  readonly at: Date
}

export type PostGate = (word: GateWord) => Promise<void>

interface Judged {
  readonly status: CommitStatus
  /** Green because of what was seen, and wrong once it is so no longer. */
  readonly rests: boolean
}

/** How a status ends that is green only for as long as somebody looks. */
const observedOnly = ', while it is observed'

/**
 * Posts `reanchor/gate` on every open pull request to the base branch, or, where nobody goes on observing, on those of the rotation alone.
 * One whose commits are not in this clone is pending.
 */
export async function postGates(
  context: Context,
  rotation: OpenRotation,
  forge: Forge,
  observed: Observed,
): Promise<void> {
  for (const request of await forge.listOpen(rotation.base)) {
    if (!observed.runner && !isOurs(rotation, request)) continue
    const { status, rests } = await gateOf(context, rotation, request, observed)
    if (observed.stopped?.() === true) return
    const before = observed.runner || status.state !== 'pending' ? null : await forge.status(request.head, gateContext)
    // A runner's word is not taken back by somebody who does not go on observing, as long as it is good and the gates hold.
    if (before?.state === 'success' && rests && !isOver(before, context.now())) continue
    const ours = observed.runner && isOurs(rotation, request) && observed.looks.length > 0
    const observation = ours ? observationText(status, observed.looks) : null
    await (observed.post ?? postWord)({ rotation, forge, request, status, observation, at: context.now() })
  }
}

export async function postWord({ forge, request, status, observation, at }: GateWord): Promise<void> {
  if (!stillSays(await forge.status(request.head, gateContext), status, at)) await forge.setStatus(request.head, status)
  if (observation !== null) await forge.comment(request.number, 'reanchor/observation', observation)
}

/** Whether a request is a step, a way back or the end of this very rotation. */
export function isOurs(rotation: OpenRotation, { branch }: PullRequest): boolean {
  return branch.startsWith(`reanchor/${rotation.name}/`) && branch !== planBranch(rotation.name)
}

async function gateOf(
  context: Context,
  rotation: OpenRotation,
  request: PullRequest,
  observed: Observed,
): Promise<Judged> {
  const { repository } = context
  if ((await repository.resolve(request.head)) === null)
    return say('pending', 'its commits are not in this clone, so nobody has judged it')
  const ours = isOurs(rotation, request)
  const positions = ours ? await positionsAt(repository.snapshot(request.head), rotation.plan) : {}
  const edited = Object.values(positions).find(({ kind }) => kind === 'mixed' || kind === 'unknown')
  if (edited !== undefined) return say('failure', `edited by hand: ${positionText(edited)}`)
  const outcome = await judged(context, rotation, request, observed)
  if (outcome instanceof ReanchorError) return say('pending', `cannot be judged: ${outcome.what}`)
  const moved = rotation.plan.sites.filter(({ name }) => !same(positions[name], observed.positions[name]))
  const forward = moved.some(({ name }) => isStep(positions[name])) || isClosing(rotation, request)
  if (ours && forward) return stepGate(rotation, observed, positions, outcome)
  return checkGate(context, rotation, outcome, observed)
}

/** `check` of the request, from what was seen a moment ago. */
async function judged(
  context: Context,
  rotation: OpenRotation,
  request: PullRequest,
  { looks, positions }: Observed,
): Promise<CheckOutcome | ReanchorError> {
  const range = `${rotation.commit}..${request.head}`
  const live = (plan: Plan): LiveCommitted => ({
    sites: Object.fromEntries(
      plan.sites.map(({ name }) => {
        const look = looks.find(each => each.site === name && each.unseen === null)
        const seen = look === undefined ? { presents: [], trusts: [] } : liveSite(plan, look.evidence)
        // Where every gate holds, everybody was seen, or somebody has vouched for who is named as an exception.
        const all = look?.verdict.verdict === 'holds' ? { complete: true } : {}
        return [name, { ...seen, ...all, at: labelOf(plan, positions[name]) }]
      }),
    ),
    certificates: looks.flatMap(({ evidence }) => evidence.certificates),
    seen: [],
  })
  try {
    return await check(context, { range, rotation: rotation.name, base: rotation.base, live })
  } catch (error) {
    if (error instanceof ReanchorError && error.exit !== exitCodes.internal) return error
    throw error
  }
}

/** A pull request that goes forward: the gates of what came before must hold, and the change be the one that is planned. */
function stepGate(
  rotation: OpenRotation,
  observed: Observed,
  positions: Readonly<Record<string, SitePosition>>,
  { verdict }: CheckOutcome,
): Judged {
  const open = observed.looks.flatMap(look => look.verdict.gates).filter(gate => gate.verdict !== 'holds')
  if (open.length > 0) return say(open.some(gate => gate.verdict === 'violated') ? 'failure' : 'pending', whyOpen(open))
  // An emergency breaks what its plan says it breaks; that was accepted when it was made.
  const accepted = rotation.plan.strategy === 'emergency' && verdict.reason === 'breaks'
  if (!verdict.safe && !accepted) return say('failure', verdict.sentence)
  if (observed.looks.length === 0) {
    const begun = Object.values(observed.positions).some(({ kind }) => kind === 'at')
    return begun ? say('pending', 'nobody has looked at the step before') : say('success', 'nothing precedes this step')
  }
  const narrowing = narrows(rotation.plan, observed.positions, positions)
  const { seen, until } = timesOf(rotation, observed.looks, verdict.goodUntil)
  const what = accepted ? 'breaks what the plan says, all gates hold' : 'safe, all gates hold'
  if (!narrowing) return say('success', `${what}, seen at ${seen}, good until ${until}`)
  if (observed.runner) return say('success', `${what}, seen at ${seen}, good until ${until}${observedOnly}`, true)
  return say(
    'pending',
    `all gates hold, seen at ${seen}; takes trust away: green while \`reanchor run\` observes`,
    true,
  )
}

/** Any other change: nobody's gates, the verdict of `check`. */
function checkGate(
  { now }: Context,
  rotation: OpenRotation,
  { verdict }: CheckOutcome,
  { looks, runner }: Observed,
): Judged {
  if (verdict.change.none && verdict.safe) return say('success', 'no change of trust')
  if (!verdict.safe) return say(verdict.reason === 'unknown' ? 'pending' : 'failure', verdict.sentence)
  const { seen, until } = timesOf(rotation, looks, verdict.goodUntil)
  const when = seen === null ? `judged at ${instantOf(now())}` : `seen at ${seen}`
  const rests = seen !== null && verdict.reason !== 'only-widens'
  const end = rests && runner ? observedOnly : ''
  return say(
    'success',
    `safe (${verdict.reason}), ${when}${until === null ? '' : `, good until ${until}`}${end}`,
    rests,
  )
}

/** The oldest of the looks, and until when a verdict that rests on them is good. */
function timesOf(
  { plan }: OpenRotation,
  looks: readonly SiteLook[],
  goodUntil: Instant | null,
): { readonly seen: Instant | null; readonly until: Instant | null } {
  const seen = looks.map(({ evidence }) => evidence.from).sort()[0] ?? null
  const stale = seen === null ? null : instantOf(new Date(Date.parse(seen) + plan.gates.fresh))
  if (stale === null || goodUntil === null) return { seen, until: stale ?? goodUntil }
  return { seen, until: later(stale, goodUntil) === stale ? goodUntil : stale }
}

function whyOpen(open: readonly GateResult[]): string {
  const order = ['violated', 'unknown', 'pending']
  const [first] = [...open].sort((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict))
  return first === undefined ? '' : `${first.site}: ${first.claim}: ${first.because[0] ?? first.verdict}`
}

function say(state: CommitStatus['state'], text: string, rests = false): Judged {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  const characters = [...line]
  // Forges cut a status off at 140 characters.
  const description = characters.length <= 140 ? line : `${characters.slice(0, 139).join('')}…`
  return { status: { context: gateContext, state, description }, rests }
}

// ------------------------------------------------------------------------------------------------------- where a request leads

function same(one: SitePosition | undefined, other: SitePosition | undefined): boolean {
  if (one?.kind !== 'at' || other?.kind !== 'at') return one?.kind === other?.kind
  return one.phase === other.phase && one.step === other.step && one.variant === other.variant
}

/** An undo and a nudge are safe from any mix, and wait for nobody. */
function isStep(position: SitePosition | undefined): boolean {
  return position?.kind === 'at' && position.variant === 'step'
}

function isClosing({ name, plan }: OpenRotation, { branch }: PullRequest): boolean {
  const closing = closeBranch(name, plan)
  return branch === closing || branch.startsWith(`${closing}.`)
}

function labelOf(plan: Plan, position: SitePosition | undefined): string | null {
  if (position?.kind !== 'at' || position.variant !== 'step') return null
  const at = findStep(plan, position.phase, position.step)
  return at === null ? null : stepFolder(at)
}

/** Whether some site stops to trust something. */
function narrows(
  plan: Plan,
  from: Readonly<Record<string, SitePosition>>,
  to: Readonly<Record<string, SitePosition>>,
): boolean {
  const bundle = (site: string, position: SitePosition | undefined): readonly string[] => {
    if (position?.kind !== 'at') return []
    const at = findStep(plan, position.phase, position.step)
    return plannedTree(at?.step.sites[site], position.variant)?.state.bundle ?? []
  }
  return plan.sites.some(({ name }) => {
    const after = bundle(name, to[name])
    return bundle(name, from[name]).some(root => !after.includes(root))
  })
}

// ------------------------------------------------------------------------------------------------------- later

/** Turns what is green because of what was seen: it could not be looked at anew. */
export async function withdrawGates(rotation: OpenRotation, forge: Forge, why: string): Promise<void> {
  await turnPending(rotation, forge, why, (status, request) => isOurs(rotation, request) && goodUntil(status) !== null)
}

/** Turns what is green only while somebody observes: nobody does any more. */
export async function leaveGates(rotation: OpenRotation, forge: Forge): Promise<void> {
  const why = 'nobody observes it any more: green while `reanchor run` does'
  await turnPending(rotation, forge, why, ({ description }) => description.endsWith(observedOnly))
}

async function turnPending(
  rotation: OpenRotation,
  forge: Forge,
  why: string,
  wanted: (status: CommitStatus, request: PullRequest) => boolean,
): Promise<void> {
  for (const request of await forge.listOpen(rotation.base)) {
    const status = await forge.status(request.head, gateContext)
    if (status?.state === 'success' && wanted(status, request))
      await forge.setStatus(request.head, say('pending', why).status)
  }
}

export function goodUntil({ description }: CommitStatus): Instant | null {
  return /good until (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)/.exec(description)?.[1] ?? null
}

function isOver(status: CommitStatus, now: Date): boolean {
  const until = goodUntil(status)
  return until !== null && Date.parse(until) < now.getTime()
}

const instants = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g

/**
 * Whether a status says the same, apart from its times, and is good for half of its time yet. Forges take only so many statuses (GitHub: a thousand of a context
 * on a commit, and 500 writes an hour), and a runner would post one of each request every minute.
 */
function stillSays(before: CommitStatus | null, status: CommitStatus, now: Date): boolean {
  if (before === null || before.state !== status.state) return false
  if (before.description.replaceAll(instants, '') !== status.description.replaceAll(instants, '')) return false
  const [was, is] = [goodUntil(before), goodUntil(status)]
  if (was === null || is === null) return before.description === status.description
  return Date.parse(was) - now.getTime() > (Date.parse(is) - now.getTime()) / 2
}

/** For people: what the status says, and, unless `now` is null, whether its time is over, which no forge knows. */
export function gateText(status: CommitStatus, now: Date | null): string {
  const over = now !== null && status.state === 'success' && isOver(status, now)
  return `${status.state}, ${status.description}${over ? ' (that is over: look again)' : ''}`
}

function observationText({ state, description }: CommitStatus, looks: readonly SiteLook[]): string {
  const lines = looks.map(({ site, evidence, verdict }) => {
    const open = verdict.gates.filter(gate => gate.verdict !== 'holds')
    const what =
      open.length === 0
        ? `all ${verdict.gates.length} gates hold`
        : `${open.length} of ${verdict.gates.length} gates do not hold`
    return `- \`${site}\`: ${what} (observation \`${evidence.observation.slice(0, 12)}\`)`
  })
  // Without the time: it would be another text each minute, and the status has it.
  const first = description.replace(/,? seen at .*$/, '')
  return [`**${gateContext}: ${state}** ${first.replaceAll(/[<>@#]/g, ' ')}`, '', ...lines, ''].join('\n')
}
