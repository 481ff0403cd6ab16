import { beforeAll, describe, expect, it } from 'vitest'
import type { Variant } from '../../../src/plan/steps.ts'
import type { Evidence, EvidenceGroup, ObjectEvidence, Plan, TrustState } from '../../../src/rotation.ts'
import { kymaRules } from '../../../src/systems/kyma/gates.ts'
import { generateKymaCa, type KymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { gatewayRestart, kymaPhases } from '../../../src/systems/kyma/phases.ts'
import { type KymaProfile, kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import type { Attestation } from '../../../src/verify/gate.ts'
import { bundleDigest, plannedAt } from '../../../src/verify/planned.ts'
import { kymaCa, now, planOf, quickKeys, random } from './material.ts'

const day = 86_400_000
let old: KymaCa
let fresh: KymaCa

beforeAll(async () => {
  old = await kymaCa()
  fresh = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 365 }, { now, random, keys: quickKeys })
}, 120_000)

function planned(profile: KymaProfile = kymaProfiles.runbook): Plan {
  return planOf(
    kymaPhases('graceful', {
      profile,
      current: { issuer: old.certificate.sha256, bundle: [old.certificate.sha256], restarts: {} },
      next: fresh.certificate.sha256,
    }),
    [
      { certificate: old.certificate, role: 'old-root' },
      { certificate: fresh.certificate, role: 'new-root' },
    ],
    'graceful',
  )
}

const minutesAgo = (minutes: number): string =>
  new Date(now.getTime() - minutes * 60_000).toISOString().replace('.000', '')

function secret(id: string, keys: readonly string[], manager = 'kustomize-controller', changed = 10): ObjectEvidence {
  return {
    id,
    present: true,
    keys,
    managers: Object.fromEntries(keys.map(key => [key, [manager]])),
    facts: {},
    lastChange: minutesAgo(changed),
  }
}

const signerSecret = secret('Secret/kyma-integration/connector-service-app-ca', ['ca.crt', 'ca.key'])
const gatewaySecret = secret('Secret/istio-system/kyma-gateway-ca-certs', ['ca.crt'])

function deployment(facts: Readonly<Record<string, string>>): ObjectEvidence {
  return {
    id: 'Deployment/istio-system/istio-ingressgateway',
    present: true,
    keys: null,
    managers: {},
    facts: { rolled: 'true', surge: 'safe', ...facts },
    lastChange: minutesAgo(10),
  }
}

function group(part: Partial<EvidenceGroup>): EvidenceGroup {
  return {
    consumer: 'runtime',
    owner: 'shop/CentralConnection/shop',
    count: 1,
    members: '',
    trusts: null,
    presents: null,
    bundleDigest: null,
    facts: {},
    leavesExpire: null,
    ...part,
  }
}

/** Verdict and reasons of one gate of a step. */
function judged(
  plan: Plan,
  phase: number,
  step: number,
  id: string,
  evidence: Partial<Pick<Evidence, 'objects' | 'groups' | 'exceptions'>>,
  more: { readonly variant?: Variant; readonly attestations?: readonly Attestation[] } = {},
) {
  const place = plannedAt(plan, 'central', phase, step, more.variant)
  if (place === null) throw new Error('not planned')
  const rule = kymaRules(plan, place).find(each => each.id === id)
  if (rule === undefined) return null
  const whole = {
    objects: [],
    groups: [],
    exceptions: [],
    delivery: { kind: 'flux' },
    to: minutesAgo(0),
    site: 'central',
    ...evidence,
  } as unknown as Evidence
  return rule.judge({ plan, now, attestations: more.attestations ?? [], evidence: whole, place })
}

