import { describe, expect, it } from 'vitest'
import type { DeliveryEvidence } from '../../src/rotation.ts'
import { judge } from '../../src/verify/judge.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import { lookTwice, meshAt, planOf } from './mesh.ts'

const plan = await planOf()
const mesh = await meshAt(plan, 2, 1)
const evidence = await lookTwice(plan, mesh, { phase: 2, step: 1 })

function applied(change: Partial<DeliveryEvidence>) {
  const changed = { ...evidence, delivery: { ...evidence.delivery, suspended: true, ...change } }
  const observation = observationDigest(changed)
  const agreesWith = changed.agreesWith === null ? null : { ...changed.agreesWith, observation }
  const { gates, verdict } = judge(plan, [{ ...changed, observation, agreesWith }], mesh.now)
  return { verdict, gate: gates.find(({ id }) => id === 'delivery/applied') }
}

describe('a step that is synced by hand', () => {
  const argo = { kind: 'argocd', object: 'Application/argocd/trust' } as const

  it('counts as delivered by an Application that is Synced at its tree', () => {
    expect(applied(argo).gate).toMatchObject({ verdict: 'holds', because: [] })
  })

  it.each<[string, Partial<DeliveryEvidence>]>([
    ['is not Synced', { ready: false, message: 'sync is OutOfSync; automatic sync is off' }],
    ['is being synced', { observed: false }],
    ['is at another tree', { treeDigest: 'f'.repeat(64) }],
    ['is at a commit that is not known', { treeDigest: null }],
    ['shows no commit', { revision: null, treeDigest: null, ready: false }],
  ])('is asked for where the Application %s', (_what, change) => {
    const { verdict, gate } = applied({ ...argo, ...change })
    expect(gate?.verdict).toBe('violated')
    expect(gate?.hint).toContain('argocd app sync argocd/trust')
    expect(verdict).not.toBe('holds')
  })

  it('is not known to a Kustomization that is suspended: it looks at nothing', () => {
    const { gate } = applied({})
    expect(gate).toMatchObject({ verdict: 'violated', hint: 'resume it: nothing is applied meanwhile' })
  })

  it('does not pass for an Application that lacks what the step delivers', () => {
    expect(applied({ ...argo, inventory: [] }).gate?.verdict).toBe('pending')
  })
})
