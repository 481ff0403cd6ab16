import type { Cluster } from '../cluster/cluster.ts'
import type { SiteVerdict } from '../plan/advance.ts'
import type { Repository } from '../repository/repository.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { Evidence, Plan, Site, SitePosition } from '../rotation.ts'
import type { Attestation } from '../systems/istio/gates.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'

export interface SiteLook {
  readonly site: string
  readonly evidence: Evidence
  readonly verdict: SiteVerdict
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
  const known = await whatIsKnown(rotation)
  const opened = new Map<string, Cluster>()
  try {
    for (const site of sites) opened.set(site.name, await context.openCluster(site))
    const gather = async (site: Site, previous: Evidence | null) =>
      await lookOnce(
        context,
        rotation,
        site,
        positions[site.name] as AtStep,
        opened.get(site.name) as Cluster,
        previous,
      )
    const first = await Promise.all(sites.map(site => gather(site, null)))
    const verdicts = await judged(rotation.plan, first, positions, known, context.now())
    const again = sites.filter((_site, index) => onlyLacksAgreement(verdicts[index]))
    if (again.length === 0) return looksOf(first, verdicts)
    await context.sleep(rotation.declaration.gates.settle)
    const second = await Promise.all(
      sites.map(async (site, index) =>
        again.includes(site) ? await gather(site, first[index] ?? null) : first[index],
      ),
    )
    const seen = second.filter(evidence => evidence !== undefined)
    return looksOf(seen, await judged(rotation.plan, seen, positions, known, context.now()))
  } finally {
    await Promise.all([...opened.values()].map(cluster => cluster.close()))
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
    istio: rotation.declaration.istio,
    repository: deliveredRepository(context.repository),
    merged: merge?.id ?? null,
    previous,
    now: context.now(),
    onProgress: progress => context.progress(progressText(site.name, progress)),
  })
}

/** What earlier evidence and people's words say: which cluster a site is, and what was attested. */
interface Known {
  readonly clusters: Readonly<Record<string, string>>
  readonly attestations: readonly Attestation[]
}

async function whatIsKnown(rotation: OpenRotation): Promise<Known> {
  const { latestEvidence } = await import('./check.ts')
  const { readAttestations } = await import('./attest.ts')
  const evidence = await latestEvidence(rotation.snapshot, rotation.name)
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
    return judge(plan, evidence, now, { phase, step, variant, sites: [each.site], ...known })
  })
}

function looksOf(evidence: readonly Evidence[], verdicts: readonly SiteVerdict[]): readonly SiteLook[] {
  return evidence.map((each, index) => ({
    site: each.site,
    evidence: each,
    verdict: verdicts[index] ?? { verdict: 'unknown', gates: [] },
  }))
}

/** The one gate that a first look cannot pass by itself. */
function onlyLacksAgreement(verdict: SiteVerdict | undefined): boolean {
  if (verdict === undefined) return false
  const open = verdict.gates.filter(gate => gate.verdict !== 'holds')
  return open.length > 0 && open.every(gate => gate.id === agreementGate)
}

const agreementGate = 'evidence/settled'