describe('gate kyma/secrets', () => {
  it('holds where the deliverer wrote both last', () => {
    const objects = [signerSecret, gatewaySecret]
    expect(judged(planned(), 1, 1, 'kyma/secrets', { objects })?.verdict).toBe('holds')
  })

  it.each([
    ['application-connectivity-certs-setup-job', 'setup job'],
    ['helm-controller', 'chart'],
    ['runtime-agent', 'runtime agent'],
  ])('is violated where %s has written over what Git holds, and says what that may be (F16)', (manager, hint) => {
    const objects = [signerSecret, secret(gatewaySecret.id, ['ca.crt'], manager)]
    const found = judged(planned(), 2, 1, 'kyma/secrets', { objects })
    expect(found?.verdict).toBe('violated')
    expect(found?.because.join()).toContain(manager)
    expect(found?.hint).toContain(hint)
  })

  it('holds where the Sealed Secrets controller found the values in place, and so owns none; not where they were written over since', () => {
    const job = 'application-connectivity-certs-setup-job'
    const written = (minutes: number) => ({
      ...secret(signerSecret.id, ['ca.crt', 'ca.key'], job),
      facts: { written: minutesAgo(minutes) },
    })
    const sealed: ObjectEvidence = {
      id: 'SealedSecret/kyma-integration/connector-service-app-ca',
      present: true,
      keys: null,
      managers: {},
      facts: { observed: 'true', synced: 'True' },
      lastChange: minutesAgo(10),
    }
    const verdict = (minutes: number) =>
      judged(planned(), 1, 1, 'kyma/secrets', { objects: [written(minutes), gatewaySecret, sealed] })?.verdict
    expect(verdict(600)).toBe('holds')
    expect(verdict(5)).toBe('violated')
    const late = { ...sealed, facts: { observed: 'false', synced: 'True' } }
    expect(judged(planned(), 1, 1, 'kyma/secrets', { objects: [written(600), gatewaySecret, late] })?.verdict).toBe(
      'pending',
    )
  })

  it('is pending in adopt while the Secret is still of who made it', () => {
    const job = 'application-connectivity-certs-setup-job'
    const objects = [signerSecret, secret(gatewaySecret.id, ['ca.crt'], job)]
    expect(judged(planned(), 0, 1, 'kyma/secrets', { objects })?.verdict).toBe('pending')
  })

  it('is violated where a Secret is gone: the job would make a new CA and overwrite both', () => {
    const objects = [signerSecret, { ...gatewaySecret, present: false }]
    const found = judged(planned(), 1, 1, 'kyma/secrets', { objects })
    expect(found?.verdict).toBe('violated')
    expect(found?.hint).toContain('overwrites both')
  })
})

describe('the gateway that reads files', () => {
  const plan = () => planned()
  const token = (step: number) => plannedAt(plan(), 'central', 1, step)?.tree.state.restarts[gatewayRestart] ?? ''

  it('is not rolled before 90 s have passed since the file changed (F24)', () => {
    const soon = judged(plan(), 1, 1, 'kyma/gateway-file', { objects: [secret(gatewaySecret.id, ['ca.crt'], 'x', 1)] })
    expect(soon?.verdict).toBe('pending')
    const later = judged(plan(), 1, 1, 'kyma/gateway-file', { objects: [secret(gatewaySecret.id, ['ca.crt'], 'x', 2)] })
    expect(later?.verdict).toBe('holds')
  })

  it.each([
    'Recreate: all pods go before one comes',
    'hostPort and maxUnavailable 0: where every node runs a pod, a new one finds no place and the roll-out hangs',
  ])('is not rolled at all where it would not surge: %s', surge => {
    const found = judged(plan(), 1, 1, 'kyma/gateway-surge', { objects: [deployment({ surge })] })
    expect(found?.verdict).toBe('violated')
  })

  it('is judged by its pods only once they were restarted, and then by the token of that restart (F11)', () => {
    expect(judged(plan(), 1, 1, 'kyma/gateway-trusts', {})).toBeNull()
    const both = [old.certificate.sha256, fresh.certificate.sha256].sort()
    const pod = (facts: Readonly<Record<string, string>>, trusts: readonly string[]) =>
      group({ consumer: 'gateway', owner: 'istio-system/Deployment/istio-ingressgateway', trusts, facts })
    const good = judged(plan(), 1, 2, 'kyma/gateway-trusts', { groups: [pod({ token: token(2) }, both)] })
    expect(good?.verdict).toBe('holds')
    const stale = judged(plan(), 1, 2, 'kyma/gateway-trusts', { groups: [pod({}, [old.certificate.sha256])] })
    expect(stale?.verdict).toBe('pending')
  })

  it('says how its pods get rid of a restart that a revert by hand has left there', () => {
    const found = judged(plan(), 0, 1, 'kyma/gateway-rolled', { objects: [deployment({ token: token(2) })] })
    expect(found?.verdict).toBe('pending')
    expect(found?.because[0]).toContain('carries the restart of a later step')
    expect(found?.hint).toContain(
      `kubectl --namespace istio-system patch deployment istio-ingressgateway --type=json --patch '[{"op":"remove","path":"/spec/template/metadata/annotations/reanchor.dev~1trust"}]'`,
    )
    expect(judged(plan(), 0, 1, 'kyma/gateway-rolled', { objects: [deployment({})] })?.verdict).toBe('holds')
  })

  it('is violated where a pod was made while its node had the old file, and names the way out', () => {
    const pod = group({
      consumer: 'gateway',
      owner: 'istio-system/Deployment/istio-ingressgateway',
      trusts: [old.certificate.sha256],
      facts: { token: token(2), file: 'old' },
    })
    const found = judged(plan(), 1, 2, 'kyma/gateway-trusts', { groups: [pod] })
    expect(found?.verdict).toBe('violated')
    expect(found?.hint).toContain('--nudge')
    const adopted = judged(plan(), 0, 1, 'kyma/gateway-trusts', { groups: [pod] })
    expect(adopted?.hint).toContain('kubectl --namespace istio-system rollout restart deployment istio-ingressgateway')
  })
})

