import { ReanchorError } from '../errors.ts'
import { findStep, stepFolder } from '../plan/steps.ts'
import type { CommitFacts, Repository, Snapshot } from '../repository/repository.ts'
import type { CertificateFacts, Evidence, FileChanges, Instant, Plan } from '../rotation.ts'
import { type ChangeVerdict, checkChange, type LiveSite, liveSite, type SiteChange } from '../safety/check.ts'
import type { Authorship } from '../verify/authorship.ts'
import { variantOf } from '../verify/planned.ts'
import type { Context } from './context.ts'
import {
  type CommittedEvidence,
  committedEvidence,
  type Judges,
  newestEvidence,
  presentAt,
  signersAt,
} from './evidence.ts'
import { defaultBase, isClosed, planAt, positionsAt, rotationNames } from './rotation.ts'
import { type MissingWiring, missingWiring } from './wire.ts'

export interface CheckOptions {
  /** `BASE..HEAD`; null: the base branch to HEAD. */
  readonly range: string | null
  readonly rotation: string | null
  readonly base: string | null
  /** What was seen a moment ago, in place of committed evidence. */
  readonly live?: (plan: Plan) => LiveCommitted | null
}

/** What is live, and where that is known from. */
export interface LiveCommitted {
  readonly sites: Readonly<Record<string, LiveSite>>
  readonly certificates: readonly CertificateFacts[]
  readonly seen: readonly SeenEvidence[]
}

export interface SeenEvidence {
  readonly site: string
  readonly file: string
  /** When it was seen, by the cluster's clock. */
  readonly at: Instant
  readonly authorship: Authorship
  /** Why it counts for nothing; null: it counts. */
  readonly refused: string | null
}

export interface CheckOutcome {
  readonly rotation: string | null
  readonly base: string
  readonly head: string
  readonly verdict: ChangeVerdict
  /** Of the step that each site is at: what was seen, whose word it is, and whether it counts. */
  readonly evidence: readonly SeenEvidence[]
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
  const { seen, ...live } =
    plan === null
      ? { sites: {}, certificates: [], seen: [] }
      : (options.live?.(plan) ?? (await liveTrust(context, [from, to], plan)))
  const at = `${context.now().toISOString().slice(0, 19)}Z`
  const verdict = checkChange(before, after, { at, plan, ...live })
  const changes = new Map([...changed.keys()].map(path => [path, next.get(path) ?? null]))
  const unwired = plan === null ? [] : await losesWiring(base, plan, changes)
  return {
    rotation: name,
    base: from,
    head: to,
    verdict: unwired.length === 0 ? verdict : withoutWiring(verdict, unwired),
    evidence: seen,
    folders: Object.fromEntries((plan?.sites ?? []).map(site => [site.name, site.path])),
  }
}

/**
 * Wiring that a change of the users' own files takes away: what reanchor delivers would go on being applied, and reach nobody. What is
 * missing on the base branch already is no matter of this change.
 */
async function losesWiring(base: Snapshot, plan: Plan, changes: FileChanges): Promise<readonly MissingWiring[]> {
  const folders = [...plan.sites.map(({ path }) => path), 'rotations']
  const theirs = [...changes.keys()].filter(
    path => /\.(ya?ml|json)$/.test(path) && !folders.some(folder => path.startsWith(`${folder}/`)),
  )
  if (theirs.length === 0) return []
  const positions = await positionsAt(base, plan)
  const sites = plan.sites.map(({ name }) => name).filter(name => positions[name]?.kind === 'at')
  const missing = await missingWiring({ plan, snapshot: base }, sites, changes)
  if (missing.length === 0) return []
  const before = await missingWiring({ plan, snapshot: base }, sites)
  return missing.filter(({ point }) => !before.some(each => each.point === point))
}

