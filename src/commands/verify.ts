import type { Cluster } from '../cluster/cluster.ts'
import type { SiteVerdict } from '../plan/advance.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { Repository } from '../repository/repository.ts'
import type { Evidence, Plan, Site, SitePosition } from '../rotation.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'

export interface SiteLook {
  readonly site: string
  readonly evidence: Evidence
  readonly verdict: SiteVerdict
}

export type AtStep = Extract<SitePosition, { kind: 'at' }>

/** What delivery asks of the repository. */
export function deliveredRepository(repository: Repository) {
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
 * Sites are read at the same time; their verdicts are pure functions of what was seen.
 */
export async function lookAtSites(
  context: Context,
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
): Promise<readonly SiteLook[]> {
  const sites = rotation.declaration.sites.filter(site => positions[site.name]?.kind === 'at')
  return await Promise.all(sites.map(site => lookAtSite(context, rotation, site, positions[site.name] as AtStep)))
}

async function lookAtSite(context: Context, rotation: OpenRotation, site: Site, position: AtStep): Promise<SiteLook> {
  const cluster = await context.openCluster(site)
  try {
    const first = await gather(context, rotation, site, position, cluster, null)
    const verdict = await judged(rotation.plan, first, position, context.now())
    if (!onlyLacksAgreement(verdict)) return { site: site.name, evidence: first, verdict }
    await context.sleep(rotation.declaration.gates.settle)
    const second = await gather(context, rotation, site, position, cluster, first)
    return { site: site.name, evidence: second, verdict: await judged(rotation.plan, second, position, context.now()) }
  } finally {
    await cluster.close()
  }
}

async function gather(
  context: Context,
  rotation: OpenRotation,
  site: Site,
  position: AtStep,
  cluster: Cluster,
  previous: Evidence | null,
): Promise<Evidence> {
  const { gatherEvidence } = await import('../verify/gather.ts')
  context.progress(`${site.name}: looking at every consumer${previous === null ? '' : ', for the second time'}`)
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
    previous,
    now: context.now(),
  })
}

async function judged(plan: Plan, evidence: Evidence, position: AtStep, now: Date): Promise<SiteVerdict> {
  const { judge } = await import('../verify/judge.ts')
  const { phase, step, variant } = position
  return judge(plan, [evidence], now, { phase, step, variant, sites: [evidence.site] })
}

/** The one gate that a first look cannot pass by itself. */
function onlyLacksAgreement(verdict: SiteVerdict): boolean {
  const open = verdict.gates.filter(gate => gate.verdict !== 'holds')
  return open.length > 0 && open.every(gate => gate.id === agreementGate)
}

const agreementGate = 'evidence/settled'
