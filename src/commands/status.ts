import { ReanchorError } from '../errors.ts'
import { decideNext } from '../plan/advance.ts'
import { findStep, stepFolder } from '../plan/steps.ts'
import {
  type Course,
  closingTime,
  courseOf,
  phaseTimes,
  standingAt,
  type TimeLeft,
  timeLeft,
} from '../plan/time-left.ts'
import { foremost, wayBack } from '../plan/way-back.ts'
import type {
  StatusEvidence,
  StatusGate,
  StatusPhase,
  StatusPullRequest,
  StatusSite,
  StatusView,
} from '../report/status.ts'
import type { GateResult, Plan, SitePosition } from '../rotation.ts'
import type { UndoWindow } from '../safety/until-when.ts'
import { authorshipText } from '../verify/authorship.ts'
import type { Drain } from '../verify/drain.ts'
import type { Context } from './context.ts'
import { committedEvidence, presentAt } from './evidence.ts'
import { gateContext, gateText } from './gate-status.ts'
import { type OpenRotation, positionsAt } from './rotation.ts'
import type { SiteLook } from './verify.ts'
import { missingWiring } from './wire.ts'

/** One screen, from Git alone; `looks` adds what was seen live. */
export async function statusView(
  context: Context,
  rotation: OpenRotation,
  looks: readonly SiteLook[] | null,
): Promise<StatusView> {
  const { plan, declaration } = rotation
  const positions = await positionsAt(rotation.snapshot, plan)
  const sites: StatusSite[] = []
  for (const site of plan.sites) {
    const position = positions[site.name] ?? { kind: 'absent' as const }
    sites.push({
      name: site.name,
      path: site.path,
      position,
      label: labelOf(rotation, position),
      wiring: await wiringText(rotation, site.name, position),
    })
  }
  const pullRequests = await requestsOf(context, rotation)
  const kept = looks === null || rotation.closed ? [] : await mintedAt(context, rotation)
  const seen = looks?.map(look => look.evidence.to).sort()[0]
  return {
    rotation: rotation.name,
    strategy: declaration.strategy,
    paused: declaration.paused,
    now: `${context.now().toISOString().slice(0, 19)}Z`,
    phases: phasesOf(rotation, positions, await courseFor(rotation)),
    sites,
    pullRequests,
    evidence: await evidenceOf(context, rotation),
    gates: [...(looks ?? []).flatMap(look => look.verdict.gates), ...kept].map(toStatusGate),
    time: await timeOf(rotation, positions, context.now()),
    drain: await drainsOf(plan, looks, context.now()),
    undo: await undoOf(rotation, positions, looks, context.now()),
    seen: seen === undefined ? null : { from: 'live', at: seen },
    expires: plan.certificates.map(({ role, subject, sha256, notAfter }) => ({ role, subject, sha256, notAfter })),
    next: nextSentence(rotation, positions, looks, pullRequests),
  }
}

/** Of CAs that cert-manager minted: whether it has renewed them since. */
async function mintedAt(context: Context, rotation: OpenRotation): Promise<readonly GateResult[]> {
  if (rotation.declaration.next.from !== 'certManager') return []
  const { keptGates } = await import('./mint.ts')
  return await keptGates(context, rotation)
}

async function courseFor({ plan, declaration }: OpenRotation): Promise<Course> {
  const { systemOf } = await import('../systems/systems.ts')
  return courseOf(plan, systemOf(plan.system).renewalHours?.(declaration) ?? plan.leafHours)
}

/** From where every site is, against the end of the CA that leaves came from when the rotation began. */
async function timeOf(
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  now: Date,
): Promise<TimeLeft> {
  const { plan, closed } = rotation
  const course = await courseFor(rotation)
  const first = plan.phases[0]?.steps[0]?.sites ?? {}
  const needed = new Set(Object.values(first).flatMap(({ state }) => [state.issuer, ...state.chain]))
  const ends = plan.certificates.flatMap(({ sha256, notAfter }) => (needed.has(sha256) ? [Date.parse(notAfter)] : []))
  const roots = plan.certificates.flatMap(({ role, notAfter }) => (role === 'old-root' ? [Date.parse(notAfter)] : []))
  const last = Math.min(...ends, Math.max(...roots))
  const at = closed ? { done: course.phases.flatMap(({ steps }) => steps).length } : standingAt(plan, positions)
  return timeLeft(course, { ends: Number.isFinite(last) ? new Date(last) : null, ...at }, now)
}

async function drainsOf(plan: Plan, looks: readonly SiteLook[] | null, now: Date): Promise<readonly Drain[]> {
  if (looks === null) return []
  const { drainOf } = await import('../verify/drain.ts')
  return looks.flatMap(look => (look.unseen === null ? (drainOf(plan, look.evidence, now) ?? []) : []))
}

