import { generateIdentity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { certificateFacts, readCertificate } from '../../src/pki/certificate.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { type Rehearsal, startRehearsal } from '../../src/rehearsal/rehearsal.ts'
import type { Evidence, Plan } from '../../src/rotation.ts'
import { gatherEvidence } from '../../src/verify/gather.ts'
import { judge } from '../../src/verify/judge.ts'
import { delivery, istio, planOf, site } from './mesh.ts'

/** The verifier and the rehearsal cluster were written apart: here one reads the other, with real TLS on both ends. */
describe('a rehearsal cluster before its rotation', () => {
  let rehearsal: Rehearsal
  let plan: Plan
  let evidence: Evidence

  beforeAll(async () => {
    const ageIdentity = await generateIdentity()
    const files = demoFleet({ sites: [site], ageRecipient: await identityToRecipient(ageIdentity) })
    const readBase = async () => ({ commit: 'c'.repeat(40), files })
    rehearsal = await startRehearsal({
      readBase,
      sites: [site],
      ageIdentity,
      seed: 1,
      now: new Date('2026-11-22T12:00:00Z'),
    })
    await rehearsal.settle()
    const root = readCertificate(rehearsal.sites.get(site)!.startingCa().root)
    const made = await planOf()
    const state = {
      bundle: [root.sha256],
      issuer: root.sha256,
      chain: [root.sha256],
      source: 'own',
      settings: {},
      restarts: {},
    } as const
    const adopt = {
      ...made.phases[0]!,
      steps: [
        { ...made.phases[0]!.steps[0]!, sites: { [site]: { digest: 'd'.repeat(64), state, undo: null, nudge: null } } },
      ],
    }
    const certificate = {
      ...certificateFacts(root),
      role: 'old-root',
      sites: [],
      file: 'certificates/old-root.pem',
    } as const
    plan = { ...made, certificates: [certificate], phases: [adopt] }
    const repository = { treeDigestAt: async () => null, isDescendant: async () => false }
    const now = new Date(rehearsal.clock.instant())
    evidence = await gatherEvidence({
      cluster: rehearsal.clusters.get(site)!,
      plan,
      site,
      phase: 0,
      step: 1,
      delivery,
      declared: { system: 'istio', istio },
      repository,
      previous: null,
      now,
    })
  }, 60_000)

  afterAll(() => rehearsal.close())

  it('has every consumer read, none of them left out', () => {
    expect(evidence.exceptions).toEqual([])
    expect(evidence.complete).toBe(true)
    expect(new Set(evidence.groups.map(group => group.consumer))).toEqual(
      new Set(['istiod', 'sidecar', 'gateway', 'configmap', 'webhook']),
    )
  })

  it('trusts its own root and presents its leaves, and lacks only what adopt brings', () => {
    const gates = judge(plan, [evidence], new Date(rehearsal.clock.instant())).gates
    const verdicts = Object.fromEntries(gates.map(gate => [gate.id, gate.verdict]))
    for (const id of [
      'istio/roots-trusted',
      'istio/leaves-issued',
      'istio/istiod-serves',
      'istio/root-configmaps',
      'istio/webhooks',
    ])
      expect(verdicts[id]).toBe('holds')
    expect(verdicts['istio/canary']).toBe('pending')
    expect(verdicts['istio/wiring']).toBe('pending')
    expect(verdicts['delivery/applied']).not.toBe('holds')
  })
})
