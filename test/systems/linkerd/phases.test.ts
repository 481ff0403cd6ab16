import { beforeAll, describe, expect, it } from 'vitest'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import {
  bothRoots,
  controlPlaneKey,
  type LinkerdMaterial,
  type LinkerdPhaseOptions,
  linkerdPhases,
  literalAnchors,
} from '../../../src/systems/linkerd/phases.ts'
import type { PhaseDraft, StepDraft } from '../../../src/systems/system.ts'
import { linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
})

const options: LinkerdPhaseOptions = { flow: 'trust-roots', workloadBatches: 1, leaves: 'renewal' }

function material(roots: readonly string[] = [old.root.sha256], others: readonly string[] = []): LinkerdMaterial {
  return {
    current: { issuer: old.issuer.sha256, chain: [old.issuer.sha256], roots, others, settings: {}, restarts: {} },
    next: { root: next.root.sha256, issuer: next.issuer.sha256, chain: [next.issuer.sha256, next.root.sha256] },
  }
}

function steps(phases: readonly PhaseDraft[]): readonly string[] {
  return phases.flatMap(phase => phase.steps.map(step => `${phase.name}/${step.name}`))
}

function stateAt(phases: readonly PhaseDraft[], name: string): StepDraft {
  const found = phases.flatMap(phase => phase.steps.map(step => [`${phase.name}/${step.name}`, step] as const))
  const step = found.find(([each]) => each === name)?.[1]
  if (step === undefined) throw new Error(`no step ${name}`)
  return step
}

describe('phases of a Linkerd rotation', () => {
  it('put data before every restart, the control plane before the data plane, and the issuer between widening and narrowing', () => {
    expect(steps(linkerdPhases('graceful', material(), options))).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'trust-both/control-plane',
      'trust-both/data-plane',
      'issue-new/data',
      'trust-new/data',
      'trust-new/control-plane',
      'trust-new/data-plane',
    ])
  })

  it('never move anchors and issuer in one step (trap 12, F6)', () => {
    const phases = linkerdPhases('graceful', material(), options)
    const states = phases.flatMap(phase => phase.steps.map(step => step.state))
    for (const [index, state] of states.entries()) {
      const before = states[index - 1]
      if (before === undefined || before.issuer === state.issuer) continue
      expect(state.bundle).toEqual(before.bundle)
      expect(state.restarts).toEqual(before.restarts)
    }
  })

  it('restart everything with the issuer, control plane first, only where leaves are to be taken up by a restart', () => {
    const phases = linkerdPhases('graceful', material(), { ...options, leaves: 'restart', workloadBatches: 2 })
    expect(steps(phases).filter(name => name.startsWith('issue-new'))).toEqual([
      'issue-new/data',
      'issue-new/leaves-control-plane',
      'issue-new/leaves',
      'issue-new/leaves-2',
    ])
  })

  it('carry literal anchors one step behind the data, with the restart that they cause', () => {
    const phases = linkerdPhases('graceful', material(), { ...options, flow: 'upgrade' })
    const at = (phase: string, step: string) =>
      literalAnchors(
        phases.find(each => each.name === phase)?.steps.find(each => each.name === step)?.state ?? { settings: {} },
        controlPlaneKey,
      )
    const both = bothRoots('upgrade', [old.root.sha256], next.root.sha256)
    expect(at('adopt', 'adopt')).toEqual([old.root.sha256])
    expect(at('trust-both', 'data')).toEqual([old.root.sha256])
    expect(at('trust-both', 'control-plane')).toEqual(both)
    expect(at('trust-new', 'data')).toEqual(both)
    expect(at('trust-new', 'control-plane')).toEqual([next.root.sha256])
  })

  it('order the bundle as each runbook does, and tell what leaves by fingerprint (trap 1)', () => {
    expect(bothRoots('upgrade', [old.root.sha256], next.root.sha256)).toEqual([next.root.sha256, old.root.sha256])
    expect(bothRoots('config-map', [old.root.sha256], next.root.sha256)).toEqual([old.root.sha256, next.root.sha256])
    for (const flow of ['upgrade', 'config-map', 'trust-roots'] as const) {
      const phases = linkerdPhases('graceful', material(), { ...options, flow })
      expect(phases.at(-1)?.steps.at(-1)?.state.bundle).toEqual([next.root.sha256])
    }
  })

  it('keep every root of a bundle that has several already: step certificate bundle would keep the first (trap 2)', async () => {
    const partner = await linkerdCa('CN=partner')
    const roots = [old.root.sha256, partner.root.sha256]
    const phases = linkerdPhases('graceful', material(roots, [partner.root.sha256]), options)
    expect(new Set(stateAt(phases, 'trust-both/data').state.bundle)).toEqual(new Set([...roots, next.root.sha256]))
    expect(phases.at(-1)?.steps.at(-1)?.state.bundle).toEqual([next.root.sha256, partner.root.sha256])
  })

  it('are one phase where the root stays, and one that cannot be undone where the old key is in foreign hands', () => {
    expect(steps(linkerdPhases('issuer', material(), options))).toEqual(['adopt/adopt', 'issue-new/data'])
    const emergency = linkerdPhases('emergency', material(), options)
    expect(steps(emergency)).toEqual(['adopt/adopt', 'replace/data', 'replace/control-plane', 'replace/data-plane'])
    expect(emergency.flatMap(phase => phase.steps).every(step => step.undo === null)).toBe(true)
    expect(() => linkerdPhases('renew', material(), options)).toThrow(/renew does not exist for Linkerd/)
  })

  it('never restart anything twice for the same material, and restart again what an undo has to bring back (F5)', () => {
    const phases = linkerdPhases('graceful', material(), options)
    const tokens = phases.flatMap(phase => phase.steps.map(step => step.state.restarts['data-plane'])).filter(Boolean)
    expect(new Set(tokens).size).toBe(2)
    const undo = stateAt(phases, 'trust-new/data-plane').undo
    expect(undo?.bundle).toEqual(bothRoots('trust-roots', [old.root.sha256], next.root.sha256))
    expect(tokens.slice(-1)).not.toContain(undo?.restarts['data-plane'])
    // The control plane and the workloads had not restarted yet when only the data had changed.
    expect(stateAt(phases, 'trust-both/data').undo?.restarts).toEqual({})
  })

  it('go twice in a row: the second one starts where the first one ended (F22)', async () => {
    const third = await linkerdCa('CN=third')
    const first = linkerdPhases('graceful', material(), options).at(-1)?.steps.at(-1)?.state
    if (first === undefined) throw new Error('no last state')
    const again = linkerdPhases(
      'graceful',
      {
        current: {
          issuer: first.issuer,
          chain: first.chain,
          roots: first.bundle,
          settings: {},
          restarts: first.restarts,
        },
        next: { root: third.root.sha256, issuer: third.issuer.sha256, chain: third.chain.map(each => each.sha256) },
      },
      options,
    )
    expect(again[0]?.steps[0]?.state.restarts).toEqual(first.restarts)
    expect(again.at(-1)?.steps.at(-1)?.state.bundle).toEqual([third.root.sha256])
    const tokens = [first, ...again.flatMap(phase => phase.steps.map(step => step.state))].map(
      state => state.restarts['data-plane'],
    )
    expect(new Set(tokens).size).toBe(3)
  })
})
