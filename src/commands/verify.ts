import type { Cluster } from '../cluster/cluster.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { SiteVerdict } from '../plan/advance.ts'
import type { Repository } from '../repository/repository.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { Evidence, GateResult, Plan, Site, SitePosition } from '../rotation.ts'
import type { Attestation } from '../verify/gate.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'

export interface SiteLook {
  readonly site: string
  /** Of a site that could not be looked at: that nothing was seen of it. Such evidence is never committed. */
  readonly evidence: Evidence
  readonly verdict: SiteVerdict
  /** Why nothing was seen: its cluster does not answer, or refuses to be read. Null where it was looked at. */
  readonly unseen: ReanchorError | null
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

/**
 * Looks at every site that is at a step, twice where the first look would hold: two observations some time apart must agree.
 * Sites are read at the same time; their verdicts are pure functions of what was seen of all of them.
 */
export async function lookAtSites(
  context: Context,
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
): Promise<readonly SiteLook[]> {
  const sites = rotation.declaration.sites.filter(site => positions[site.name]?.kind === 'at')
  const known = await whatIsKnown(context, rotation)
  const opened = new Map<string, Cluster>()
  try {
    for (const site of sites) opened.set(site.name, await context.openCluster(site))
    const gather = async (site: Site, previous: Evidence | null): Promise<Evidence | ReanchorError> => {
      const position = positions[site.name] as AtStep
      try {
        return await lookOnce(context, rotation, site, position, opened.get(site.name) as Cluster, previous)
      } catch (error) {
        // The other sites still have a verdict of their own. What is wrong with the declaration ends the whole.
        if (error instanceof ReanchorError && error.exit === exitCodes.violated) return error
        throw error
      }
    }
    const results = async (seen: readonly (Evidence | ReanchorError)[]): Promise<readonly SiteLook[]> => {
      const evidence = seen.filter(isEvidence)
      const verdicts = await judged(rotation.plan, evidence, positions, known, context.now())
      const bySite = new Map(evidence.map((each, index) => [each.site, verdicts[index]]))
      return Promise.all(
        seen.map(async (each, index) => {
          const site = sites[index] as Site
          if (!isEvidence(each)) return await unseenLook(context, rotation, site, positions[site.name] as AtStep, each)
          const verdict = bySite.get(each.site) ?? { verdict: 'unknown', gates: [] }
          return { site: each.site, evidence: each, verdict, unseen: null }
        }),
      )
    }
    const first = await Promise.all(sites.map(site => gather(site, null)))
    const looks = await results(first)
    const again = looks.filter(look => look.unseen === null && onlyLacksAgreement(look.verdict))
    if (again.length === 0) return looks
    await context.sleep(rotation.declaration.gates.settle)
    const second = await Promise.all(
      looks.map(async (look, index) =>
        again.includes(look)
          ? await gather(sites[index] as Site, look.evidence)
          : (first[index] as Evidence | ReanchorError),
      ),
    )
    return await results(second)
  } finally {
    await Promise.all([...opened.values()].map(cluster => cluster.close()))
  }
}

function isEvidence(seen: Evidence | ReanchorError): seen is Evidence {
  return !(seen instanceof ReanchorError)
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
  const gate: GateResult = {
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
}

async function whatIsKnown({ repository, now }: Context, rotation: OpenRotation): Promise<Known> {
  const { latestEvidence } = await import('./check.ts')
  const { presentAt } = await import('./evidence.ts')
  const { readAttestations } = await import('./attest.ts')
  const { plan, snapshot, declaration, commit } = rotation
  const present = await presentAt(repository, [commit], now())
  const evidence = await latestEvidence(snapshot, { plan, signers: declaration.evidence.signers, present })
  return {
    clusters: Object.fromEntries([...evidence].map(([site, each]) => [site, each.cluster.uid])),
    attestations: await readAttestations(rotation.snapshot, rotation.name),
  }
}

async function judged(
  plan: Plan,
  evidence: readonly Evidence[],
  positions: Readonly<Record<string, SitePosition>>,
  known: Known,
  now: Date,
): Promise<readonly SiteVerdict[]> {
  const { judge } = await import('../verify/judge.ts')
  return evidence.map(each => {
    const { phase, step, variant } = positions[each.site] as AtStep
    return judge(plan, evidence, now, { phase, step, variant, sites: [each.site], live: true, ...known })
  })
}

/** The one gate that a first look cannot pass by itself. */
function onlyLacksAgreement(verdict: SiteVerdict | undefined): boolean {
  if (verdict === undefined) return false
  const open = verdict.gates.filter(gate => gate.verdict !== 'holds')
  return open.length > 0 && open.every(gate => gate.id === agreementGate)
}

const agreementGate = 'evidence/settled'
