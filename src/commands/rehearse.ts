import { writeDeclaration } from '../declaration/write.ts'
import type { Declaration, FileTree } from '../rotation.ts'
import type { Context } from './context.ts'
import type { Declared } from './declared.ts'
import { type DemoOutcome, rehearseFleet } from './demo.ts'
import { filesForWiring } from './files.ts'

export interface RehearseOptions {
  readonly seed: string
  readonly random: (size: number) => Buffer
  readonly say: (line: string) => void
}

export interface RehearseOutcome extends DemoOutcome {
  /** Where the rehearsal stands in for what the user has, one sentence each. */
  readonly remarks: readonly string[]
}

/**
 * The declared rotation, on this machine: the user's own manifests where they can be built here, with a CA, custody and clusters
 * that stand in for the real ones. No key of the user's is needed or read.
 */
export async function rehearse(
  context: Context,
  declared: Declared,
  options: RehearseOptions,
): Promise<RehearseOutcome> {
  const { declaration } = declared
  const { repository } = context
  const files = await filesForWiring(repository.snapshot(await beforeAdopt(context, declaration)))
  const remarks: string[] = []
  const own = fluxEntries(files, declaration)
  const sites = declaration.sites.map(site => site.name)
  const { demoFleet } = await import('../rehearsal/fleet.ts')
  if (!own) {
    remarks.push(
      'your clusters’ manifests cannot be brought up here (the rehearsal speaks Flux, with clusters/<site>/flux-system/gotk-sync.yaml); a fleet of its own stood in for them',
    )
  }
  remarks.push('the CA, the age key and the clusters were made for this rehearsal')
  const outcome = await rehearseFleet({
    dir: null,
    fault: null,
    ...options,
    rotation: declaration.name,
    siteNames: sites,
    fleet: recipient => (own ? withoutRotation(files, declaration) : demoFleet({ sites, ageRecipient: recipient })),
    declare: async (fleet, recipient, now) => await standIn(declaration, own, fleet, recipient, now),
    sharedRoot: sites.length > 1,
  })
  return { ...outcome, remarks }
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

async function standIn(
  declaration: Declaration,
  own: boolean,
  fleet: FileTree,
  recipient: string,
  now: Date,
): Promise<{ readonly path: string; readonly text: string }> {
  const path = `rotations/${declaration.name}/rotation.yaml`
  const { generatedNext } = await import('./stand-in.ts')
  const sites = declaration.sites.map(site => ({ ...site, current: null, custody: null }))
  if (own) {
    const stood: Declaration = {
      ...declaration,
      forge: { kind: 'local' },
      base: 'main',
      current: { from: 'cluster' },
      next: generatedNext(declaration),
      custody: { kind: 'sops', age: [recipient], ksops: false },
      sites,
      paused: false,
    }
    return { path, text: writeDeclaration(stood) }
  }
  const { runInit } = await import('../declaration/init.ts')
  const { text } = await runInit({
    files: fleet,
    flags: {
      name: declaration.name,
      site: sites.map(site => `${site.name}=${site.path}`),
      context: sites.map(site => `${site.name}=${site.name}`),
      delivery: sites.map(site => `${site.name}=flux:flux-system/trust`),
      age: [recipient],
      forge: 'local',
    },
    existing: () => null,
    now,
    ask: null,
  })
  return { path, text }
}
