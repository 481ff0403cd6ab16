import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context } from '../../src/commands/context.ts'
import { makeWorld, placeOf, recordMerge, type World } from '../../src/commands/demo.ts'
import { next } from '../../src/commands/next.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { ReanchorError } from '../../src/errors.ts'
import { openForgeOf } from '../../src/forge/open.ts'
import { createIssuing, createRoot, readRequest } from '../../src/pki/authority.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { Declaration, GateResult, SystemName } from '../../src/rotation.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { type Act, author, type Command, runCommand } from './acts.ts'
import { type Chance, keysOf, randomOf, wrapOf } from './chance.ts'
import { type PlaceKind, places, type Refs, refsOf, stageAt } from './stage.ts'
import { recording, type Tape } from './tape.ts'

/** A rotation of the demo that is recorded. */
export interface Subject {
  readonly system: SystemName
  /** The demo's variant; null: the usual one. */
  readonly variant: string | null
  readonly sites: number
  /**
   * How many of each command that writes the same way from each step (`undo`, `abandon`, `pr merge`, …) are kept, and between the writes of how many of each
   * another runner is let run. Three take each of three places.
   */
  readonly alike: number
  /** Commands of a rotation with an offline root besides: `plan` that writes requests, and `plan --chain`. */
  readonly offlineRoot?: boolean
}

export interface Recording {
  readonly acts: readonly Act[]
  /** Commands that had nothing to write where they were tried, such as `undo` after adopt. */
  readonly refused: number
  remove(): void
}

export function labelOf({ system, variant, sites }: Subject): string {
  return [system, ...(variant === null ? [] : [variant]), ...(sites > 1 ? [`${sites} sites`] : [])].join(' ')
}

const onLocal: readonly PlaceKind[] = ['local']
const day = 86_400_000

/**
 * Takes a rotation from `init` to its closing pull request, or as far as `steps` pull requests, on a rehearsal, and writes down every command
 * that changes something: those that bring it forward, and at each of its points those that could be given there instead.
 */
