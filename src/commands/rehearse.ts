import { readDeclaration } from '../declaration/read.ts'
import { writeDeclaration } from '../declaration/write.ts'
import { ReanchorError } from '../errors.ts'
import type { RehearsalSystem } from '../rehearsal/system.ts'
import type { Declaration, FileTree } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import type { Context } from './context.ts'
import type { Declared } from './declared.ts'
import { type DemoOutcome, type FleetRehearsal, rehearseFleet } from './demo.ts'
import type { FaultyRehearsal } from './faulty.ts'
import { filesForWiring } from './files.ts'
import { generatedNext } from './stand-in.ts'

export interface RehearseOptions {
  readonly seed: string
  readonly random: (size: number) => Buffer
  readonly say: (line: string) => void
}

interface Remarks {
  /** Where the rehearsal stands in for what the user has, one sentence each. */
  readonly remarks: readonly string[]
}

export interface RehearseOutcome extends DemoOutcome, Remarks {}

/** Runs under faults that seeds draw, one after the other. */
export interface RunsOutcome extends Remarks {
  readonly rotation: string
  readonly runs: readonly FaultyRehearsal[]
}

type StandIn = Omit<FleetRehearsal, 'dir' | 'fault' | 'seed'> & { readonly system: RehearsalSystem }

/**
 * The declared rotation, on this machine: the user's own manifests where they can be built here, with a CA, custody and clusters
 * that stand in for the real ones. No key of the user's is needed or read.
 */
export async function rehearse(
  context: Context,
  declared: Declared,
  options: RehearseOptions,
): Promise<RehearseOutcome> {
  const { fleet, remarks } = await standInFleet(context, declared, options)
  const outcome = await rehearseFleet({ ...fleet, dir: null, fault: null, seed: options.seed })
  return { ...outcome, remarks }
}

/** The declared rotation as often as is asked, each time while something else goes wrong: what, the seed tells, which goes up by one from run to run. */
export async function rehearseRuns(
  context: Context,
  declared: Declared,
  options: Omit<RehearseOptions, 'seed'> & { readonly seed: number; readonly runs: number },
): Promise<RunsOutcome> {
  const { fleet, remarks } = await standInFleet(context, declared, { ...options, say: () => {} })
  const { rehearseUnderFaults } = await import('./faulty.ts')
  const runs: FaultyRehearsal[] = []
  for (let number = 0; number < options.runs; number += 1) {
    const run = await rehearseUnderFaults(fleet, options.seed + number)
    runs.push(run)
    options.say(runLine(run))
  }
  return { rotation: declared.declaration.name, runs, remarks }
}

function runLine({ seed, handshakes, faults, finished, stoppedBy, virtualTime }: FaultyRehearsal): string {
  const troubles = faults.cluster.length + faults.crashes.length + faults.deeds.length
  const end = finished ? `closed after ${(virtualTime / 3_600_000).toFixed(1)} hours` : `not closed: ${stoppedBy}`
  return `seed ${seed}: ${troubles} faults, ${handshakes.attempted} handshakes, ${handshakes.failed} failed, ${end}`
}

/** What stands in for the user's clusters, and the declaration for them. */
async function standInFleet(
  context: Context,
  declared: Declared,
  options: Pick<RehearseOptions, 'random' | 'say'>,
): Promise<Remarks & { readonly fleet: StandIn }> {
  const { declaration } = declared
  const { repository } = context
  const files = await filesForWiring(repository.snapshot(await beforeAdopt(context, declaration)))
  if (declaration.strategy === 'issuer') throw noStandInRoot(declared)
  const remarks: string[] = []
  const own = fluxEntries(files, declaration)
  const sites = declaration.sites.map(site => site.name)
  const system = await systemOf(declaration.system).rehearsal()
  const variant = system.demo.variantOf(declaration)
  const byArgo = system.demo.byArgo(variant)
  if (!own) {
    remarks.push(
      `your clusters’ manifests cannot be brought up here (that takes Flux with clusters/<site>/flux-system/gotk-sync.yaml); a fleet of the rehearsal’s own (${variant ?? 'the usual one'}) stood in for them`,
    )
  }
  remarks.push('the CA, the age key and the clusters were made for this rehearsal')
  const fleet: StandIn = {
    random: options.random,
    say: options.say,
    system,
    variant,
    rotation: declaration.name,
    siteNames: sites,
    declared: own ? declaration : null,
    sealing: byArgo,
    fleet: (recipient, sealingCertificate) =>
      own
        ? withoutRotation(files, declaration)
        : system.demo.fleet({ sites, ageRecipient: recipient, variant, sealingCertificate }),
    declare: async (fleet, recipient, now) =>
      await standIn(declaration, { system, variant, own }, fleet, recipient, now),
    sharedRoot: sites.length > 1,
    acceptOutage: declaration.strategy === 'emergency',
  }
  return { fleet, remarks }
}

