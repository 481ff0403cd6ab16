import type { Cluster } from '../cluster/cluster.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { SiteVerdict } from '../plan/advance.ts'
import type { Repository } from '../repository/repository.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { Evidence, GateResult, Plan, ReportsChoice, Site, SitePosition } from '../rotation.ts'
import type { Attestation } from '../verify/gate.ts'
import type { DeliveredHere, NotTaken } from '../verify/site-report.ts'
import { worst } from '../verify/verdict.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'

export interface SiteLook {
  readonly site: string
  /** Of a site that could not be looked at: that nothing was seen of it. Such evidence is never committed. */
  readonly evidence: Evidence
  readonly verdict: SiteVerdict
  /** Why nothing was seen: its cluster does not answer, or refuses to be read, or no report of it was taken. Null where it was looked at. */
  readonly unseen: ReanchorError | null
  /** What a Job in the cluster saw, with its signature if it has one; absent: this process looked. */
  readonly reported?: { readonly signature: string | null }
}

export type AtStep = Extract<SitePosition, { kind: 'at' }>

/** What delivery asks of the repository. */
function deliveredRepository(repository: Repository) {
  return {
    async treeDigestAt(commit: string, path: string) {
      if ((await repository.resolve(commit)) === null) return null
      const folder = await repository.snapshot(commit).readFolderBytes(path)
      return folder.size === 0 ? null : treeDigest(folder)
    },
    isDescendant: async (commit: string, of: string) => commit === of || (await repository.isAncestor(of, commit)),
  }
}

/** One site as it was seen, by this process or by a Job in its cluster. */
interface Seen {
  readonly evidence: Evidence
  /** Absent: this process looked. */
  readonly reported?: { readonly signature: string | null }
}

/**
 * Looks at every site that is at a step, twice where the first look would hold: two observations some time apart must agree.
 * Sites are read at the same time; their verdicts are pure functions of what was seen of all of them. Where only a Job in the cluster can look, its
 * report is taken, if it is as good as a look.
 */
export async function lookAtSites(
  context: Context,
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  /** Gates that are not judged. */
  leavingOut: readonly string[] = [],
): Promise<readonly SiteLook[]> {
  const sites = rotation.declaration.sites.filter(site => positions[site.name]?.kind === 'at')
  const known = await whatIsKnown(context, rotation)
  const opened = new Map<string, Cluster>()
  try {
    for (const site of sites)
      if (site.cluster.kind !== 'reports') opened.set(site.name, await context.openCluster(site))
    const gather = async (site: Site, previous: Evidence | null): Promise<Seen | ReanchorError> => {
      const position = positions[site.name] as AtStep
      try {
        const { cluster } = site
        if (cluster.kind === 'reports')
          return await takeReport(context, rotation, { ...site, cluster }, position, known)
        const own = opened.get(site.name) as Cluster
        return { evidence: await lookOnce(context, rotation, site, position, own, previous) }
      } catch (error) {
        // The other sites still have a verdict of their own. What is wrong with the declaration ends the whole.
        if (error instanceof ReanchorError && error.exit === exitCodes.violated) return error
        throw error
      }
    }
    const results = async (seen: readonly (Seen | ReanchorError)[]): Promise<readonly SiteLook[]> => {
      const evidence = seen.filter(isSeen).map(each => each.evidence)
      const verdicts = await judged(rotation.plan, evidence, positions, known, { now: context.now(), leavingOut })
      const bySite = new Map(evidence.map((each, index) => [each.site, verdicts[index]]))
      return Promise.all(
        seen.map(async (each, index) => {
          const site = sites[index] as Site
          if (!isSeen(each)) return await unseenLook(context, rotation, site, positions[site.name] as AtStep, each)
          const verdict = bySite.get(site.name) ?? { verdict: 'unknown', gates: [] }
          if (each.reported === undefined) return { site: site.name, evidence: each.evidence, verdict, unseen: null }
          const { reportGate } = await import('../verify/site-report.ts')
          const gates = [reportGate(site.name, null, context.now()), ...verdict.gates]
          return { site: site.name, ...each, verdict: { ...verdict, gates }, unseen: null }
        }),
      )
    }
    const first = await Promise.all(sites.map(site => gather(site, null)))
    const looks = await results(first)
    const again = looks.filter(
      look => look.unseen === null && look.reported === undefined && onlyLacksAgreement(look.verdict),
    )
    if (again.length === 0) return looks
    await context.sleep(rotation.declaration.gates.settle)
    const second = await Promise.all(
      looks.map(async (look, index) =>
        again.includes(look)
          ? await gather(sites[index] as Site, look.evidence)
          : (first[index] as Seen | ReanchorError),
      ),
    )
    return await results(second)
  } finally {
    await Promise.all([...opened.values()].map(cluster => cluster.close()))
  }
}

