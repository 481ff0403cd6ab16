import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { type ExitCode, exitCodes, ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import type { LocalForge } from '../forge/local.ts'
import { openForgeOf } from '../forge/open.ts'
import { type KeySource, systemKeys } from '../pki/keys.ts'
import { findStep } from '../plan/steps.ts'
import type { FaultName } from '../rehearsal/faults.ts'
import type { Rehearsal } from '../rehearsal/rehearsal.ts'
import type { RehearsalSystem } from '../rehearsal/system.ts'
import { initBare } from '../repository/init.ts'
import { openRepository, type Person, type Repository } from '../repository/repository.ts'
import type { FileTree, GateResult, Plan, SystemName, SystemPart, TrustState } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import type { Context } from './context.ts'
import { gateContext } from './gate-status.ts'
import { type NextOutcome, next } from './next.ts'
import { plan } from './plan.ts'
import { loadRotation } from './rotation.ts'

export interface DemoOptions {
  /** Kept where it is given; else a temporary folder that is removed at the end. */
  readonly dir: string | null
  /** @default istio */
  readonly system?: SystemName
  /** Null: as many as the system's demo usually has. */
  readonly sites: number | null
  /** One of the system's variants, such as how Istio is installed and delivered. @default the usual one */
  readonly variant?: string | null
  readonly fault: FaultName | null
  readonly seed: string
  readonly random: (size: number) => Buffer
  readonly say: (line: string) => void
}

export interface DemoPhase {
  readonly number: number
  readonly name: string
  readonly step: string
  readonly site: string
  readonly pr: number
  /** The merge on the base branch. */
  readonly commit: string
}

export interface DemoFault {
  readonly kind: FaultName
  /** What the product named as the cause. */
  readonly culprit: string | null
  /** Where the product refused to go on; null where it did not. */
  readonly refusedAt: { readonly phase: string; readonly command: string; readonly exit: ExitCode } | null
}

export interface DemoResult {
  readonly rotation: string
  readonly repository: string
  readonly phases: readonly DemoPhase[]
  /** `failed`: all that failed. `foretold`: those of them that the plan had said would. Where the two are equal, nothing broke that was not to break. */
  readonly handshakes: { readonly attempted: number; readonly failed: number; readonly foretold: number }
  readonly restarts: readonly {
    readonly consumer: string
    readonly site: string
    readonly count: number
    readonly planned: number
  }[]
  readonly ageKeyFile: string
  readonly fault?: DemoFault
}

export interface DemoOutcome {
  readonly result: DemoResult
  readonly exit: ExitCode
  /** Virtual milliseconds from the first pull request to the last merge's verification. */
  readonly virtualTime: number
}

const author: Person = { name: 'demo', email: 'demo@example.com' }

/** The world of a demo: one bare repository, one forge inside it, and a rehearsal cluster for each site. */
interface World {
  readonly context: Context
  readonly repository: Repository
  readonly forge: LocalForge
  readonly rehearsal: Rehearsal
  readonly system: RehearsalSystem
  /** The demo's; null: the usual one. */
  readonly variant: string | null
  readonly folder: string
  readonly ageKeyFile: string
  readonly phases: DemoPhase[]
  readonly rotation: string
  readonly acceptOutage: boolean
  /** What the base branch's protection asks for before a step is merged. */
  readonly requiredStatuses: readonly string[]
  readonly say: (line: string) => void
}

/** A whole rotation on this machine, with the commands that users run: only time, the forge and the clusters are not the real ones. */
export async function demo(options: DemoOptions): Promise<DemoOutcome> {
  const system = await systemOf(options.system ?? 'istio').rehearsal()
  const { demo } = system
  const sites = demo.sites.slice(0, options.sites ?? demo.usualSites)
  const variant = options.variant ?? null
  const fleetOptions = (ageRecipient: string, sealingCertificate: string) => ({
    sites,
    ageRecipient,
    sealingCertificate,
    variant,
  })
  return await rehearseFleet({
    ...options,
    system,
    variant,
    rotation: demo.rotation,
    siteNames: sites,
    sealing: demo.byArgo(variant),
    fleet: (recipient, sealingCertificate) => demo.fleet(fleetOptions(recipient, sealingCertificate)),
    declare: async (fleet, recipient, now) => {
      const paths = Object.fromEntries(sites.map(name => [name, `trust/${name}`]))
      return await demo.declare(fleet, { ...fleetOptions(recipient, ''), rotation: demo.rotation, paths, now })
    },
    sharedRoot: sites.length > 1,
    acceptOutage: demo.acceptsOutage?.(variant) ?? false,
  })
}

export interface FleetRehearsal extends Omit<DemoOptions, 'sites' | 'system'> {
  /** What runs in the clusters. @default Istio */
  readonly system?: RehearsalSystem
  readonly rotation: string
  readonly siteNames: readonly string[]
  /** The repository as it is before the rotation, sealed to this age recipient or to the certificate of a Sealed Secrets controller. */
  readonly fleet: (recipient: string, sealingCertificate: string) => FileTree
  /** The clusters run a Sealed Secrets controller, with a key made for this rehearsal. @default false */
  readonly sealing?: boolean
  /** What a user declared of the system: the clusters have its names and parties. @default those of the demo */
  readonly declared?: SystemPart | null
  readonly declare: (
    fleet: FileTree,
    recipient: string,
    now: Date,
  ) => Promise<{ readonly path: string; readonly text: string }>
  /** Every site starts with an issuing CA of its own under one root; else each with istiod's self-signed CA. */
  readonly sharedRoot: boolean
  /**
   * When the clusters' time begins; now unless said otherwise. OpenSSL judges dates by the machine's clock, so what is to be made after
   * hours of virtual time must begin as long ago.
   */
  readonly begins?: Date
  /** Strategy emergency: handshakes that it breaks on purpose count as foretold. @default false */
  readonly acceptOutage?: boolean
  /** Ordered pairs in one round of handshakes. @default as the rehearsal has it */
  readonly roundLimit?: number
  /** Whether a round tries again what stands as it stood when it was tried. @default it does */
  readonly repeats?: boolean
  /** Where keys of generated CAs come from. @default the system's generator */
  readonly keys?: KeySource
  /** What the base branch's protection asks for before a step is merged. @default `reanchor/gate` */
  readonly requiredStatuses?: readonly string[]
}

export async function rehearseFleet(options: FleetRehearsal): Promise<DemoOutcome> {
  const folder = options.dir === null ? mkdtempSync(join(tmpdir(), 'reanchor-demo-')) : resolve(options.dir)
  const world = await makeWorld(options, folder)
  try {
    const started = world.rehearsal.clock.millis()
    const ended = options.fault === null ? null : await actOut(world, options.fault)
    if (ended === null) await rotate(world)
    const { attempted, failed, foretold } = world.rehearsal.handshakes.counts
    const result: DemoResult = {
      rotation: world.rotation,
      repository: world.repository.gitDir,
      phases: world.phases,
      handshakes: { attempted, failed: failed + foretold, foretold },
      restarts: await restartsOf(world),
      ageKeyFile: world.ageKeyFile,
      ...(ended === null ? {} : { fault: ended }),
    }
    const held = ended === null ? failed === 0 : ended.refusedAt !== null && failed === 0
    return {
      result,
      exit: held ? exitCodes.done : exitCodes.refused,
      virtualTime: world.rehearsal.clock.millis() - started,
    }
  } finally {
    await world.rehearsal.close()
    world.repository.close()
    if (options.dir === null) rmSync(folder, { recursive: true, force: true })
  }
}

async function actOut(world: World, fault: FaultName): Promise<DemoFault> {
  const { runFault } = await import('./demo-faults.ts')
  return await runFault(world, fault)
}

export async function makeWorld(options: FleetRehearsal, folder: string): Promise<World> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption')
  const { startRehearsal } = await import('../rehearsal/rehearsal.ts')
  const bare = join(folder, 'fleet.git')
  const ageKeyFile = join(folder, 'age.key')
  refuseUsedFolder(folder, [bare, ageKeyFile, rootKeyFile(folder, options.rotation)])
  mkdirSync(folder, { recursive: true })
  await initBare(bare, 'main')
  const identity = await generateX25519Identity()
  writeFileSync(ageKeyFile, `${identity}\n`, { mode: 0o600, flag: 'wx' })
  const recipient = await identityToRecipient(identity)

  const sites = options.siteNames
  const system = options.system ?? (await systemOf('istio').rehearsal())
  const repository = await openRepository(bare)
  const sealing = options.sealing === true ? await sealingPair() : null
  const fleet = options.fleet(recipient, sealing?.certificate ?? '')
  const message = 'The fleet as it is'
  const first = await repository.commit({ parent: null, changes: fleet, message, trailers: {}, author, at: new Date() })
  await repository.publish([{ ref: 'refs/heads/main', from: null, to: first }])

  const start = system.demo.start(options.sharedRoot)
  options.say(
    `starting ${sites.length === 1 ? 'a cluster' : `${sites.length} clusters`} with ${start} and real TLS endpoints`,
  )
  const rehearsal = await startRehearsal({
    readBase: async () => await readBase(repository),
    sites,
    ageIdentity: `${identity}\n`,
    seed: options.seed,
    now: options.begins ?? new Date(Date.now() - (system.demo.beginsDaysAgo ?? 0) * 86_400_000),
    sharedRoot: options.sharedRoot,
    system,
    variant: options.variant ?? null,
    declared: options.declared ?? null,
    ...(sealing === null ? {} : { sealingKey: sealing.key }),
    ...(options.roundLimit === undefined ? {} : { roundLimit: options.roundLimit }),
    ...(options.repeats === undefined ? {} : { repeats: options.repeats }),
  })
  const now = () => new Date(rehearsal.clock.millis())
  const forge = await openForgeOf(repository, { now })
  const context: Context = {
    repository,
    now,
    sleep: milliseconds => rehearsal.run(milliseconds),
    random: options.random,
    keys: options.keys ?? systemKeys,
    author,
    openForge: async () => forge,
    openCluster: async site => {
      const cluster = rehearsal.clusters.get(site.name)
      if (cluster === undefined) throw new Error(`no cluster for site ${site.name}`)
      // The rehearsal's clusters outlive every single look.
      return { ...cluster, close: async () => {} }
    },
    readFile: path => {
      throw new ReanchorError({ what: 'the demo reads no files', where: { file: path } })
    },
    environment: {},
    progress: () => {},
    dryRun: false,
  }
  const world: World = {
    context,
    repository,
    forge,
    rehearsal,
    system,
    variant: options.variant ?? null,
    folder,
    ageKeyFile,
    phases: [],
    say: options.say,
    rotation: options.rotation,
    acceptOutage: options.acceptOutage ?? false,
    requiredStatuses: options.requiredStatuses ?? [gateContext],
  }
  try {
    await commitDeclaration(world, await options.declare(fleet, recipient, now()))
  } catch (error) {
    await rehearsal.close()
    repository.close()
    throw error
  }
  return world
}

