import { ReanchorError } from '../errors.ts'
import { findStep, rotationFolder, stepFolder } from '../plan/steps.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { CertificateFacts, Evidence, Plan } from '../rotation.ts'
import { type ChangeVerdict, checkChange, type LiveSite, liveSite } from '../safety/check.ts'
import type { Context } from './context.ts'
import { defaultBase, isClosed, planAt, positionsAt, rotationNames } from './rotation.ts'

export interface CheckOptions {
  /** `BASE..HEAD`; null: the base branch to HEAD. */
  readonly range: string | null
  readonly rotation: string | null
  readonly base: string | null
}

export interface CheckOutcome {
  readonly rotation: string | null
  readonly base: string
  readonly head: string
  readonly verdict: ChangeVerdict
  /** Path of each site's folder, by the site's name. */
  readonly folders: Readonly<Record<string, string>>
}

/** Is this change of trust safe from what is live? Live is the newest committed evidence, and where each folder stands. */
export async function check(context: Context, options: CheckOptions): Promise<CheckOutcome> {
  const { repository } = context
  const { from, to } = await rangeOf(context, options)
  // What the change does is held against the base as it is now, not against where the branch once left it.
  const fork = (await repository.mergeBase(from, to)) ?? from
  const changed = await repository.changedPaths(fork, to)
  const base = repository.snapshot(from)
  const head = repository.snapshot(to)
  const name = await rotationOf(base, options.rotation)
  const plan = name === null ? null : await planAt(base, name)
  const paths = new Set(changed.keys())
  for (const site of plan?.sites ?? []) {
    if (![...paths].some(path => path.startsWith(`${site.path}/`))) continue
    for (const snapshot of [base, head]) for (const path of (await snapshot.list(site.path)).keys()) paths.add(path)
  }
  const before: Record<string, string> = {}
  const after: Record<string, string> = {}
  const wanted = [...paths]
  const now = await base.readMany(wanted)
  const next = await head.readMany([...changed.keys()])
  for (const path of wanted) {
    const old = now.get(path)
    // A file that the change does not touch stays what it is on the base branch.
    const text = changed.has(path) ? next.get(path) : old
    if (old !== undefined) before[path] = old
    if (text !== undefined) after[path] = text
  }
  const live =
    plan === null || name === null ? { sites: {}, certificates: [] } : await liveTrust([base, head], plan, name)
  const at = `${context.now().toISOString().slice(0, 19)}Z`
  return {
    rotation: name,
    base: from,
    head: to,
    verdict: checkChange(before, after, { at, plan, ...live }),
    folders: Object.fromEntries((plan?.sites ?? []).map(site => [site.name, site.path])),
  }
}

async function rangeOf(
  context: Context,
  options: CheckOptions,
): Promise<{ readonly from: string; readonly to: string }> {
  const { repository } = context
  if (options.range === null) {
    const base = options.base ?? (await defaultBase(repository))
    return { from: await repository.head(base), to: await repository.commitAt('HEAD') }
  }
  const parts = options.range.split(/\.\.\.?/)
  if (parts.length !== 2 || parts.some(part => part === '' || part.startsWith('-'))) {
    throw new ReanchorError({
      what: 'not a range of commits',
      expected: 'BASE..HEAD',
      found: options.range,
      example: 'reanchor check origin/main..HEAD',
      todo: 'correct the argument',
    })
  }
  return { from: await repository.commitAt(parts[0] ?? ''), to: await repository.commitAt(parts[1] ?? '') }
}

async function rotationOf(snapshot: Snapshot, asked: string | null): Promise<string | null> {
  if (asked !== null) return asked
  const open: string[] = []
  for (const name of await rotationNames(snapshot)) if (!(await isClosed(snapshot, name))) open.push(name)
  return open[0] ?? null
}

/**
 * Per site: the planned step of its folder on the base branch, and what was seen of that step. Evidence of a step rides in the pull
 * request after it, so that of the head counts too, as long as it is about where the base branch is.
 */
async function liveTrust(
  [base, head]: readonly [Snapshot, Snapshot],
  plan: Plan,
  name: string,
): Promise<{ readonly sites: Record<string, LiveSite>; readonly certificates: readonly CertificateFacts[] }> {
  const positions = await positionsAt(base, plan)
  const evidence = new Map([...(await latestEvidence(base, name)), ...(await latestEvidence(head, name))])
  const sites: Record<string, LiveSite> = {}
  const certificates: CertificateFacts[] = []
  for (const site of plan.sites) {
    const position = positions[site.name]
    const step = position?.kind === 'at' ? findStep(plan, position.phase, position.step) : null
    const label = step === null || position?.kind !== 'at' || position.variant !== 'step' ? null : stepFolder(step)
    const seen = evidence.get(site.name)
    certificates.push(...(seen?.certificates ?? []))
    // Evidence of an earlier step does not tell what the present one has changed since.
    const current =
      seen !== undefined && position?.kind === 'at' && seen.phase === position.phase && seen.step === position.step
    sites[site.name] = { ...(current ? liveSite(seen) : { presents: [], trusts: [] }), at: label }
  }
  return { sites, certificates }
}

/** The newest evidence of each site by the cluster's clock. */
export async function latestEvidence(snapshot: Snapshot, name: string): Promise<ReadonlyMap<string, Evidence>> {
  const { readEvidence } = await import('../verify/evidence-file.ts')
  const newest = new Map<string, Evidence>()
  for (const path of (await snapshot.list(`${rotationFolder(name)}/evidence`)).keys()) {
    const text = await snapshot.read(path)
    if (text === null || !path.endsWith('.yaml')) continue
    for (const evidence of readEvidence(text, path)) {
      const known = newest.get(evidence.site)
      if (known === undefined || Date.parse(known.to) < Date.parse(evidence.to)) newest.set(evidence.site, evidence)
    }
  }
  return newest
}