function withoutWiring(verdict: ChangeVerdict, missing: readonly MissingWiring[]): ChangeVerdict {
  const sites = missing.map(
    ({ point, found }): SiteChange => ({
      sites: [point.site],
      from: null,
      to: null,
      safe: false,
      reason: 'removes',
      sentence: `${point.site}: wiring missing: ${point.file} no longer does what it was wired for: ${point.purpose} (${found})`,
      counterexample: null,
      goodUntil: null,
    }),
  )
  const worst = verdict.safe ? sites[0] : undefined
  return {
    ...verdict,
    safe: false,
    ...(worst === undefined ? {} : { reason: worst.reason, sentence: worst.sentence }),
    sites: [...verdict.sites, ...sites],
    goodUntil: null,
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
  { repository, now }: Context,
  [from, to]: readonly [string, string],
  plan: Plan,
): Promise<LiveCommitted> {
  const [base, head] = [repository.snapshot(from), repository.snapshot(to)]
  const positions = await positionsAt(base, plan)
  const judges = {
    plan,
    signers: await signersAt(base, plan.metadata.name),
    present: await presentAt(repository, [from, to], now()),
  }
  // What the base has is not overruled by what a branch says of the same step.
  const old = await committedEvidence(base, judges)
  const known = new Set(old.map(({ file }) => file))
  const added = (await committedEvidence(head, judges)).filter(({ file }) => !known.has(file))
  const paths = plan.sites.map(({ path }) => path)
  const [moved] = await repository.log(from, { paths, limit: 1 })
  const sites: Record<string, LiveSite> = {}
  const certificates: CertificateFacts[] = []
  const seen: SeenEvidence[] = []
  for (const { name, path } of plan.sites) {
    const position = positions[name]
    const at = position?.kind === 'at' ? position : null
    const step = at === null ? null : findStep(plan, at.phase, at.step)
    const label = step === null || at?.variant !== 'step' ? null : stepFolder(step)
    const isCurrent = ({ phase, step, treeDigest, site }: Evidence): boolean =>
      site === name &&
      phase === at?.phase &&
      step === at?.step &&
      variantOf(plan, name, phase, step, treeDigest) === at?.variant
    // Evidence of an earlier step does not tell what the present one has changed since.
    const candidates = [...old, ...added].filter(({ evidence }) => isCurrent(evidence))
    const newest = newestEvidence(candidates).get(name) ?? null
    const stale = newest === null ? null : await whyStale(repository, from, newest, path, moved)
    const counted = stale === null ? newest : null
    sites[name] = { ...(counted === null ? { presents: [], trusts: [] } : liveSite(plan, counted.evidence)), at: label }
    certificates.push(...(counted?.evidence.certificates ?? []))
    for (const { file, evidence, authorship, refused } of candidates) {
      const why = refused ?? (newest?.file === file ? stale : null)
      seen.push({ site: name, file, at: evidence.to, authorship, refused: why })
    }
  }
  return { sites, certificates, seen }
}

/** Seen before the folder was changed for the last time, as after a way back that was gone once more: it tells nothing of what is there now. */
async function whyStale(
  repository: Repository,
  base: string,
  { evidence }: CommittedEvidence,
  path: string,
  moved: CommitFacts | undefined,
): Promise<string | null> {
  const seen = Date.parse(evidence.to) + skew
  if (moved === undefined || moved.committer.at.getTime() <= seen) return null
  const [own] = await repository.log(base, { paths: [path], limit: 1 })
  if (own === undefined || own.committer.at.getTime() <= seen) return null
  return `it is from ${evidence.to}, and the folder was changed at ${own.committer.at.toISOString().slice(0, 19)}Z`
}

/** Clocks of clusters and of whoever merges may differ by this much, in milliseconds. */
const skew = 60_000

/** The newest evidence of each site that counts. */
export async function latestEvidence(snapshot: Snapshot, judges: Judges): Promise<ReadonlyMap<string, Evidence>> {
  const newest = newestEvidence(await committedEvidence(snapshot, judges))
  return new Map([...newest].map(([site, { evidence }]) => [site, evidence]))
}
