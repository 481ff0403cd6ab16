import { describe, expect, it } from 'vitest'
import { type Cluster, ClusterError } from '../../src/cluster/cluster.ts'
import type { Context } from '../../src/commands/context.ts'
import type { OpenRotation } from '../../src/commands/rotation.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { ReanchorError } from '../../src/errors.ts'
import type { Plan, Site } from '../../src/rotation.ts'
import { delivery, istio, meshAt, meshCluster, planOf, site } from './mesh.ts'

/** The same plan for two sites. */
async function planOfTwo(): Promise<Plan> {
  const plan = await planOf()
  const phases = plan.phases.map(phase => ({
    ...phase,
    steps: phase.steps.map(step => {
      const planned = step.sites[site]
      return planned === undefined ? step : { ...step, sites: { ...step.sites, 'us-1': planned } }
    }),
  }))
  const canary = plan.canaries[site] ?? ''
  return {
    ...plan,
    phases,
    sites: [...plan.sites, { name: 'us-1', path: 'trust/us-1' }],
    canaries: { [site]: canary, 'us-1': canary },
  }
}

async function lookWith(openCluster: (site: Site) => Promise<Cluster>) {
  const plan = await planOfTwo()
  const tree = plan.phases[2]?.steps[1]?.sites[site]?.digest ?? null
  const snapshot = { list: async () => new Map(), read: async () => null }
  const repository = {
    log: async () => [],
    resolve: async () => tree,
    snapshot: () => ({ readFolderBytes: async () => new Map() }),
    isAncestor: async () => true,
    commitFacts: async () => ({ committer: { at: new Date('2026-11-22T11:00:00Z') } }),
  }
  const sites = plan.sites.map(({ name, path }) => ({ name, path, delivery, cluster: { kind: 'inCluster' } }))
  const declaration = { sites, system: 'istio', istio, gates: { ...plan.gates, settle: 0 }, evidence: { signers: [] } }
  const context = {
    repository,
    now: () => new Date('2026-11-22T12:00:00Z'),
    sleep: async () => {},
    openCluster,
    progress: () => {},
  } as unknown as Context
  const rotation = { name: plan.metadata.name, commit: 'c', snapshot, plan, declaration } as unknown as OpenRotation
  const position = { kind: 'at', phase: 2, step: 2, variant: 'step' } as const
  return await lookAtSites(context, rotation, { [site]: position, 'us-1': position })
}

describe('several sites of which one does not answer', () => {
  it('have a verdict each: unknown and why for the one, its own for the other', async () => {
    const mesh = await meshAt(await planOf(), 2, 2)
    const dead = meshCluster(await meshAt(await planOf(), 2, 2))
    const looks = await lookWith(async ({ name }) => {
      if (name === site) return meshCluster(mesh)
      return {
        ...dead,
        identity: () => Promise.reject(new ClusterError('unreachable', 'get namespaces kube-system', 'ECONNREFUSED')),
      }
    })
    const [seen, unseen] = looks
    expect(looks.map(look => look.site)).toEqual([site, 'us-1'])
    expect(seen?.unseen).toBeNull()
    expect(seen?.evidence.cluster.uid).toBe(mesh.uid)
    expect(seen?.verdict.gates.length).toBeGreaterThan(10)
    expect(seen?.verdict.gates.every(gate => gate.site === site)).toBe(true)
    expect(unseen?.verdict.verdict).toBe('unknown')
    expect(unseen?.verdict.gates.map(({ id }) => id)).toEqual(['evidence/present'])
    expect(unseen?.verdict.gates[0]?.because[0]).toMatch(/site us-1: the cluster does not answer: .*ECONNREFUSED/)
    expect(unseen?.evidence).toMatchObject({ site: 'us-1', cluster: { uid: '' }, complete: false, groups: [] })
    expect(unseen?.unseen).toBeInstanceOf(ReanchorError)
  })

  it('end with the error where the declaration is wrong', async () => {
    const wrong = new ReanchorError({ what: 'the kubeconfig has no such context', where: { field: 'cluster.context' } })
    await expect(lookWith(() => Promise.reject(wrong))).rejects.toBe(wrong)
  })
})