function isSeen(seen: Seen | ReanchorError): seen is Seen {
  return !(seen instanceof ReanchorError)
}

/** Why a report was not taken, for the gate that says so. */
class ReportNotTaken extends ReanchorError {
  readonly gate: GateResult

  constructor(gate: GateResult) {
    super({
      what: 'no report of the cluster could be taken',
      where: { object: `site ${gate.site}` },
      expected: gate.claim,
      found: gate.because[0] ?? '',
      ...(gate.hint === null ? {} : { todo: gate.hint }),
      exit: exitCodes.violated,
    })
    this.gate = gate
  }
}

/** What a Job in the cluster has seen. Throws ReanchorError (4) where that does not stand for a look of now. */
async function takeReport(
  context: Context,
  rotation: OpenRotation,
  site: Site & { readonly cluster: ReportsChoice },
  position: AtStep,
  known: Known,
): Promise<Seen> {
  const { noReport, reportGate, whyNotTaken } = await import('../verify/site-report.ts')
  const { readReport, reportRef } = await import('./site-reports.ts')
  const { repository, now } = context
  const { phase, step, variant } = position
  const refused = (why: NotTaken) => new ReportNotTaken(reportGate(site.name, why, now()))
  const written = await readReport(repository, site.cluster, rotation.name).catch((error: unknown) => {
    if (!(error instanceof ReanchorError) || error.exit !== exitCodes.violated) throw error
    throw refused({ because: `${error.what}: ${error.found ?? ''}`, hint: error.todo ?? '' })
  })
  if (written === null) throw refused(noReport(site.name, reportRef(site.cluster), rotation.name))
  const notTaken = whyNotTaken(written, {
    plan: rotation.plan,
    site: site.name,
    phase,
    step,
    variant,
    reports: site.cluster,
    signers: rotation.declaration.evidence.signers,
    delivered: await deliveredHere(context, rotation, site, written.evidence.delivery.revision),
    committedAt: known.evidence.get(site.name)?.to ?? null,
    now: now(),
  })
  if (notTaken !== null) throw refused(notTaken)
  return { evidence: written.evidence, reported: { signature: written.signature } }
}

async function deliveredHere(
  { repository }: Context,
  rotation: OpenRotation,
  { path }: Site,
  revision: string | null,
): Promise<DeliveredHere> {
  // What a report says is not asked of git as a revision, unless it is a plain id.
  if (revision === null || !/^[0-9a-f]{40,64}$/.test(revision) || (await repository.resolve(revision)) === null)
    return { treeDigest: null, holdsMerge: null }
  const [merge] = await repository.log(rotation.commit, { paths: [path], limit: 1 })
  const { treeDigestAt, isDescendant } = deliveredRepository(repository)
  return {
    treeDigest: await treeDigestAt(revision, path),
    holdsMerge: merge === undefined ? null : await isDescendant(revision, merge.id),
  }
}