/** What the Sealed Secrets controller makes for itself at its first start: an RSA key and a certificate over it. */
async function sealingPair(): Promise<{ readonly certificate: string; readonly key: string }> {
  const { selfSignedCa } = await import('../rehearsal/certificates.ts')
  const day = 86_400_000
  return selfSignedCa('sealed-secrets', {
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 3650 * day),
  })
}

export function rootKeyFile(folder: string, rotation: string): string {
  return join(folder, `${rotation}-root.key.age`)
}

/** What else lies in the folder stays, so that nobody is told to remove more than an earlier demo has written. */
function refuseUsedFolder(folder: string, files: readonly string[]): void {
  if (existsSync(folder) && !statSync(folder).isDirectory())
    throw new ReanchorError({
      what: 'the demo needs a folder',
      where: { file: folder },
      expected: 'a folder, or a name that is free',
      found: 'a file',
      todo: 'name another folder with --dir',
    })
  const taken = files.filter(file => existsSync(file))
  if (taken.length === 0) return
  throw new ReanchorError({
    what: 'an earlier demo lies in this folder',
    where: { file: folder },
    expected: 'a folder without one',
    found: taken.map(file => basename(file)).join(', '),
    todo: 'name another folder with --dir, or remove these',
  })
}

async function readBase(repository: Repository): Promise<{ readonly commit: string; readonly files: FileTree }> {
  const commit = await repository.head('main')
  return { commit, files: await filesAt(repository, commit) }
}

