import { exitCodes, ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import { findStep, type PlanStep, stepFolder, stepsOf, treeFolder } from '../plan/steps.ts'
import type { ClusterFault, FaultName } from '../rehearsal/faults.ts'
import type { SiteControls } from '../rehearsal/rehearsal.ts'
import type { ClusterStrike, DemoFaults, Struck } from '../rehearsal/system.ts'
import type { Plan } from '../rotation.ts'
import { check } from './check.ts'
import {
  advanceUntil,
  type DemoFault,
  demoAuthor,
  nextWhenReady,
  placeOf,
  planAndMerge,
  recordMerge,
  type World,
} from './demo.ts'
import { next } from './next.ts'
import { loadRotation } from './rotation.ts'
import { addWiring, loadForWiring } from './wire.ts'

const hour = 60 * 60 * 1000

/** Acts a fault out, as people or clusters do it, and tells what the product did about it. */
export async function runFault(world: World, fault: FaultName): Promise<DemoFault> {
  const strikes = world.system.demo.faults(world.variant)
  if (strikes === null) throw new Error('the demo acts out no fault in this variant')
  const made = await planAndMerge(world)
  switch (fault) {
    case 'never-reloads':
    case 'replica-lags':
      return await waitsForCulprit(world, fault, strikes.cluster[fault])
    case 'edited-pr':
      return await editedRequest(world, made, strikes)
    case 'out-of-order':
      return await outOfOrder(world, made, strikes)
    case 'revert-trust-both':
      return await revertWidening(world, made, strikes)
    case 'one-step':
      return await oneStep(world, made)
  }
}

/** Goes on until a gate no longer opens, and looks whether it names what was struck. */
async function waitsForCulprit(world: World, kind: ClusterFault, strike: ClusterStrike): Promise<DemoFault> {
  let struck: Struck | null = null
  for (;;) {
    // Whoever is well has gone on by then, and who is still named is stuck.
    const outcome = await (struck === null ? nextWhenReady(world) : nextWhenReady(world, 2 * hour, hour / 3))
    if (outcome.kind === 'done') return { kind, culprit: null, refusedAt: null }
    if (outcome.kind !== 'waiting') {
      if (outcome.pullRequest === null) throw new Error('there is no pull request to merge')
      const place = await placeOf(world, outcome.pullRequest)
      if (struck === null && place.name === strike.phase) {
        struck = firstSite(world).system.strike?.(kind, undefined) ?? null
        world.say(`    ${kind}: ${strike.what}`)
      }
      await recordMerge(world, outcome.pullRequest)
      continue
    }
    const culprit = struck?.culprit() ?? null
    const evidence = outcome.looks[0]?.evidence
    const { plan: made } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
    const at = evidence === undefined ? null : findStep(made, evidence.phase, evidence.step)
    const said = outcome.gates.flatMap(gate => gate.because).filter(line => culprit !== null && names(line, culprit))
    for (const line of said.slice(0, 4)) world.say(`    waiting: ${line}`)
    if (said.length === 0 || at === null) return { kind, culprit: null, refusedAt: null }
    const exit = outcome.verdict === 'pending' ? exitCodes.waiting : exitCodes.violated
    return { kind, culprit, refusedAt: { phase: stepFolder(at), command: 'next', exit } }
  }
}

/** Whether a line speaks of a consumer: an owner is named with its kind, its pods by a name that begins with the owner's. */
function names(line: string, consumer: string): boolean {
  const parts = consumer.split('/')
  return line.includes(consumer) || line.includes(`${parts[0]}/${parts.at(-1)}`)
}

function firstSite(world: World): SiteControls {
  const [site] = world.rehearsal.sites.values()
  if (site === undefined) throw new Error('the rehearsal has no site')
  return site
}

/** Somebody takes the old root out of an open pull request, to be done sooner. */
async function editedRequest(world: World, made: Plan, strikes: DemoFaults): Promise<DemoFault> {
  const widening = stepOf(made, strikes.widening, 'first')
  const request = await openAt(world, widening)
  const head = await world.repository.commitAt(request.branch)
  const folder = made.sites[0]?.path ?? ''
  const { file, text } = strikes.edit(await world.repository.snapshot(head).readFolder(folder))
  const path = `${folder}/${file}`
  const edited = await world.repository.commit({
    parent: head,
    changes: new Map([[path, text]]),
    message: 'Drop the old root already',
    trailers: {},
    author: demoAuthor,
    at: world.context.now(),
  })
  await world.repository.publish([{ ref: `refs/heads/${request.branch}`, from: head, to: edited }])
  world.say(`    somebody edits #${request.number}: the old root goes from ${path}`)
  return await refusedBy(world, 'edited-pr', stepFolder(widening), 'next', async () => {
    await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
  })
}

/** Somebody copies the switch into the site's folder before the widening has reached everyone. */
async function outOfOrder(world: World, made: Plan, strikes: DemoFaults): Promise<DemoFault> {
  const last = stepOf(made, strikes.widening, 'last')
  await openAt(world, last)
  const stands = stepsOf(made)[last.index - 1] ?? last
  const step = stepOf(made, strikes.switching, 'first')
  const base = await world.repository.head('main')
  const changes = await folderChanges(world, made, base, site => treeFolder(world.rotation, step, 'step', site))
  const head = await branchWith(world, 'hurry', base, changes, 'Issue from the new CA now')
  world.say(`    somebody opens a pull request that skips a step: ${stepFolder(step)} before ${stepFolder(last)}`)
  return await checked(world, 'out-of-order', stepFolder(stands), base, head)
}

/** After leaves of the new CA are out, somebody reverts the pull requests that made everyone trust it. */
async function revertWidening(world: World, made: Plan, strikes: DemoFaults): Promise<DemoFault> {
  const switched = stepOf(made, strikes.switching, 'last')
  const narrowing = stepsOf(made)[switched.index + 1]
  const before = stepsOf(made)[stepOf(made, strikes.widening, 'first').index - 1]
  if (narrowing === undefined || before === undefined) throw new Error('the plan has no way from widening to narrowing')
  const waiting = await openAt(world, narrowing)
  await world.forge.close(waiting.number)
  const base = await world.repository.head('main')
  const changes = await folderChanges(world, made, base, site => treeFolder(world.rotation, before, 'step', site))
  const title = stepOf(made, strikes.widening, 'first').phase.title
  const head = await branchWith(world, 'revert-trust-both', base, changes, `Revert "${title}"`)
  world.say(`    somebody reverts ${strikes.widening} while leaves of the new CA are out`)
  return await checked(world, 'revert-trust-both', stepFolder(switched), base, head)
}

/** What people do today: new CA and new root in one commit, then restarts, and no gate between. */
async function oneStep(world: World, made: Plan): Promise<DemoFault> {
  const step = stepsOf(made).at(-1)
  if (step === undefined) throw new Error('the plan is empty')
  const base = await world.repository.head('main')
  const changes = await folderChanges(world, made, base, site => treeFolder(world.rotation, step, 'step', site))
  await addWiring(
    await loadForWiring(world.repository, world.rotation),
    made.sites.map(site => site.name),
    changes,
  )
  const commit = await world.repository.commit({
    parent: base,
    changes,
    message: 'Replace the CA',
    trailers: {},
    author: demoAuthor,
    at: world.context.now(),
  })
  world.rehearsal.setPhase('one-step')
  await world.repository.publish([{ ref: 'refs/heads/main', from: base, to: commit }])
  world.say('    the whole swap in one commit, pushed straight to main, with nobody looking')
  await world.rehearsal.run(60 * 60_000)
  await world.rehearsal.settle()
  return { kind: 'one-step', culprit: null, refusedAt: null }
}

// ------------------------------------------------------------------------------------------------------ helpers

function stepOf(made: Plan, phase: string, which: 'first' | 'last'): PlanStep {
  const steps = stepsOf(made).filter(each => each.phase.name === phase)
  const found = which === 'first' ? steps[0] : steps.at(-1)
  if (found === undefined) throw new Error(`the plan has no phase ${phase}`)
  return found
}

async function openAt(world: World, at: PlanStep): Promise<PullRequest> {
  const request = await advanceUntil(world, place => place.phase === at.phase.number && place.step === at.step.number)
  if (request === null) throw new Error(`${stepFolder(at)} was not reached`)
  return request
}

async function folderChanges(
  world: World,
  made: Plan,
  commit: string,
  folderOf: (site: string) => string,
): Promise<Map<string, string | null>> {
  const snapshot = world.repository.snapshot(commit)
  const changes = new Map<string, string | null>()
  for (const site of made.sites) {
    for (const path of (await snapshot.list(site.path)).keys()) changes.set(path, null)
    for (const [file, text] of await snapshot.readFolder(folderOf(site.name))) changes.set(`${site.path}/${file}`, text)
  }
  return changes
}

async function branchWith(
  world: World,
  branch: string,
  base: string,
  changes: ReadonlyMap<string, string | null>,
  message: string,
): Promise<string> {
  const at = world.context.now()
  const commit = await world.repository.commit({ parent: base, changes, message, trailers: {}, author: demoAuthor, at })
  await world.repository.publish([{ ref: `refs/heads/${branch}`, from: null, to: commit }])
  await world.forge.open({ title: message, body: '', branch, base: 'main' })
  return commit
}

/** The check that CI runs on every pull request; the users of the demo obey it and do not merge. */
async function checked(world: World, kind: FaultName, phase: string, base: string, head: string): Promise<DemoFault> {
  const { verdict } = await check(world.context, { range: `${base}..${head}`, rotation: world.rotation, base: null })
  world.say(`    reanchor check: ${verdict.safe ? 'safe' : verdict.sentence}`)
  if (verdict.safe) return { kind, culprit: null, refusedAt: null }
  await world.rehearsal.run(10 * 60_000)
  return { kind, culprit: verdict.sentence, refusedAt: { phase, command: 'check', exit: exitCodes.refused } }
}

async function refusedBy(
  world: World,
  kind: FaultName,
  phase: string,
  command: string,
  run: () => Promise<void>,
): Promise<DemoFault> {
  try {
    await run()
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    world.say(`    reanchor ${command}: ${error.what}: ${error.found ?? ''}`)
    await world.rehearsal.run(10 * 60_000)
    return { kind, culprit: `${error.what}: ${error.found ?? ''}`, refusedAt: { phase, command, exit: error.exit } }
  }
  return { kind, culprit: null, refusedAt: null }
}
