import { beforeAll, describe, expect, it } from 'vitest'
import type { Strategy } from '../../../src/rotation.ts'
import { foretoldPairs, isForetold, priceText } from '../../../src/safety/price.ts'
import { provePlan } from '../../../src/safety/prove.ts'
import { priceNotes } from '../../../src/systems/kyma/model.ts'
import { generateKymaCa, type KymaCa, renewKymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { gatewayRestart, kymaPhases, placesOf } from '../../../src/systems/kyma/phases.ts'
import { kymaProfiles, unseenSecret } from '../../../src/systems/kyma/profile.ts'
import { kymaCa, now, planOf, quickKeys, random } from './material.ts'

const means = { now, random, keys: quickKeys }
let old: KymaCa
let renewed: KymaCa
let fresh: KymaCa

beforeAll(async () => {
  old = await kymaCa()
  renewed = await renewKymaCa(old, 365, means)
  fresh = await generateKymaCa({ subject: 'CN=Kyma kyma-2026', validityDays: 365 }, means)
}, 120_000)

function phasesOf(strategy: Strategy, next: KymaCa, profile = kymaProfiles.runbook, bundle = [old]) {
  return kymaPhases(strategy, {
    profile,
    current: {
      issuer: old.certificate.sha256,
      bundle: bundle.map(ca => ca.certificate.sha256),
      restarts: {},
    },
    next: next.certificate.sha256,
  })
}

function planned(strategy: Strategy, next: KymaCa, profile = kymaProfiles.runbook) {
  return planOf(
    phasesOf(strategy, next, profile),
    [
      { certificate: old.certificate, role: 'old-root' },
      { certificate: next.certificate, role: 'new-root' },
    ],
    strategy,
  )
}

/** Phase, step, what the gateway trusts and what the connector signs with, in the words of the runbook. */
function table(strategy: Strategy, next: KymaCa, profile = kymaProfiles.runbook) {
  const word = (sha256: string) => (sha256 === old.certificate.sha256 ? 'old' : 'new')
  return phasesOf(strategy, next, profile).flatMap(phase =>
    phase.steps.map(step => [
      `${phase.name}/${step.name}`,
      step.state.bundle.map(word).join('+'),
      word(step.state.issuer),
    ]),
  )
}

describe('the phases of Kyma', () => {
  it.each(['renew', 'graceful'] as const)(
    'widen trust before the connector issues, with %s, and narrow it last; files need a restart after each change',
    strategy => {
      expect(table(strategy, renewed)).toEqual([
        ['adopt/adopt', 'old', 'old'],
        ['trust-both/data', 'old+new', 'old'],
        ['trust-both/restart', 'old+new', 'old'],
        ['issue-new/data', 'old+new', 'new'],
        ['trust-new/data', 'new', 'new'],
        ['trust-new/restart', 'new', 'new'],
      ])
    },
  )

  it('restart nothing where istiod pushes the CA by a credential name', () => {
    const phases = phasesOf('graceful', fresh, kymaProfiles['1.11'])
    expect(phases.flatMap(phase => phase.steps.map(step => step.name))).toEqual(['adopt', 'data', 'data', 'data'])
    expect(phases.flatMap(phase => phase.steps.flatMap(step => Object.keys(step.state.restarts)))).toEqual([])
  })

  it('replace everything in one step in an emergency, with a nudge where a pod may have read the old file', () => {
    expect(table('emergency', fresh)).toEqual([
      ['adopt/adopt', 'old', 'old'],
      ['replace/data', 'new', 'new'],
    ])
    const step = phasesOf('emergency', fresh)[1]?.steps[0]
    expect(step?.undo).toBeNull()
    expect(step?.nudge?.bundle).toEqual(step?.state.bundle)
    expect(step?.nudge?.restarts[gatewayRestart]).not.toBe(step?.state.restarts[gatewayRestart])
    expect(phasesOf('emergency', fresh, kymaProfiles['1.11'])[1]?.steps[0]?.nudge).toBeNull()
  })

  it('never restart the gateway in a data step, and in a restart step change nothing else', () => {
    for (const strategy of ['renew', 'graceful'] as const)
      for (const { steps } of phasesOf(strategy, fresh)) {
        const [data, restart] = steps
        if (data === undefined || restart === undefined) continue
        expect({ ...restart.state, restarts: {} }).toEqual({ ...data.state, restarts: {} })
        expect(restart.state.restarts[gatewayRestart]).not.toBe(data.state.restarts[gatewayRestart])
        // A pod that was made while its node had the old file needs one more, and nothing else changes with it.
        expect({ ...restart.nudge, restarts: {} }).toEqual({ ...restart.state, restarts: {} })
        expect(restart.nudge?.restarts[gatewayRestart]).not.toBe(restart.state.restarts[gatewayRestart])
        expect(data.nudge).toBeNull()
      }
  })

  it('go back from every step of renew and graceful to the trust of the step before', () => {
    for (const strategy of ['renew', 'graceful'] as const) {
      const steps = phasesOf(strategy, fresh).slice(1)
      for (const [number, { steps: own }] of steps.entries()) {
        const before = phasesOf(strategy, fresh)[number]?.steps.at(-1)?.state
        for (const step of own) {
          expect(step.undo?.bundle).toEqual(before?.bundle)
          expect(step.undo?.issuer).toBe(before?.issuer)
        }
      }
    }
  })

  it('let a third certificate into no bundle twice: a repeat of an unfinished rotation stands once', () => {
    const phases = phasesOf('renew', renewed, kymaProfiles.runbook, [old, renewed])
    expect(phases.at(1)?.steps[0]?.state.bundle).toEqual([old.certificate.sha256, renewed.certificate.sha256])
  })

  it('keep the signer’s issuer a single certificate in every state, whatever the gateway trusts', () => {
    for (const phase of phasesOf('graceful', fresh))
      for (const { state } of phase.steps) {
        expect(state.chain).toEqual([])
        expect([old.certificate.sha256, fresh.certificate.sha256]).toContain(state.issuer)
      }
  })

  it('name in every state where its material lies, as it was read from the profile', () => {
    const profile = kymaProfiles['1.18']
    for (const phase of phasesOf('graceful', fresh, profile))
      for (const { state } of phase.steps) {
        const { credential, ...gateway } = profile.gateway
        expect(credential).toBe('app-connector-certs')
        expect(placesOf(state)).toEqual({ signer: profile.signer, gateway })
      }
  })

  it('do not exist for strategy issuer, which says what to use in its place', () => {
    expect(() => phasesOf('issuer', fresh)).toThrow('strategy issuer does not exist for Kyma')
  })
})

describe('the proof of Kyma’s phases', () => {
  it.each([
    ['renew', () => renewed],
    ['graceful', () => fresh],
  ] as const)('holds for every mix of neighbouring steps with %s', (strategy, next) => {
    const { safe, transitions } = provePlan(planned(strategy, next()))
    expect(transitions.map(({ counterexample }) => counterexample?.sentence).filter(Boolean)).toEqual([])
    expect(safe).toBe(true)
  })

  it('fails in the runbook’s order, which lets the connector issue before the gateway trusts, where the key is new', () => {
    const plan = planned('graceful', fresh)
    const [adopt, trust, issue, ...rest] = plan.phases
    if (adopt === undefined || trust === undefined || issue === undefined) throw new Error('phases are missing')
    const early = structuredClone(issue)
    const [signer] = early.steps
    const site = signer?.sites.central
    if (site === undefined) throw new Error('no site')
    Object.assign(site.state, { bundle: [old.certificate.sha256] })
    const { safe, transitions } = provePlan({ ...plan, phases: [adopt, { ...early, number: 1 }, trust, ...rest] })
    expect(safe).toBe(false)
    expect(transitions.find(({ counterexample }) => counterexample !== null)?.counterexample?.reason).toContain(
      'no path to a trusted root',
    )
  })
})

describe('the price of an emergency', () => {
  it('is nothing for a renewed certificate: key, Subject and SKI are the old ones', () => {
    expect(foretoldPairs(planned('emergency', renewed))).toEqual([])
  })

  it('is, for a new key, each client with an old leaf at the new gateway, and each with a new leaf at one that still trusts the old CA', () => {
    const pairs = foretoldPairs(planned('emergency', fresh))
    expect(priceText(pairs)).toEqual([
      'runtime with a leaf of 0-adopt/1-adopt is refused by gateway with the trust of 1-replace/1-data',
      'application with a leaf of 0-adopt/1-adopt is refused by gateway with the trust of 1-replace/1-data',
      'runtime with a leaf of 1-replace/1-data is refused by gateway with the trust of 0-adopt/1-adopt',
      'application with a leaf of 1-replace/1-data is refused by gateway with the trust of 0-adopt/1-adopt',
    ])
    const seen = {
      client: 'runtime',
      server: 'gateway',
      presents: old.certificate.sha256,
      trusts: [fresh.certificate.sha256],
    }
    expect(isForetold(pairs, seen)).toBe(true)
    expect(isForetold(pairs, { ...seen, trusts: [old.certificate.sha256] })).toBe(false)
    expect(isForetold(pairs, { ...seen, client: 'stranger' })).toBe(false)
  })

  it('stands in the notes of the plan, pair by pair, as the path search finds it', () => {
    const plan = planned('emergency', fresh)
    expect(priceNotes(plan).map(note => /^the price: (.*), at every/.exec(note)?.[1])).toEqual(
      priceText(foretoldPairs(plan)),
    )
    expect(provePlan(plan).notes).toEqual(expect.arrayContaining([...priceNotes(plan)]))
    expect(priceNotes(planned('emergency', renewed))).toEqual([
      'the price: nobody is refused, as key, subject and key identifier stay.',
    ])
  })

  it('is nothing for the strategies without downtime', () => {
    expect(foretoldPairs(planned('renew', renewed))).toEqual([])
    expect(foretoldPairs(planned('graceful', fresh))).toEqual([])
  })
})

describe('the profiles', () => {
  it('are all seen by their gateway', () => {
    expect(Object.values(kymaProfiles).map(unseenSecret)).toEqual([null, null, null, null, null])
  })

  it('refuse kyma-gateway-ca-certs for a credential name: it does not end in -cacert', () => {
    const { runbook } = kymaProfiles
    const gateway = { ...runbook.gateway, form: 'sds' as const, credential: 'kyma-gateway-certs' }
    expect(unseenSecret({ ...runbook, gateway })).toBe(
      'for credentialName kyma-gateway-certs Istio reads Secret kyma-gateway-certs-cacert or kyma-gateway-certs, never kyma-gateway-ca-certs',
    )
  })
})