const treesRead = new WeakMap<Repository, { commit: string; files: FileTree }>()

/** Polls ask far more often than the branch moves. */
async function filesAt(repository: Repository, commit: string): Promise<FileTree> {
  const known = treesRead.get(repository)
  if (known?.commit === commit) return known.files
  const snapshot = repository.snapshot(commit)
  const paths = [...(await snapshot.list()).keys()].filter(path => !/^rotations\/[^/]+\/(phases|evidence)\//.test(path))
  const files = await snapshot.readMany(paths)
  treesRead.set(repository, { commit, files })
  return files
}

export async function commitDeclaration(
  world: World,
  declared: { readonly path: string; readonly text: string },
): Promise<void> {
  const parent = await world.repository.head('main')
  const commit = await world.repository.commit({
    parent,
    changes: new Map([[declared.path, declared.text]]),
    message: `Declare rotation ${world.rotation}`,
    trailers: {},
    author,
    at: world.context.now(),
  })
  await world.repository.publish([{ ref: 'refs/heads/main', from: parent, to: commit }])
}

/** From the plan to the closing pull request, merging each as it opens. */
export async function rotate(world: World): Promise<void> {
  await planAndMerge(world)
  await advanceUntil(world, () => false)
}

export async function planAndMerge(world: World): Promise<Plan> {
  world.say('')
  const outcome = await plan(world.context, {
    rotation: world.rotation,
    base: null,
    rootKeyOut: rootKeyFile(world.folder, world.rotation),
    keysOut: join(world.folder, 'keys'),
    chain: null,
    acceptOutage: world.acceptOutage,
  })
  if (outcome.pullRequest === null) throw new Error('plan opened no pull request')
  const { demo: of } = world.system
  world.rehearsal.handshakes.foretells = failure =>
    world.acceptOutage && (of.foretells?.(outcome.plan, failure) ?? true)
  announce(world, outcome.pullRequest, 'nothing that is deployed changes')
  await merge(world, outcome.pullRequest)
  return outcome.plan
}

/** Lets `next` open and merges, until it is done or `stop` says so of a pull request that it opened (which then stays open). */
export async function advanceUntil(world: World, stop: (opened: Place) => boolean): Promise<PullRequest | null> {
  for (;;) {
    const outcome = await nextWhenReady(world)
    if (outcome.kind === 'done') return null
    if (outcome.kind !== 'opened' || outcome.pullRequest === null) throw stuck(outcome)
    const request = outcome.pullRequest
    const place = await placeOf(world, request)
    announce(world, request, place.name === 'close' ? 'the sealed copies go; nothing that is deployed changes' : null)
    if (stop(place)) return request
    await recordMerge(world, request)
  }
}

/** Merges a step's pull request and writes down where it went. */
export async function recordMerge(world: World, request: PullRequest): Promise<void> {
  const place = await placeOf(world, request)
  world.rehearsal.setPhase(`${place.phase}-${place.name}/${place.stepName}`)
  const merged = await merge(world, request, world.requiredStatuses)
  for (const site of place.sites) {
    world.phases.push({
      number: place.phase,
      name: place.name,
      step: place.stepName,
      site,
      pr: request.number,
      commit: merged.mergeCommit ?? '',
    })
  }
}

const halfDay = 12 * 60 * 60 * 1000

/** `next`, again and again while it only has to wait, for at most as long as the system's patience, half a virtual day. */
export async function nextWhenReady(
  world: World,
  patience = world.system.demo.patience ?? halfDay,
  /** Virtual milliseconds between two looks; null: as the gates say. */
  pause: number | null = null,
): Promise<NextOutcome> {
  const until = world.rehearsal.clock.millis() + patience
  for (;;) {
    const options = { rotation: world.rotation, base: null, variant: 'step', runner: true } as const
    const { outcome } = await next(world.context, options)
    if (outcome.kind !== 'waiting' || world.rehearsal.clock.millis() >= until) return outcome
    await world.system.demo.meanwhile?.({
      context: world.context,
      rotation: world.rotation,
      rehearsal: world.rehearsal,
      gates: outcome.gates,
    })
    // Gates name the day on which a leaf ends; who has less patience looks again before.
    const left = Math.max(until - world.rehearsal.clock.millis(), 60_000)
    await world.rehearsal.run(Math.min(pause ?? pauseFor(outcome.gates, world), left))
  }
}

/** Until the gates say that looking again may help; a minute where they do not say. Who waits for days is not asked every ten minutes. */
export function pauseFor(gates: readonly GateResult[], { rehearsal, system }: World): number {
  const now = rehearsal.clock.millis()
  const longest = system.demo.patience === undefined ? 10 * 60_000 : 24 * 60 * 60_000
  const times = gates.flatMap(gate => (gate.retryAt === null ? [] : [Date.parse(gate.retryAt) - now]))
  const later = times.filter(time => time > 0)
  const soonest = later.length === 0 ? 10 * 60_000 : Math.min(...later, longest)
  return Math.max(soonest, 60_000)
}

export interface Place {
  readonly phase: number
  readonly step: number
  readonly name: string
  readonly stepName: string
  readonly sites: readonly string[]
}

export async function placeOf(world: World, request: PullRequest): Promise<Place> {
  const { readMarker } = await import('../report/pull-request.ts')
  const marker = readMarker(request.body)
  const { plan: made } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  const sites = made.sites.map(site => site.name)
  const at = marker === null ? null : findStep(made, marker.phase, marker.step)
  if (at === null) return { phase: made.phases.length, step: 1, name: 'close', stepName: 'close', sites }
  const touched = sites.filter(site => request.title.includes(site))
  return {
    phase: at.phase.number,
    step: at.step.number,
    name: at.phase.name,
    stepName: at.step.name,
    sites: touched.length > 0 ? touched : sites,
  }
}

/** `required`: contexts that branch protection asks for. */
export async function merge(
  world: World,
  request: PullRequest,
  required: readonly string[] = [],
): Promise<PullRequest> {
  return await world.forge.merge(request.number, { method: 'merge', by: author, at: world.context.now(), required })
}

function announce(world: World, request: PullRequest, note: string | null): void {
  world.say(`#${request.number} ${request.title}`)
  for (const line of note === null ? diffLines(request.body) : [note]) world.say(`    ${line}`)
}

/** The trust diff of a body, as a terminal shows it: one line for each certificate that changes. */
function diffLines(body: string): readonly string[] {
  const lines: string[] = []
  let place = ''
  for (const line of body.split('\n')) {
    if (line.startsWith('**') && line.includes('**: ')) place = line.replaceAll('**', '').replaceAll('`', '')
    const cells = line.split('|').map(cell => cell.trim())
    const sign = { added: '+', removed: '-', repeated: '+' }[cells[1]?.replaceAll('*', '') ?? '']
    if (sign === undefined) continue
    if (place !== '') lines.push(place)
    place = ''
    lines.push(`  ${sign} ${cells[2]?.replaceAll('**', '')} ${cells[3]?.replaceAll('`', '').slice(0, 16)}…`)
  }
  return lines.length > 0 ? lines : ['no certificate changes: settings and restarts']
}

function stuck(outcome: NextOutcome): ReanchorError {
  const gates = outcome.kind === 'waiting' ? outcome.gates : []
  return new ReanchorError({
    what: 'the rotation does not go on',
    expected: 'every gate to hold within half a day of virtual time',
    found:
      gates.map(gate => `${gate.site}: ${gate.claim}: ${gate.because.slice(0, 3).join('; ')}`).join('\n') ||
      outcome.kind,
    exit: exitCodes.refused,
  })
}

/** How often each consumer restarted, beside how often the merged steps planned it. */
async function restartsOf(world: World): Promise<DemoResult['restarts']> {
  const counts = world.rehearsal.restarts()
  const { plan: made } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' }).catch(() => ({
    plan: null,
  }))
  const merged = new Set(world.phases.map(phase => `${phase.site}/${phase.number}/${phase.step}`))
  return counts.map(({ consumer, site, count }) => ({
    consumer,
    site,
    count,
    planned: made === null ? 0 : plannedRestarts(world.system, made, site, consumer, merged),
  }))
}

function plannedRestarts(
  system: RehearsalSystem,
  made: Plan,
  site: string,
  consumer: string,
  merged: ReadonlySet<string>,
): number {
  let count = 0
  let before: TrustState | null = null
  for (const phase of made.phases) {
    for (const step of phase.steps) {
      const state = step.sites[site]?.state
      if (state === undefined) continue
      const done = merged.has(`${site}/${phase.number}/${step.name}`)
      if (before !== null && done && system.demo.plansRestart(consumer, before, state, made)) count += 1
      before = state
    }
  }
  return count
}

export type { World }
export { author as demoAuthor }
