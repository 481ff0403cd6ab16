import { exitCodes, ReanchorError } from '../errors.ts'
import { findStep, stepFolder, treeFolder } from '../plan/steps.ts'
import type { FaultName } from '../rehearsal/faults.ts'
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

/** Acts a fault out, as people or clusters do it, and tells what the product did about it. */
export async function runFault(world: World, fault: FaultName): Promise<DemoFault> {
  const made = await planAndMerge(world)
  switch (fault) {
    case 'never-reloads':
    case 'replica-lags':
      return await waitsForCulprit(world, fault)
    case 'edited-pr':
      return await editedRequest(world, made)
    case 'out-of-order':
      return await outOfOrder(world, made)
    case 'revert-trust-both':
      return await revertTrustBoth(world, made)
    case 'one-step':
      return await oneStep(world, made)
  }
}

/** Phase in which each cluster fault strikes: the first in which what it breaks is what the phase is about. */
const strikesIn: Readonly<Partial<Record<FaultName, string>>> = {
  'never-reloads': 'trust-both',
  'replica-lags': 'issue-new',
}

/** Goes on until a gate no longer opens, and looks whether it names what was struck. */
async function waitsForCulprit(world: World, kind: FaultName): Promise<DemoFault> {
  let struck: string | null = null
  for (;;) {
    const outcome = await nextWhenReady(world, 2 * 60 * 60 * 1000)
    if (outcome.kind === 'done') return { kind, culprit: null, refusedAt: null }
    if (outcome.kind !== 'waiting') {
      if (outcome.pullRequest === null) throw new Error('there is no pull request to merge')
      const place = await placeOf(world, outcome.pullRequest)
      if (struck === null && place.name === strikesIn[kind]) {
        struck = strike(world, kind)
        world.say(`    ${kind}: ${struck}`)
      }
      await recordMerge(world, outcome.pullRequest)
      continue
    }
    const culprit = kind === 'replica-lags' ? laggingReplica(world) : struck
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
  return line.includes(`${parts[0]}/${parts.at(-1)}`)
}

function strike(world: World, kind: FaultName): string {
  const [site] = world.rehearsal.sites.values()
  if (site === undefined) throw new Error('the rehearsal has no site')
  if (kind === 'never-reloads') {
    const owner = 'httpbin/Deployment/httpbin'
    site.faults.frozen.add(owner)
    return owner
  }
  const node = site.workloads.nodes[1] ?? ''
  const secret = site.store.get('', 'Secret', 'istio-system', 'cacerts')
  site.faults.staleNodes.set(
    node,
    new Map([['Secret/istio-system/cacerts', secret === null ? null : structuredClone(secret)]]),
  )
  return `the kubelet of ${node} no longer sees changes of cacerts`
}

function laggingReplica(world: World): string | null {
  const [site] = world.rehearsal.sites.values()
  const node = site?.workloads.nodes[1]
  const pod = site?.workloads.istiods.find(
    replica => (replica.pod.spec as { nodeName?: string } | undefined)?.nodeName === node,
  )?.pod
  return pod === undefined ? null : `${pod.metadata.namespace}/${pod.metadata.name}`
}

/** Somebody takes the old root out of an open pull request, to be done sooner. */
async function editedRequest(world: World, made: Plan): Promise<DemoFault> {
  const request = await advanceUntil(
    world,
    place => place.phase === phaseNumber(made, 'trust-both') && place.step === 1,
  )
  if (request === null) throw new Error('trust-both was not reached')
  const path = `${made.sites[0]?.path}/root-cert.pem`
  const head = await world.repository.commitAt(request.branch)
  const text = (await world.repository.snapshot(head).read(path)) ?? ''
  const second = text.indexOf('-----BEGIN CERTIFICATE-----', 1)
  const edited = await world.repository.commit({
    parent: head,
    changes: new Map([[path, text.slice(second)]]),
    message: 'Drop the old root already',
    trailers: {},
    author: demoAuthor,
    at: world.context.now(),
  })
  await world.repository.publish([{ ref: `refs/heads/${request.branch}`, from: head, to: edited }])
  world.say(`    somebody edits #${request.number}: the old root goes from ${path}`)
  return await refusedBy(
    world,
    'edited-pr',
    `${phaseNumber(made, 'trust-both')}-trust-both/1-data`,
    'next',
    async () => {
      await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
    },
  )
}

/** Somebody copies issue-new into the site's folder before istiod has restarted with both roots. */
async function outOfOrder(world: World, made: Plan): Promise<DemoFault> {
  const trustBoth = phaseNumber(made, 'trust-both')
  const waiting = await advanceUntil(world, place => place.phase === trustBoth && place.step === 2)
  if (waiting === null) throw new Error('trust-both was not reached')
  const step = findStep(made, phaseNumber(made, 'issue-new'), 1)
  if (step === null) throw new Error('the plan has no phase issue-new')
  const base = await world.repository.head('main')
  const changes = await folderChanges(world, made, base, site => treeFolder(world.rotation, step, 'step', site))
  const head = await branchWith(world, 'hurry', base, changes, 'Issue from the new CA now')
  world.say('    somebody opens a pull request that skips a step: issue-new before istiod restarted with both roots')
  return await checked(
    world,
    'out-of-order',
    `${trustBoth}-trust-both/${waiting.title.includes('step 2') ? '2-restart' : '1-data'}`,
    base,
    head,
  )
}

/** After leaves of the new CA are out, somebody reverts the pull requests that made everyone trust it. */
async function revertTrustBoth(world: World, made: Plan): Promise<DemoFault> {
  const trustNew = phaseNumber(made, 'trust-new')
  const waiting = await advanceUntil(world, place => place.phase === trustNew && place.step === 1)
  if (waiting === null) throw new Error('issue-new was not reached')
  await world.forge.close(waiting.number)
  const before = findStep(
    made,
    phaseNumber(made, 'trust-both') - 1,
    made.phases[phaseNumber(made, 'trust-both') - 1]?.steps.length ?? 1,
  )
  if (before === null) throw new Error('the plan has nothing before trust-both')
  const base = await world.repository.head('main')
  const changes = await folderChanges(world, made, base, site => treeFolder(world.rotation, before, 'step', site))
  const head = await branchWith(world, 'revert-trust-both', base, changes, 'Revert "trust both roots"')
  world.say('    somebody reverts trust-both while leaves of the new CA are out')
  return await checked(world, 'revert-trust-both', `${phaseNumber(made, 'issue-new')}-issue-new/2-restart`, base, head)
}

/** What people do today: new CA and new root in one commit, then restarts, and no gate between. */
async function oneStep(world: World, made: Plan): Promise<DemoFault> {
  const last = made.phases.at(-1)?.steps.length ?? 1
  const step = findStep(made, made.phases.length - 1, last)
  if (step === null) throw new Error('the plan is empty')
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
    message: 'Replace the mesh CA',
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

function phaseNumber(made: Plan, name: string): number {
  const number = made.phases.find(phase => phase.name === name)?.number
  if (number === undefined) throw new Error(`the plan has no phase ${name}`)
  return number
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