/** Until when the step that the foremost sites are at can be taken back; `looks` hold that against what runs. */
async function undoOf(
  { plan, closed }: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  looks: readonly SiteLook[] | null,
  now: Date,
): Promise<UndoWindow> {
  const { noWayBack, undoWindow } = await import('../safety/until-when.ts')
  const back = closed ? null : wayBack(plan, positions)
  if (back === null) {
    const at = foremost(plan, positions)
    return noWayBack(
      plan,
      at[0]?.at ?? null,
      at.map(({ site }) => site),
      closed,
    )
  }
  const evidence = (looks ?? []).flatMap(look => (look.unseen === null ? [look.evidence] : []))
  return undoWindow({ plan, ...back, evidence, now })
}

function toStatusGate(gate: SiteLook['verdict']['gates'][number]): StatusGate {
  const { id, site, claim, verdict, because, hint } = gate
  return { id, site, claim, verdict, because, hint }
}

function labelOf(rotation: OpenRotation, position: SitePosition): string | null {
  if (position.kind !== 'at') return null
  const at = findStep(rotation.plan, position.phase, position.step)
  if (at === null) return null
  return `${stepFolder(at)}${position.variant === 'step' ? '' : ` (${position.variant})`}`
}

async function wiringText(rotation: OpenRotation, site: string, position: SitePosition): Promise<readonly string[]> {
  if (position.kind !== 'at') return []
  return (await missingWiring(rotation, [site])).map(({ point }) => `${point.file}: ${point.purpose}`)
}

function phasesOf(
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  course: Course,
): readonly StatusPhase[] {
  const times = phaseTimes(course)
  const numbers = rotation.plan.sites.map(site => {
    const position = positions[site.name]
    return position?.kind === 'at' ? position.phase : -1
  })
  const reached = Math.min(...numbers)
  const phases = rotation.plan.phases.map((phase, index) => ({
    number: phase.number,
    name: phase.name,
    title: phase.title,
    mark:
      rotation.closed || phase.number < reached
        ? ('done' as const)
        : numbers.includes(phase.number)
          ? ('now' as const)
          : ('ahead' as const),
    steps: phase.steps.length,
    takes: times[index] ?? closingTime,
  }))
  const close = {
    number: phases.length,
    name: 'close',
    title: 'close',
    mark: rotation.closed ? ('done' as const) : ('ahead' as const),
    steps: 1,
    takes: closingTime,
  }
  return [...phases, close]
}

/** Whose word the newest evidence of each site is. */
async function evidenceOf(context: Context, rotation: OpenRotation): Promise<readonly StatusEvidence[]> {
  const { plan, declaration, snapshot, commit } = rotation
  const { signers } = declaration.evidence
  const present = await presentAt(context.repository, [commit], context.now())
  const newest = new Map<string, StatusEvidence>()
  for (const { file, evidence, authorship, refused } of await committedEvidence(
    snapshot,
    { plan, signers, present },
    2,
  )) {
    const { site, to: at } = evidence
    newest.set(site, {
      site,
      file,
      at,
      authorship: refused === null ? authorshipText(authorship) : `not counted: ${refused}`,
    })
  }
  return [...newest.values()]
}

async function requestsOf(context: Context, rotation: OpenRotation): Promise<readonly StatusPullRequest[]> {
  // Only a forge that is in the repository can be asked without a network.
  if (rotation.declaration.forge.kind !== 'local') return []
  try {
    const forge = await context.openForge(rotation.declaration)
    const ours = (await forge.listOpen(rotation.base)).filter(({ branch }) =>
      branch.startsWith(`reanchor/${rotation.name}/`),
    )
    return await Promise.all(
      ours.map(async ({ number, title, state, url, head }) => {
        const status = await forge.status(head, gateContext)
        return { number, title, state, url, gate: status === null ? null : gateText(status, context.now()) }
      }),
    )
  } catch (error) {
    // What status tells of the sites needs only what was fetched last.
    if (error instanceof ReanchorError) return []
    throw error
  }
}

function nextSentence(
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  looks: readonly SiteLook[] | null,
  pullRequests: readonly StatusPullRequest[],
): string {
  if (rotation.closed) return 'The rotation is closed.'
  const [open] = pullRequests
  if (open !== undefined) return `review and merge pull request #${open.number} (${open.title}), then let it roll out.`
  const holds = { verdict: 'holds' as const, gates: [] }
  const action = decideNext({
    plan: rotation.plan,
    closed: false,
    positions,
    verdicts: Object.fromEntries(
      looks === null
        ? rotation.plan.sites.map(site => [site.name, holds])
        : looks.map(look => [look.site, look.verdict]),
    ),
  })
  const verified = looks === null ? 'once `reanchor next` has seen every gate hold, ' : ''
  switch (action.kind) {
    case 'open':
      return `${verified}the next pull request is ${stepFolder(action.at)} for ${action.sites.join(', ')}: run \`reanchor next\`.`
    case 'close':
      return `${verified}the closing pull request is next: run \`reanchor next\`.`
    case 'done':
      return 'The rotation is closed.'
    case 'wait':
      return `waiting: ${action.gates[0]?.claim ?? 'a gate does not hold'} (${action.gates[0]?.because[0] ?? action.verdict}).`
    case 'refuse':
      return `site ${action.site} needs a person: ${action.why}`
  }
}