describe('the gateway with a credential name', () => {
  it('needs no restart, and is judged in the data step by what Envoy itself says', () => {
    const plan = planned(kymaProfiles['1.11'])
    expect(judged(plan, 1, 1, 'kyma/gateway-surge', {})).toBeNull()
    const pod = group({
      consumer: 'gateway',
      owner: 'istio-system/Deployment/istio-ingressgateway',
      trusts: [old.certificate.sha256],
    })
    expect(judged(plan, 1, 1, 'kyma/gateway-trusts', { groups: [pod] })?.verdict).toBe('pending')
  })
})

describe('gate kyma/runtimes-renewed', () => {
  it('stands in issue-new alone', () => {
    const plan = planned()
    expect(judged(plan, 1, 1, 'kyma/runtimes-renewed', {})).toBeNull()
    expect(judged(plan, 2, 1, 'kyma/runtimes-renewed', {})).not.toBeNull()
    expect(judged(plan, 3, 1, 'kyma/runtimes-renewed', {})).toBeNull()
  })

  it('holds where dates and signature say so, and where only dates can be seen', () => {
    for (const presents of [[fresh.certificate.sha256], null]) {
      const groups = [group({ presents, facts: { kind: 'central', renewed: 'true' } })]
      expect(judged(planned(), 2, 1, 'kyma/runtimes-renewed', { groups })?.verdict).toBe('holds')
    }
  })

  it('does not where the dates are new and the signature is the old CA’s (F3)', () => {
    const groups = [group({ presents: [old.certificate.sha256], facts: { kind: 'central', renewed: 'true' } })]
    expect(judged(planned(), 2, 1, 'kyma/runtimes-renewed', { groups })?.verdict).toBe('pending')
  })

  it('says of each runtime in one line what it holds and what the connector issues from', () => {
    const facts = { kind: 'central', renewed: 'false', waits: 'holds a certificate of last year' }
    const groups = [group({ presents: [old.certificate.sha256], facts })]
    const because = judged(planned(), 2, 1, 'kyma/runtimes-renewed', { groups })?.because ?? []
    expect(because).toHaveLength(1)
    const [before, now] = [old, fresh].map(({ certificate }) => `${certificate.sha256.slice(0, 16)}…`)
    expect(because[0]).toContain(
      `holds a certificate of last year; its certificate came from ${before}, and the connector issues from ${now}`,
    )
  })

  it('names who still has an old certificate, and says what to run in which cluster or when it renews by itself (F1)', () => {
    const renewsAt = new Date(now.getTime() + 30 * day).toISOString()
    const facts = { kind: 'central', renewed: 'false', waits: 'holds an old certificate', renewsAt }
    const found = judged(planned(), 2, 1, 'kyma/runtimes-renewed', { groups: [group({ facts })] })
    expect(found?.verdict).toBe('pending')
    expect(found?.hint).toContain('in the cluster of runtime shop: kubectl patch centralconnection shop')
    expect(found?.hint).toContain(`wait until ${renewsAt}`)
  })

  it('is unknown where a runtime could not be read (F27)', () => {
    const exceptions = [
      { consumer: 'runtime', name: 'shop/shop', reason: 'unreadable', detail: 'forbidden', verdict: 'unknown' },
    ] as const
    expect(judged(planned(), 2, 1, 'kyma/runtimes-renewed', { exceptions })?.verdict).toBe('unknown')
  })
})

