import { randomBytes } from 'node:crypto'
import { findDeclaration } from '../../src/commands/declared.ts'
import {
  advanceUntil,
  merge,
  nextWhenReady,
  type Place,
  planAndMerge,
  recordMerge,
  type World,
} from '../../src/commands/demo.ts'
import { type NextOutcome, next } from '../../src/commands/next.ts'
import { type RehearseOutcome, rehearse } from '../../src/commands/rehearse.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { ReanchorError } from '../../src/errors.ts'
import type { PullRequest } from '../../src/forge/forge.ts'
import { findStep, stepFolder } from '../../src/plan/steps.ts'
import type { SitePosition } from '../../src/rotation.ts'

export async function isClosed(world: World): Promise<boolean> {
  return (await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })).closed
}

export async function positions(world: World): Promise<Readonly<Record<string, SitePosition>>> {
  const { snapshot, plan } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  return await positionsAt(snapshot, plan)
}

/** From the plan to the closed rotation: `trust-both/data`, … of each merged step in order, a batch's steps one after the other. */
export async function wholeRotation(world: World): Promise<readonly string[]> {
  await planAndMerge(world)
  return await goOn(world)
}

/** From where it stands to the closed rotation, in which asking again changes nothing (F4). */
export async function goOn(world: World): Promise<readonly string[]> {
  const from = world.phases.length
  await advanceUntil(world, () => false)
  if (!(await isClosed(world))) throw new Error('the rotation is not closed')
  const before = await world.repository.branches('')
  const { outcome } = await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
  const after = await world.repository.branches('')
  if (outcome.kind !== 'done' || JSON.stringify([...before]) !== JSON.stringify([...after]))
    throw new Error(`asked again in the closed rotation, next wrote something: ${outcome.kind}`)
  const passed = world.phases.slice(from).map(({ pr, name, step }) => ({ pr, text: `${name}/${step}` }))
  return passed.filter(({ pr }, index) => passed[index - 1]?.pr !== pr).map(({ text }) => text)
}

/** Merges until the pull request of a step is open, given as `trust-both/data` or, for its first step, `trust-both`; it stays open. */
export async function openStep(world: World, name: string): Promise<PullRequest> {
  const is = (place: Place): boolean => place.name === name || `${place.name}/${place.stepName}` === name
  const found = await advanceUntil(world, is)
  if (found === null) throw new Error(`${name} was not reached`)
  return found
}

/** As a person does who does not want the step whose pull request is open: closes it. */
export async function closeRequest(world: World, request: PullRequest): Promise<void> {
  await world.forge.close(request.number)
}

/** Asks for the undo or the nudge of where the sites are, and merges it. */
export async function mergeVariant(world: World, variant: 'undo' | 'nudge'): Promise<PullRequest> {
  const { outcome } = await next(world.context, { rotation: world.rotation, base: null, variant })
  const request = requestOf(outcome)
  await merge(world, request, world.requiredStatuses)
  return request
}

/** Undoes the step before `name`, whose pull request is closed, and goes forward again to the closed rotation. */
export async function undoBefore(world: World, name: string): Promise<PullRequest> {
  await closeRequest(world, await openStep(world, name))
  return await mergeVariant(world, 'undo')
}

/**
 * A whole rotation in which each step is undone once, after its gates held, and then passed again; by the time that the step is opened
 * again, the gates of what was undone have held too. Tells for each step (`1-trust-both/1-data`) `undone`, or in which words it was refused.
 */
export async function undoEachStep(world: World): Promise<Readonly<Record<string, string>>> {
  await planAndMerge(world)
  const told: Record<string, string> = {}
  for (;;) {
    const outcome = await nextWhenReady(world)
    if (outcome.kind === 'done') return told
    const request = requestOf(outcome)
    const stands = await presentStep(world)
    if (stands === null || stands in told) {
      await recordMerge(world, request)
      continue
    }
    await closeRequest(world, request)
    told[stands] = await undoneOrRefused(world)
  }
}

/** Goes back from where the pull request of `name` opens until nothing new is trusted, and closes the rotation. */
export async function abandonBefore(world: World, name: string): Promise<void> {
  await closeRequest(world, await openStep(world, name))
  const until = world.rehearsal.clock.millis() + (world.system.demo.patience ?? 12 * 3_600_000)
  const options = { rotation: world.rotation, base: null, variant: 'step', abandon: true, runner: true } as const
  for (;;) {
    const { outcome } = await next(world.context, options)
    if (outcome.kind === 'done') return
    if (outcome.kind !== 'waiting') await merge(world, requestOf(outcome), world.requiredStatuses)
    else if (world.rehearsal.clock.millis() < until) await pause(world, outcome)
    else throw new Error(`abandon waits: ${outcome.gates.map(gate => gate.because.join('; ')).join('\n')}`)
  }
}

/** `reanchor rehearse` of what the world has declared; its own repository and clusters are only read. */
export async function rehearseDeclared(world: World): Promise<RehearseOutcome> {
  const declared = await findDeclaration(world.context, { rotation: world.rotation, base: null })
  const options = { seed: 'rehearse', random: (size: number) => randomBytes(size), say: () => {} }
  return await rehearse(world.context, declared, options)
}

async function undoneOrRefused(world: World): Promise<string> {
  try {
    await mergeVariant(world, 'undo')
    return 'undone'
  } catch (error) {
    if (error instanceof ReanchorError) return error.what
    throw error
  }
}

/** The step that all sites are at; null where there is none, or where only some batches are. */
async function presentStep(world: World): Promise<string | null> {
  const { plan } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  const at = Object.values(await positions(world)).map(position => {
    if (position.kind !== 'at' || position.variant === 'undo') return null
    const found = findStep(plan, position.phase, position.step)
    return found === null ? null : stepFolder(found)
  })
  const [first = null] = at
  return at.every(each => each === first) ? first : null
}

async function pause(world: World, outcome: Extract<NextOutcome, { kind: 'waiting' }>): Promise<void> {
  const { context, rotation, rehearsal, system } = world
  await system.demo.meanwhile?.({ context, rotation, rehearsal, gates: outcome.gates })
  await rehearsal.run(system.demo.patience === undefined ? 5 * 60_000 : 30 * 60_000)
}

function requestOf(outcome: NextOutcome): PullRequest {
  if ((outcome.kind === 'opened' || outcome.kind === 'open') && outcome.pullRequest !== null) return outcome.pullRequest
  const gates = outcome.kind === 'waiting' ? outcome.gates : []
  throw new Error(`expected a pull request, found ${outcome.kind}: ${gates.map(gate => gate.because.join('; '))}`)
}