function noStandInRoot(declared: Declared): ReanchorError {
  return new ReanchorError({
    what: 'strategy issuer keeps the root in use, and the rehearsal has no key of it',
    where: { file: declared.file, field: 'spec.strategy' },
    expected: 'graceful or emergency',
    found: 'issuer',
    todo: 'go on without a rehearsal: `reanchor prove` shows every mix of its one phase',
  })
}

/** The base branch as it was before it first carried this rotation: its wiring is part of what is rehearsed. */
async function beforeAdopt(context: Context, declaration: Declaration): Promise<string> {
  const { repository } = context
  const head = await repository.head(declaration.base)
  const touching = await repository.log(head, { paths: declaration.sites.map(site => site.path) })
  return touching.at(-1)?.parents[0] ?? head
}

function fluxEntries(files: FileTree, declaration: Declaration): boolean {
  return declaration.sites.every(
    site => site.delivery.kind === 'flux' && files.has(`clusters/${site.name}/flux-system/gotk-sync.yaml`),
  )
}

/** The repository as it was before this rotation: neither its plan nor what it delivered. */
function withoutRotation(files: FileTree, declaration: Declaration): FileTree {
  const ours = ['rotations/', ...declaration.sites.map(site => `${site.path}/`)]
  return new Map([...files].filter(([path]) => !ours.some(folder => path.startsWith(folder))))
}

/** The declaration with a CA, a custody and clusters that this machine has; all else as the user declared it. */
async function standIn(
  declaration: Declaration,
  /** `own`: the user's fleet is rehearsed; else one of the system's. */
  {
    system,
    variant,
    own,
  }: { readonly system: RehearsalSystem; readonly variant: string | null; readonly own: boolean },
  fleet: FileTree,
  recipient: string,
  now: Date,
): Promise<{ readonly path: string; readonly text: string }> {
  const path = `rotations/${declaration.name}/rotation.yaml`
  const local = { forge: { kind: 'local' }, base: 'main', current: { from: 'cluster' }, paused: false } as const
  const next = generatedNext(declaration)
  // No person can vouch for what is not there, unless the rehearsal acts it out.
  const gates = { ...declaration.gates, attest: system.demo.vouches === true ? declaration.gates.attest : [] }
  if (own) {
    // The rehearsal's clusters are read by whoever asks: no Job reports there.
    const sites = declaration.sites.map(site => ({
      ...site,
      cluster: site.cluster.kind === 'reports' ? { kind: 'context' as const, context: site.name } : site.cluster,
      current: null,
      custody: null,
    }))
    const custody = { kind: 'sops', age: [recipient], ksops: false, rootAge: [] } as const
    return { path, text: writeDeclaration({ ...declaration, ...local, next, custody, sites, gates }) }
  }
  const written = await system.demo.declare(fleet, {
    rotation: declaration.name,
    sites: declaration.sites.map(site => site.name),
    paths: Object.fromEntries(declaration.sites.map(site => [site.name, site.path])),
    ageRecipient: recipient,
    sealingCertificate: '',
    variant,
    now,
  })
  const stood = await readDeclaration(written.text, written.path)
  const { strategy, rollout } = declaration
  return { path, text: writeDeclaration({ ...stood, strategy, rollout, gates, next }) }
}
