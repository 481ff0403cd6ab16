import { exitCodes, ReanchorError } from '../errors.ts'
import type { GateResult, Plan, ReportsChoice, Site, SitePosition, Verdict } from '../rotation.ts'
import { worst } from '../verify/verdict.ts'
import type { Context } from './context.ts'
import { isClosed, loadRotation, type OpenRotation, positionsAt } from './rotation.ts'
import { rotationsToRun } from './rotations-to-run.ts'
import { refuseUnsigned } from './signing.ts'
import { publishReports, reportRef } from './site-reports.ts'
import { lookAtSites, type SiteLook } from './verify.ts'

export interface ObserveOptions {
  /** Null: every open rotation that has the site. */
  readonly rotation: string | null
  readonly base: string | null
  readonly site: string
  /** Milliseconds to go on looking for as long as gates may still come to hold; null: one look. */
  readonly wait: number | null
  /** This is a hook of the very delivery that brings the step, which is therefore not asked whether it is through. @default false */
  readonly hook?: boolean
}

/** What was seen of the site for one rotation. */
export interface ObservedRotation {
  readonly name: string
  readonly plan: Plan
  readonly look: SiteLook
  /** The commit that the report stands in; null: none was pushed. */
  readonly pushed: { readonly ref: string; readonly commit: string } | null
}

export interface ObserveOutcome {
  readonly site: string
  /** Of no rotation: holds. */
  readonly verdict: Verdict
  readonly gates: readonly GateResult[]
  readonly rotations: readonly ObservedRotation[]
  /** Rotations of which there is nothing to see at the site now, and why. */
  readonly passed: readonly Passed[]
}

export interface Passed {
  readonly rotation: string
  readonly why: string
  readonly verdict: 'holds' | 'unknown'
}

/**
 * What `verify` does, from inside of the site's cluster: looks at this site, for every open rotation, with the credentials that `context.openCluster` has
 * here, and pushes what was seen where `cluster.reports` says, for a runner that cannot look itself. It writes that one ref and nothing else.
 */
export async function observe(context: Context, options: ObserveOptions): Promise<ObserveOutcome> {
  const until = context.now().getTime() + (options.wait ?? 0)
  let begun: ReadonlyMap<string, string> | null = null
  for (;;) {
    const { outcome, places } = await observeOnce(context, options)
    const moved = begun === null ? null : [...begun].find(([name, place]) => places.get(name) !== place)
    if (moved !== undefined && moved !== null) throw overtaken(options.site, moved[0])
    begun ??= places
    const { verdict, gates } = outcome
    const left = until - context.now().getTime()
    if (verdict === 'holds' || verdict === 'violated' || options.wait === null || left <= 0) return outcome
    const open = gates.filter(gate => gate.verdict !== 'holds')
    context.progress(
      `${open.length} of ${gates.length} gates do not hold yet: ${open[0]?.claim} (${open[0]?.because[0] ?? ''})`,
    )
    await context.sleep(Math.min(pauseUntil(open, context.now()), left))
  }
}

/** A minute at the longest, as the step may be overtaken meanwhile. */
function pauseUntil(open: readonly GateResult[], now: Date): number {
  const times = open.flatMap(({ retryAt }) => (retryAt === null ? [] : [Date.parse(retryAt) - now.getTime()]))
  return Math.min(Math.max(Math.min(...times, 60_000), 5_000), 60_000)
}

/** Whoever waits for a step keeps what came after it from being delivered, a way back above all. */
function overtaken(site: string, rotation: string): ReanchorError {
  return new ReanchorError({
    what: 'the step that was waited for is not the one of the base branch any more',
    where: { object: `rotation ${rotation}, site ${site}` },
    expected: 'the step that was there when this began',
    found: 'another one',
    todo: 'nothing: what is there now is delivered next, and waited for then',
    exit: exitCodes.waiting,
  })
}

interface Once {
  readonly outcome: ObserveOutcome
  /** Where the site stands, by rotation, in words to compare. */
  readonly places: ReadonlyMap<string, string>
}

async function observeOnce(context: Context, options: ObserveOptions): Promise<Once> {
  const { site } = options
  const rotations = await rotationsOf(context, options)
  const rotationsSeen: { readonly rotation: OpenRotation; readonly declared: Site; readonly look: SiteLook }[] = []
  const passed: Passed[] = []
  const places = new Map<string, string>()
  for (const rotation of rotations) {
    const declared = rotation.declaration.sites.find(each => each.name === site)
    const position = (await positionsAt(rotation.snapshot, rotation.plan))[site]
    if (declared === undefined || position?.kind !== 'at') {
      passed.push({ rotation: rotation.name, ...whyPassed(position) })
      continue
    }
    places.set(rotation.name, placeOf(position))
    const reports = reportsOf(declared)
    if (reports !== null)
      await refuseUnsigned(
        context,
        rotation,
        `reanchor observe --site ${site} --signing-key ~/.ssh/reanchor-evidence`,
        reports.signer,
      )
    if (options.hook === true) await refuseOtherSync(context, rotation, declared, position)
    const [look] = await lookAtSites(
      context,
      // This process can look: what the declaration says is for those who cannot.
      {
        ...rotation,
        declaration: { ...rotation.declaration, sites: [{ ...declared, cluster: { kind: 'inCluster' } }] },
      },
      { [site]: position },
      options.hook === true ? ['delivery/applied'] : [],
    )
    if (look === undefined) throw new Error(`site ${site} is at a step and was not looked at`)
    rotationsSeen.push({ rotation, declared, look })
  }
  const pushed = await pushReports(context, rotationsSeen, rotations)
  const gates = rotationsSeen.flatMap(({ look }) => look.verdict.gates)
  return {
    places,
    outcome: {
      site,
      verdict: worst([...rotationsSeen.map(({ look }) => look.verdict.verdict), ...passed.map(each => each.verdict)]),
      gates,
      rotations: rotationsSeen.map(({ rotation, look }) => ({
        name: rotation.name,
        plan: rotation.plan,
        look,
        pushed: pushed.get(rotation.name) ?? null,
      })),
      passed,
    },
  }
}

