import { ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import { decideNext } from '../plan/advance.ts'
import { findStep, planBranch, stepFolder } from '../plan/steps.ts'
import type { StatusGate, StatusPhase, StatusPullRequest, StatusSite, StatusView } from '../report/status.ts'
import type { SitePosition } from '../rotation.ts'
import type { Context } from './context.ts'
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
  const seen = looks?.map(look => look.evidence.to).sort()[0]
  return {
    rotation: rotation.name,
    strategy: declaration.strategy,
    paused: declaration.paused,
    now: `${context.now().toISOString().slice(0, 19)}Z`,
    phases: phasesOf(rotation, positions),
    sites,
    pullRequests,
    gates: (looks ?? []).flatMap(look => look.verdict.gates).map(toStatusGate),
    seen: seen === undefined ? null : { from: 'live', at: seen },
    expires: plan.certificates.map(({ role, subject, sha256, notAfter }) => ({ role, subject, sha256, notAfter })),
    next: nextSentence(rotation, positions, looks, pullRequests),
  }
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

function phasesOf(rotation: OpenRotation, positions: Readonly<Record<string, SitePosition>>): readonly StatusPhase[] {
  const numbers = rotation.plan.sites.map(site => {
    const position = positions[site.name]
    return position?.kind === 'at' ? position.phase : -1
  })
  const reached = Math.min(...numbers)
  const phases = rotation.plan.phases.map(phase => ({
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
  }))
  const close = {
    number: phases.length,
    name: 'close',
    title: 'close',
    mark: rotation.closed ? ('done' as const) : ('ahead' as const),
    steps: 1,
  }
  return [...phases, close]
}

async function requestsOf(context: Context, rotation: OpenRotation): Promise<readonly StatusPullRequest[]> {
  // Only a forge that is in the repository can be asked without a network.
  if (rotation.declaration.forge.kind !== 'local') return []
  const open = await openRequests(context, rotation)
  return open
    .filter(
      request =>
        request.branch.startsWith(`reanchor/${rotation.name}/`) || request.branch === planBranch(rotation.name),
    )
    .map(({ number, title, state, url }) => ({ number, title, state, url }))
}

/** None where the forge is out of reach: what status tells of the sites needs only what was fetched last. */
async function openRequests(context: Context, rotation: OpenRotation): Promise<readonly PullRequest[]> {
  try {
    const forge = await context.openForge(rotation.declaration)
    return await forge.listOpen(rotation.base)
  } catch (error) {
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