/** A site whose cluster does not even tell who it is. */
async function unseenLook(
  context: Context,
  rotation: OpenRotation,
  site: Site,
  position: AtStep,
  error: ReanchorError,
): Promise<SiteLook> {
  const { unseenEvidence } = await import('../verify/gather.ts')
  const now = context.now()
  const gate: GateResult =
    error instanceof ReportNotTaken
      ? error.gate
      : {
          id: 'evidence/present',
          site: site.name,
          claim: 'there is evidence of the site',
          verdict: 'unknown',
          because: [`site ${site.name}: ${error.what}: ${error.found ?? ''}`],
          hint: error.todo ?? null,
          retryAt: new Date(now.getTime() + 30_000).toISOString().replace(/\.\d+Z$/, 'Z'),
          counted: null,
        }
  const { phase, step, variant } = position
  const place = { plan: rotation.plan, site: site.name, phase, step, variant, delivery: site.delivery }
  return {
    site: site.name,
    evidence: unseenEvidence(place, gate.because[0] ?? '', now),
    verdict: { verdict: 'unknown', gates: [gate] },
    unseen: error,
  }
}

async function lookOnce(
  context: Context,
  rotation: OpenRotation,
  site: Site,
  position: AtStep,
  cluster: Cluster,
  previous: Evidence | null,
): Promise<Evidence> {
  const { gatherEvidence } = await import('../verify/gather.ts')
  const { progressText } = await import('../verify/render.ts')
  const [merge] = await context.repository.log(rotation.commit, { paths: [site.path], limit: 1 })
  return await gatherEvidence({
    cluster,
    plan: rotation.plan,
    site: site.name,
    phase: position.phase,
    step: position.step,
    variant: position.variant,
    delivery: site.delivery,
    declared: rotation.declaration,
    repository: deliveredRepository(context.repository),
    merged: merge?.id ?? null,
    previous,
    now: context.now(),
    onProgress: progress => context.progress(progressText(site.name, progress)),
    openCluster: (name, cluster) => context.openCluster({ ...site, name, cluster }),
  })
}

/** What earlier evidence and people's words say: which cluster a site is, and what was attested. */
interface Known {
  readonly clusters: Readonly<Record<string, string>>
  readonly attestations: readonly Attestation[]
  /** The newest that is committed, by site. */
  readonly evidence: ReadonlyMap<string, Evidence>
}

async function whatIsKnown({ repository, now }: Context, rotation: OpenRotation): Promise<Known> {
  const { latestEvidence } = await import('./check.ts')
  const { presentAt } = await import('./evidence.ts')
  const { readAttestations } = await import('./attest.ts')
  const { plan, snapshot, declaration, commit } = rotation
  const present = await presentAt(repository, [commit], now())
  const evidence = await latestEvidence(snapshot, { plan, signers: declaration.evidence.signers, present })
  return {
    evidence,
    clusters: Object.fromEntries([...evidence].map(([site, each]) => [site, each.cluster.uid])),
    attestations: await readAttestations(rotation.snapshot, rotation.name),
  }
}

async function judged(
  plan: Plan,
  evidence: readonly Evidence[],
  positions: Readonly<Record<string, SitePosition>>,
  { clusters, attestations }: Known,
  { now, leavingOut }: { readonly now: Date; readonly leavingOut: readonly string[] },
): Promise<readonly SiteVerdict[]> {
  const { judge } = await import('../verify/judge.ts')
  return evidence.map(each => {
    const { phase, step, variant } = positions[each.site] as AtStep
    const options = { phase, step, variant, sites: [each.site], live: true, clusters, attestations }
    const { gates } = judge(plan, evidence, now, options)
    const judged = gates.filter(({ id }) => !leavingOut.includes(id))
    return { verdict: worst(judged.map(gate => gate.verdict)), gates: judged }
  })
}

/** The one gate that a first look cannot pass by itself. */
function onlyLacksAgreement(verdict: SiteVerdict | undefined): boolean {
  if (verdict === undefined) return false
  const open = verdict.gates.filter(gate => gate.verdict !== 'holds')
  return open.length > 0 && open.every(gate => gate.id === agreementGate)
}

const agreementGate = 'evidence/settled'
