import { parse } from 'yaml'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import { rotationFolder, type Variant } from '../plan/steps.ts'
import { yamlText } from '../render/yaml.ts'
import { code } from '../report/escape.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { PlannedPhase, SitePosition } from '../rotation.ts'
import type { Attestation } from '../verify/gate.ts'
import type { Context } from './context.ts'
import { publishNew } from './requests.ts'
import { loadRotation, positionsAt } from './rotation.ts'

export interface AttestOptions {
  readonly rotation: string | null
  readonly base: string | null
  readonly name: string
  readonly phase: number
  /** Who gives the word, for the record. */
  readonly by: string
}

/** A person's words that were merged. */
export async function readAttestations(snapshot: Snapshot, rotation: string): Promise<readonly Attestation[]> {
  const found: Attestation[] = []
  for (const path of (await snapshot.list(`${rotationFolder(rotation)}/attestations`)).keys()) {
    const value = parse((await snapshot.read(path)) ?? '', { maxAliasCount: 0 }) as Partial<Attestation> & {
      readonly kind?: unknown
    }
    const { name, phase, bundle, at } = value ?? {}
    if (
      value?.kind === 'Attestation' &&
      typeof name === 'string' &&
      typeof phase === 'number' &&
      typeof bundle === 'string'
    ) {
      found.push({ name, phase, bundle, ...(typeof at === 'string' ? { at } : {}) })
      continue
    }
    throw new ReanchorError({
      what: 'an attestation that cannot be read',
      where: { file: path },
      expected: 'kind Attestation with name, phase and bundle, as `reanchor attest` writes it',
      todo: 'write it again with `reanchor attest`',
    })
  }
  return found
}

/**
 * Opens the pull request that carries a person's word for consumers that no API shows. It is bound to the bundle of the phase: for
 * another bundle the same person has to look again.
 */
export async function attest(
  context: Context,
  options: AttestOptions,
): Promise<{ readonly rotation: string; readonly pullRequest: PullRequest | null; readonly path: string }> {
  const { repository } = context
  await repository.fetch()
  const rotation = await loadRotation(repository, options)
  const { plan, name } = rotation
  const declared = plan.gates.attest.find(each => each.name === options.name)
  if (declared === undefined) {
    throw new ReanchorError({
      what: 'nobody asked for this attestation',
      where: { file: `${rotationFolder(name)}/rotation.yaml`, field: 'spec.gates.attest' },
      expected: plan.gates.attest.map(each => each.name).join(', ') || 'a name under spec.gates.attest; there is none',
      found: options.name,
      todo: 'correct the name, or declare it and run `reanchor plan`',
    })
  }
  const phase = plan.phases.find(each => each.number === options.phase)
  const positions = Object.values(await positionsAt(rotation.snapshot, plan))
  const vouched = vouchedPlace(positions, phase)
  if (phase === undefined || vouched === undefined) {
    throw new ReanchorError({
      what: 'the plan has no such phase',
      expected: plan.phases.map(each => `${each.number} (${each.name})`).join(', '),
      found: String(options.phase),
      todo: 'correct --phase',
    })
  }
  // A word that is given before there is anything to look at would open the gate of a phase that nobody has looked at.
  if (positions.every(at => at.kind === 'absent' || (at.kind === 'at' && at.phase < phase.number))) {
    throw new ReanchorError({
      what: `phase ${phase.number} (${phase.name}) has not begun at any site`,
      expected: 'a word about what consumers do now, once the pull request of that phase is merged',
      found: `sites at phase ${[...new Set(positions.flatMap(at => (at.kind === 'at' ? [at.phase] : [])))].join(', ') || 'none'}`,
      todo: `wait for phase ${phase.number}, look again, and attest then`,
      exit: exitCodes.refused,
    })
  }
  const { vouchedBundle } = await import('../verify/planned.ts')
  const bundle = vouchedBundle(plan, vouched)
  const path = `${rotationFolder(name)}/attestations/${phase.number}-${phase.name}-${slug(options.name)}.yaml`
  const text = yamlText({
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Attestation',
    name: options.name,
    phase: phase.number,
    bundle,
    why: declared.why,
    by: options.by,
    at: `${context.now().toISOString().slice(0, 19)}Z`,
  })
  const given = (await readAttestations(rotation.snapshot, name)).find(
    word => word.name === options.name && word.phase === phase.number,
  )
  const paths = plan.sites.map(site => site.path)
  const [moved] = await repository.log(rotation.commit, { paths, limit: 1 })
  // A step that was undone and entered again may ask for the word once more: what it was about has changed since.
  const entered = given?.at !== undefined && moved !== undefined && moved.committer.at.getTime() > Date.parse(given.at)
  const overtaken = entered || (given !== undefined && given.bundle !== bundle)
  if (given !== undefined && !overtaken) {
    throw new ReanchorError({
      what: 'this attestation is merged already',
      where: { file: path },
      todo: 'nothing is left to do',
      exit: exitCodes.waiting,
    })
  }
  if (context.dryRun) return { rotation: name, pullRequest: null, path }
  const again = overtaken ? `-${(moved?.id ?? rotation.commit).slice(0, 7)}` : ''
  const branch = `reanchor/${name}/attest-${phase.number}-${slug(options.name)}${again}`
  const title = `${name}: ${options.name} attested for phase ${phase.number} (${phase.title})`
  if ((await repository.branch(branch)) === null) {
    const commit = await repository.commit({
      parent: rotation.commit,
      changes: new Map([[path, text]]),
      message: title,
      trailers: { 'Reanchor-Rotation': name },
      author: context.author,
      at: context.now(),
    })
    const concerns = (changed: string): boolean => changed.startsWith(`${rotationFolder(name)}/`)
    await publishNew(repository, {
      branch,
      from: null,
      to: commit,
      base: rotation.base,
      read: rotation.commit,
      concerns,
    })
  }
  const forge = await context.openForge(rotation.declaration)
  const body = `By merging this, ${code(options.by)} says: ${code(declared.why)} is done for phase ${phase.number} (${phase.title}).\n\nIt counts for this bundle only.\n`
  return { rotation: name, pullRequest: await forge.open({ title, body, branch, base: rotation.base }), path }
}

/** What a word for a phase is about: its last step, or the way back from it where sites have gone back. */
function vouchedPlace(
  positions: readonly SitePosition[],
  phase: PlannedPhase | undefined,
): { readonly phase: number; readonly step: number; readonly variant: Variant } | undefined {
  const step = phase?.steps.at(-1)
  if (phase === undefined || step === undefined || Object.keys(step.sites).length === 0) return undefined
  const back = positions.some(
    at => at.kind === 'at' && at.phase === phase.number && at.step === step.number && at.variant === 'undo',
  )
  return { phase: phase.number, step: step.number, variant: back ? 'undo' : 'step' }
}

/** A name of one's own as it is; `shop/till`, `shop/*` and `shop-till` each to another. Legal in a path and in a branch. */
function slug(name: string): string {
  return name.replaceAll(/[/*]/g, '_').replaceAll('.', '=')
}