export async function recordRotation(subject: Subject, chance: Chance, steps: number): Promise<Recording> {
  const recorder = await startRecorder(subject, chance)
  try {
    await recordPlan(recorder)
    await recordSteps(recorder, steps)
  } finally {
    await recorder.world.rehearsal.close()
    recorder.world.repository.close()
  }
  const { acts, refused, folder } = recorder
  return { acts, refused, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

interface Recorder {
  readonly world: World
  readonly subject: Subject
  readonly chance: Chance
  readonly folder: string
  readonly acts: Act[]
  refused: number
  /** What the last one that was refused said. */
  refusal: string
  forks: number
  /** How many of each kind. */
  readonly kept: Map<string, number>
}

async function startRecorder(subject: Subject, chance: Chance): Promise<Recorder> {
  const system = await systemOf(subject.system).rehearsal()
  const { demo } = system
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-crash-'))
  const sites = demo.sites.slice(0, subject.sites)
  const variant = subject.variant
  let recipient = ''
  const made = await makeWorld(
    {
      dir: folder,
      system,
      variant,
      fault: null,
      seed: `crash ${chance.seed}`,
      random: size => randomBytes(size),
      say: () => undefined,
      // `next` by itself is green for no step that takes trust away.
      requiredStatuses: [],
      rotation: demo.rotation,
      siteNames: sites,
      sealing: demo.byArgo(variant),
      fleet: (to, sealingCertificate) => {
        recipient = to
        return demo.fleet({ sites, ageRecipient: to, sealingCertificate, variant })
      },
      declare: (fleet, _to, now) => {
        const paths = Object.fromEntries(sites.map(name => [name, `trust/${name}`]))
        const options = { sites, ageRecipient: recipient, sealingCertificate: '', variant }
        return demo.declare(fleet, { ...options, rotation: demo.rotation, paths, now })
      },
      sharedRoot: subject.system !== 'istio' && sites.length > 1,
      acceptOutage: demo.acceptsOutage?.(variant) ?? false,
      // OpenSSL judges dates by the machine's clock: what is made after days of virtual time must have begun as long ago.
      begins: new Date(Date.now() - (subject.system === 'kyma' ? 30 : 2) * day),
      roundLimit: 12,
    },
    folder,
  )
  made.rehearsal.handshakes.foretells = () => made.acceptOutage
  const context: Context = {
    ...made.context,
    keys: keysOf(chance),
    random: randomOf(chance),
    wrapDataKey: wrapOf(chance),
  }
  return {
    world: { ...made, context },
    subject,
    chance,
    folder,
    acts: [],
    refused: 0,
    refusal: '',
    forks: 0,
    kept: new Map(),
  }
}

// -------------------------------------------------------------------------------------------------------- commands

interface Tried {
  readonly what: string
  /** Such commands are alike wherever they are given: a rotation keeps a few. @default `next`, of which every one is kept */
  readonly like?: 'undo' | 'next --nudge' | 'abandon' | 'plan again' | 'pr merge' | 'attest'
  readonly command: Command
  readonly before: Refs
  readonly places?: readonly PlaceKind[]
  /** The bare repository that has the objects. @default the recording's own */
  readonly from?: string
  /** Of rotation.yaml, where it is not what main has. */
  readonly declared?: string
}

/**
 * Runs a command once where it stands, on a fork of the repository, and keeps it with what it was answered. Where it writes nothing there is nothing
 * to keep. Gives the refs that it left.
 */
async function keep(recorder: Recorder, tried: Tried): Promise<Refs | null> {
  const { world, acts } = recorder
  const like = tried.like ?? tried.command.kind
  const seen = recorder.kept.get(like) ?? 0
  if (tried.like !== undefined && seen >= recorder.subject.alike) return null
  const bare = tried.from ?? bareOf(recorder)
  recorder.forks += 1
  const stage = stageAt(join(recorder.folder, `fork-${recorder.forks}`), 'local', tried.before, bare)
  const repository = await openRepository(stage.repo)
  const now = world.context.now()
  const tapes = new Map<string, Tape>()
  const context: Context = {
    ...taped(world.context, tapes),
    repository,
    keys: keysOf(recorder.chance),
    random: randomOf(recorder.chance),
    readFile: path => (tried.command.kind === 'plan' ? (tried.command.files[path] ?? '') : ''),
    openForge: async () => await openForgeOf(repository, { now: world.context.now }),
  }
  const path = `rotations/${world.rotation}/rotation.yaml`
  const act: Act = {
    name: `${labelOf(recorder.subject)}: ${tried.what}`,
    rotation: world.rotation,
    command: tried.command,
    places: tried.places ?? places,
    shared: seen < recorder.subject.alike,
    before: tried.before,
    from: bare,
    workFiles: { [path]: tried.declared ?? (await declaredText(recorder)) },
    now: now.getTime(),
    tapes,
  }
  try {
    await runCommand(context, act, stage)
  } catch (error) {
    // Requests end in waiting for the signer; whatever else is refused writes nothing.
    if (!(error instanceof ReanchorError)) throw error
    recorder.refusal = error.message
  } finally {
    repository.close()
  }
  const after = refsOf(stage.bare)
  if (JSON.stringify(after) === JSON.stringify(sorted(tried.before))) {
    recorder.refused += 1
    return null
  }
  acts.push(act)
  recorder.kept.set(like, seen + 1)
  return after
}

function taped(context: Context, tapes: Map<string, Tape>): Context {
  return {
    ...context,
    openCluster: async site => {
      const tape: Tape = tapes.get(site.name) ?? new Map()
      tapes.set(site.name, tape)
      return recording(await context.openCluster(site), tape)
    },
  }
}

function sorted(refs: Refs): Refs {
  return Object.fromEntries(Object.entries(refs).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function bareOf({ folder }: Recorder): string {
  return join(folder, 'fleet.git')
}

async function declaredText({ world }: Recorder): Promise<string> {
  const snapshot = world.repository.snapshot(await world.repository.head('main'))
  return (await snapshot.read(`rotations/${world.rotation}/rotation.yaml`)) ?? ''
}

// ----------------------------------------------------------------------------------------------------------- plan

function planCommand(acceptOutage: boolean): Command {
  return { kind: 'plan', acceptOutage, chain: null, files: {} }
}

async function recordPlan(recorder: Recorder): Promise<void> {
  const { world, subject } = recorder
  const bare = bareOf(recorder)
  const before = refsOf(bare)
  const path = `rotations/${world.rotation}/rotation.yaml`
  recorder.acts.push({
    name: `${labelOf(subject)}: init`,
    rotation: world.rotation,
    command: { kind: 'init', path, text: await declaredText(recorder) },
    places: onLocal,
    shared: false,
    before,
    from: bare,
    workFiles: {},
    now: world.context.now().getTime(),
    tapes: new Map(),
  })
  await keep(recorder, { what: 'plan', command: planCommand(world.acceptOutage), before })
  if (subject.offlineRoot === true) await recordOfflineRoot(recorder, before)
  const stage = {
    folder: recorder.folder,
    kind: 'local' as const,
    bare,
    repo: bare,
    rootKeyFile: join(recorder.folder, 'root.age'),
  }
  await runCommand(world.context, { command: planCommand(world.acceptOutage), rotation: world.rotation }, stage)
  await keepMerge(recorder, 'plan')
  const [request] = await world.forge.list('open')
  if (request === undefined) throw new Error('plan opened no pull request')
  await world.forge.merge(request.number, { method: 'merge', by: author, at: world.context.now() })
}

/** Refs whose main declares the rotation otherwise. */
async function redeclared(
  recorder: Recorder,
  before: Refs,
  change: (declaration: Declaration) => Declaration,
): Promise<{ readonly before: Refs; readonly declared: string }> {
  const { world } = recorder
  const path = `rotations/${world.rotation}/rotation.yaml`
  const declared = writeDeclaration(change(await readDeclaration(await declaredText(recorder), path)))
  const parent = before['refs/heads/main']
  if (parent === undefined) throw new Error('there is no main')
  const commit = await world.repository.commit({
    parent,
    changes: new Map([[path, declared]]),
    message: 'Declare it otherwise',
    trailers: {},
    author,
    at: world.context.now(),
  })
  return { before: { ...before, 'refs/heads/main': commit }, declared }
}

async function recordOfflineRoot(recorder: Recorder, before: Refs): Promise<void> {
  const { world } = recorder
  const made = await redeclared(recorder, before, declaration => ({
    ...declaration,
    next: {
      from: 'csr',
      root: null,
      issuing: { algorithm: 'ecdsa-p256', subject: offlineSubject(recorder.subject.system), validityDays: 300 },
    },
  }))
  const asked = await keep(recorder, { what: 'plan, requests', command: planCommand(false), ...made })
  if (asked === null) throw new Error(`plan wrote no requests: ${recorder.refusal}`)
  const branch = asked[`refs/heads/reanchor/${world.rotation}/plan`] ?? ''
  const fork = await openRepository(join(recorder.folder, `fork-${recorder.forks}`, 'fleet.git'))
  const snapshot = fork.snapshot(branch)
  const now = world.context.now().getTime()
  const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const dates = { notBefore: new Date(now - 3_600_000), notAfter: new Date(now + 3000 * day) }
  const root = await createRoot({ subject: 'CN=offline root', key: rootKey, ...dates, serial: '41' })
  const files: Record<string, string> = {}
  for (const site of world.rehearsal.sites.keys()) {
    const text = (await snapshot.read(`rotations/${world.rotation}/certificates/${site}.csr`)) ?? ''
    const request = await readRequest(text)
    const issuing = await createIssuing({
      subject: offlineSubject(recorder.subject.system).replaceAll('{site}', site),
      key: request.publicKey,
      issuer: { certificate: root, key: rootKey },
      ...(recorder.subject.system === 'linkerd' ? { dns: ['identity.linkerd.cluster.local'] } : {}),
      notBefore: new Date(now - 3_600_000),
      notAfter: new Date(now + 300 * day),
      serial: '51',
    })
    files[`/offline/${site}.pem`] = `${issuing.pem.trimEnd()}\n${root.pem.trimEnd()}\n`
  }
  fork.close()
  const command: Command = { kind: 'plan', acceptOutage: false, chain: Object.keys(files), files }
  const from = join(recorder.folder, `fork-${recorder.forks}`, 'fleet.git')
  const { declared } = made
  if ((await keep(recorder, { what: 'plan --chain', command, before: asked, declared, from })) === null)
    throw new Error(`plan --chain wrote nothing: ${recorder.refusal}`)
}

function offlineSubject(system: SystemName): string {
  return system === 'linkerd' ? 'CN=identity.linkerd.cluster.local' : 'CN=offline issuing,L={site}'
}

// ---------------------------------------------------------------------------------------------------------- steps

const methods = ['merge', 'squash', 'rebase'] as const

/** Merges the request that is open on a fork, each time in another way. */
async function keepMerge(recorder: Recorder, what: string): Promise<void> {
  const before = refsOf(bareOf(recorder))
  const [request] = await recorder.world.forge.list('open')
  const method = methods[recorder.kept.get('pr merge') ?? 0]
  if (request === undefined || method === undefined) return
  const command: Command = { kind: 'merge', number: request.number, method }
  await keep(recorder, {
    what: `${what}: pr merge --method ${method}`,
    like: 'pr merge',
    command,
    before,
    places: onLocal,
  })
}

async function recordSteps(recorder: Recorder, steps: number): Promise<void> {
  const { world } = recorder
  const step: Command = { kind: 'next', variant: 'step', abandon: false }
  const until = () => world.rehearsal.clock.millis() + (world.system.demo.patience ?? day / 2)
  let left = until()
  const words = new Set<string>()
  for (let opened = 0; opened < steps; ) {
    const before = refsOf(bareOf(recorder))
    const { outcome } = await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
    if (outcome.kind === 'done') return
    if (outcome.kind === 'waiting') {
      await keepWords(recorder, outcome.gates, words)
      if (world.rehearsal.clock.millis() > left)
        throw new Error(`${labelOf(recorder.subject)} is stuck: ${said(outcome.gates)}`)
      const { context, rotation, rehearsal } = world
      await world.system.demo.meanwhile?.({ context, rotation, rehearsal, gates: outcome.gates })
      await rehearsal.run(pause(outcome.gates, rehearsal.clock.millis(), world.system.demo.patience !== undefined))
      continue
    }
    if (outcome.kind !== 'opened' || outcome.pullRequest === null) throw new Error(`next ended with ${outcome.kind}`)
    opened += 1
    const place = await placeOf(world, outcome.pullRequest)
    const what = outcome.branch.replace(`reanchor/${world.rotation}/`, '')
    await keep(recorder, { what: `next to ${what}`, command: step, before })
    const others: readonly (readonly ['undo' | 'next --nudge' | 'abandon', Command])[] = [
      ['undo', { kind: 'next', variant: 'undo', abandon: false }],
      ['next --nudge', { kind: 'next', variant: 'nudge', abandon: false }],
      ['abandon', { kind: 'next', variant: 'step', abandon: true }],
    ]
    for (const [name, command] of others)
      await keep(recorder, { what: `${name} before ${what}`, like: name, command, before })
    if (place.name !== 'close') {
      const otherwise = await redeclared(recorder, before, declaration => ({
        ...declaration,
        gates: { ...declaration.gates, hold: declaration.gates.hold + 60_000 },
      }))
      await keep(recorder, {
        what: `plan again before ${what}`,
        command: planCommand(world.acceptOutage),
        ...otherwise,
      })
    }
    await keepMerge(recorder, what)
    await recordMerge(world, outcome.pullRequest)
    left = until()
  }
}

/** The words that gates wait for, each once for a phase, by `attest`. */
async function keepWords(recorder: Recorder, gates: readonly GateResult[], given: Set<string>): Promise<void> {
  const { world } = recorder
  if (!gates.some(gate => gate.verdict !== 'holds' && gate.id.endsWith('attested'))) return
  const { plan, snapshot } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  const phases = Object.values(await positionsAt(snapshot, plan)).flatMap(at => (at.kind === 'at' ? [at.phase] : []))
  const phase = Math.max(0, ...phases)
  for (const { name } of plan.gates.attest) {
    if (given.has(`${phase} ${name}`)) continue
    given.add(`${phase} ${name}`)
    const before = refsOf(bareOf(recorder))
    await keep(recorder, {
      what: `attest ${name} of phase ${phase}`,
      like: 'attest',
      command: { kind: 'attest', name, phase },
      before,
    })
  }
}

function pause(gates: readonly GateResult[], now: number, longRun: boolean): number {
  const times = gates.flatMap(gate => (gate.retryAt === null ? [] : [Date.parse(gate.retryAt) - now]))
  const soonest = Math.min(...times.filter(time => time > 0), longRun ? day : 10 * 60_000)
  return Math.max(soonest, 60_000)
}

function said(gates: readonly GateResult[]): string {
  return gates.map(gate => `${gate.id}: ${gate.because[0] ?? ''}`).join('; ')
}