describe('gate kyma/runtimes-connected', () => {
  it('asks of every step past adopt that each runtime reaches the gateway as it is now: the way by which it renews (F12)', () => {
    expect(judged(planned(), 0, 1, 'kyma/runtimes-connected', {})).toBeNull()
    for (const phase of [1, 2, 3]) {
      const well = group({ facts: { kind: 'central', renewed: 'true' } })
      const lost = group({
        facts: { kind: 'central', renewed: 'true', unreached: 'has not reached the gateway since' },
      })
      const doubtful = group({ facts: { kind: 'central', renewed: 'true', doubt: 'its clock' } })
      const verdict = (of: EvidenceGroup) =>
        judged(planned(), phase, 1, 'kyma/runtimes-connected', { groups: [of] })?.verdict
      expect([well, lost, doubtful].map(verdict)).toEqual(['holds', 'pending', 'unknown'])
    }
  })
})

describe('a way back from issue-new', () => {
  it('asks again that everybody renews, now to the CA before: whoever renewed in between would be refused one step further back', () => {
    const renewed = (presents: readonly string[]) =>
      judged(
        planned(),
        2,
        1,
        'kyma/runtimes-renewed',
        { groups: [group({ presents, facts: { kind: 'central', renewed: 'true' } })] },
        { variant: 'undo' },
      )?.verdict
    expect(renewed([fresh.certificate.sha256])).toBe('pending')
    expect(renewed([old.certificate.sha256])).toBe('holds')
    expect(judged(planned(), 1, 1, 'kyma/runtimes-renewed', {}, { variant: 'undo' })).toBeNull()
  })
})

describe('gate kyma/attested (F20)', () => {
  const plan = (): Plan => {
    const made = planned()
    return { ...made, gates: { ...made.gates, attest: [{ name: 'applications', why: 'their owners' }] } }
  }
  const word = (minutes: number, part: Partial<Attestation> = {}): Attestation => ({
    name: 'applications',
    phase: 2,
    bundle: bundleDigest(plan(), plannedAt(plan(), 'central', 2, 1)?.tree.state as TrustState),
    at: minutesAgo(minutes),
    ...part,
  })
  const verdict = (attestations: readonly Attestation[], variant: Variant = 'step') =>
    judged(plan(), 2, 1, 'kyma/attested', { objects: [signerSecret] }, { attestations, variant })?.verdict

  it('stands where the CA that signs has changed, and holds by a word for this phase and this bundle', () => {
    expect(judged(plan(), 1, 1, 'kyma/attested', {})).toBeNull()
    expect(verdict([])).toBe('pending')
    const asked = judged(plan(), 2, 1, 'kyma/attested', { objects: [signerSecret] })?.hint
    expect(asked).toContain('holds a certificate that it got after the connector had the CA of this step')
    expect(asked).toContain('`reanchor attest applications --phase 2`')
    expect(verdict([word(5)])).toBe('holds')
    expect(verdict([word(5, { bundle: '00' })])).toBe('pending')
    expect(verdict([word(5, { phase: 1 })])).toBe('pending')
  })

  it('takes no word that is older than the connector’s CA: it says nothing of what was issued since, after an undo the less', () => {
    expect(verdict([word(15)])).toBe('pending')
    expect(verdict([word(15)], 'undo')).toBe('pending')
    expect(verdict([word(5)], 'undo')).toBe('holds')
    const { at: _at, ...timeless } = word(5)
    expect(verdict([timeless])).toBe('pending')
  })

  it('is unknown where the connector’s Secret was not read', () => {
    expect(judged(plan(), 2, 1, 'kyma/attested', {}, { attestations: [word(5)] })?.verdict).toBe('unknown')
  })
})

describe('gate kyma/overrides', () => {
  it('is violated where the installer holds a CA, which the next upgrade would write back', () => {
    const override = (verdict: 'violated' | 'unknown') =>
      ({
        consumer: 'object',
        name: 'ConfigMap/kyma-installer/x',
        reason: 'override',
        detail: 'holds',
        verdict,
      }) as const
    for (const verdict of ['violated', 'unknown'] as const)
      expect(judged(planned(), 1, 1, 'kyma/overrides', { exceptions: [override(verdict)] })?.verdict).toBe(verdict)
    expect(judged(planned(), 1, 1, 'kyma/overrides', { objects: [signerSecret] })?.verdict).toBe('holds')
  })
})