/** Rotations that are open and name the site. Throws ReanchorError (2) where some are open and none of them does. */
async function rotationsOf(
  context: Context,
  { rotation, base, site }: ObserveOptions,
): Promise<readonly OpenRotation[]> {
  const { repository } = context
  const names = rotation === null ? await rotationsToRun(context, base) : [rotation]
  if (rotation !== null) await repository.fetch()
  const open: OpenRotation[] = []
  for (const name of names) {
    const loaded = await loadRotation(repository, { rotation: name, base })
    if (!(await isClosed(loaded.snapshot, name))) open.push(loaded)
  }
  const ours = open.filter(({ plan }) => plan.sites.some(({ name }) => name === site))
  if (ours.length > 0 || open.length === 0) return ours
  const known = [...new Set(open.flatMap(({ plan }) => plan.sites.map(({ name }) => name)))]
  throw new ReanchorError({
    what: 'no open rotation has this site',
    where: { object: `site ${site}` },
    expected: `one of ${known.join(', ')}`,
    found: site,
    todo: 'correct --site: it is the name under spec.sites of rotation.yaml',
    example: `--site ${known[0] ?? 'eu-1'}`,
  })
}

/** Nothing waits for a site that is not adopted; of a folder that nobody knows nobody can say that it holds. */
function whyPassed(position: SitePosition | undefined): Omit<Passed, 'rotation'> {
  if (position === undefined || position.kind === 'absent')
    return { why: 'the site is not adopted yet', verdict: 'holds' }
  return { why: 'its folder matches no step: see `reanchor status`', verdict: 'unknown' }
}

function placeOf({ phase, step, variant }: Extract<SitePosition, { kind: 'at' }>): string {
  return `phase ${phase} step ${step} ${variant}`
}

function reportsOf({ cluster }: Site): ReportsChoice | null {
  return cluster.kind === 'reports' ? cluster : null
}

/** One push for each ref, whatever the number of rotations. What was not seen is not reported: the report before it grows old. */
async function pushReports(
  context: Context,
  seen: readonly { readonly rotation: OpenRotation; readonly declared: Site; readonly look: SiteLook }[],
  open: readonly OpenRotation[],
): Promise<ReadonlyMap<string, { readonly ref: string; readonly commit: string }>> {
  const pushed = new Map<string, { readonly ref: string; readonly commit: string }>()
  const refs = new Map(
    seen.flatMap(({ declared }) => {
      const reports = reportsOf(declared)
      return reports === null ? [] : [[reportRef(reports), reports] as const]
    }),
  )
  for (const [ref, reports] of refs) {
    const ours = seen.filter(({ declared, look }) => {
      const own = reportsOf(declared)
      return own !== null && reportRef(own) === ref && look.unseen === null
    })
    if (ours.length === 0 || context.dryRun) continue
    const commit = await publishReports(
      context,
      reports,
      ours.map(({ look }) => look.evidence),
      open.map(({ name }) => name),
    )
    for (const { rotation } of ours) pushed.set(rotation.name, { ref, commit })
  }
  return pushed
}

/** A hook of another sync would let go, or hold up, what it does not belong to. */
async function refuseOtherSync(
  context: Context,
  rotation: OpenRotation,
  site: Site,
  position: Extract<SitePosition, { kind: 'at' }>,
): Promise<void> {
  const { delivery, path } = site
  const object = `${delivery.kind === 'argocd' ? 'Application' : 'Kustomization'} ${delivery.namespace}/${delivery.name}`
  if (delivery.kind !== 'argocd')
    throw new ReanchorError({
      what: '--hook is for a hook of Argo CD',
      where: { object },
      expected: 'a site that an Application delivers',
      found: 'a Kustomization of Flux, which has no hooks',
      todo: 'leave --hook out, and let a Kustomization of its own wait for the Job (docs/runner.md)',
    })
  const { syncingNow } = await import('../delivery/argocd.ts')
  const cluster = await context.openCluster({ ...site, cluster: { kind: 'inCluster' } })
  try {
    const revision = await syncingNow(cluster, delivery, path)
    if (revision === null)
      throw new ReanchorError({
        what: 'this is no hook of the delivery: it is not syncing',
        where: { object },
        expected: 'a sync under way that names its commit',
        found: 'none',
        todo: 'leave --hook out where this does not run as a hook of that Application',
        exit: exitCodes.violated,
      })
    const there = (await context.repository.resolve(revision)) === null ? null : context.repository.snapshot(revision)
    const synced = there === null ? undefined : (await positionsAt(there, rotation.plan))[site.name]
    if (synced?.kind !== 'at' || placeOf(synced) !== placeOf(position)) throw overtaken(site.name, rotation.name)
  } finally {
    await cluster.close()
  }
}
