import { afterEach, describe, expect, it } from 'vitest'
import { nextWhenReady, planAndMerge, recordMerge, rotate } from '../../src/commands/demo.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { demoKyma, profileOf } from '../../src/rehearsal/kyma/fleet.ts'
import { textsAt } from '../../src/rehearsal/objects.ts'
import { kymaProfiles } from '../../src/systems/kyma/profile.ts'
import { kymaOf } from '../../src/systems/kyma/settings.ts'
import {
  abandonBefore,
  goOn,
  isClosed,
  mergeVariant,
  openStep,
  rehearseDeclared,
  undoEachStep,
  wholeRotation,
} from './drive.ts'
import { type KymaTestWorld, kymaWorld } from './kyma-world.ts'

let test: KymaTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

function signer({ secrets }: KymaTestWorld) {
  return readCertificate(secrets().signer['ca.crt'] ?? '')
}

describe('undo', () => {
  it.each([
    ['soon-to-expire', ['1-trust-both/2-restart', '3-trust-new/2-restart']],
    ['graceful', []],
  ] as const)(
    'leads back from each step but adopt, and forward again, and no handshake fails: %s',
    async (scenario, restarts) => {
      test = await kymaWorld(scenario)
      const { world } = test
      const told = await undoEachStep(world)
      const { '0-adopt/1-adopt': adopt, ...others } = told
      expect(adopt).toBe('there is no way back from here')
      const steps = ['1-trust-both/1-data', '2-issue-new/1-data', '3-trust-new/1-data', ...restarts]
      expect(others).toEqual(Object.fromEntries(steps.map(step => [step, 'undone'])))
      expect(await isClosed(world)).toBe(true)
      expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    },
    600_000,
  )
})

describe('abandon', () => {
  it('leads back from both keys in use to the old one alone: clients that have renewed renew once more before the new CA goes', async () => {
    test = await kymaWorld('graceful')
    const { world, secrets, kyma } = test
    const before = secrets()
    await planAndMerge(world)
    await abandonBefore(world, 'trust-new')
    expect(await isClosed(world)).toBe(true)
    expect(secrets()).toEqual(before)
    await world.rehearsal.handshakes.round()
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    for (const { identity } of [...kyma.runtimes, ...kyma.applications])
      expect(identity?.ca).toBe(before.signer['ca.crt'])
  }, 600_000)
})

describe('rotations in a row, A to B to C (F22)', () => {
  it('renew one key twice: three certificates of one key and one Subject, told apart by SHA-256 alone', async () => {
    test = await kymaWorld('soon-to-expire')
    const { world, secrets } = test
    const certificates = [signer(test)]
    await rotate(world)
    certificates.push(signer(test))
    const second = await test.declare('second')
    const made = await planAndMerge(second)
    expect(made.follows).toBe('first')
    expect(await goOn(second)).not.toContain('adopt/adopt')
    certificates.push(signer(test))
    expect(new Set(certificates.map(({ sha256 }) => sha256)).size).toBe(3)
    for (const same of ['spki', 'subject', 'ski'] as const)
      expect(new Set(certificates.map(each => each[same])).size, same).toBe(1)
    // No certificate of the first is left in the bundle of the second.
    expect(secrets().gateway['ca.crt']).toBe(certificates[2]?.pem)
    expect(world.rehearsal.restarts().map(({ count }) => count)).toEqual([4])
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)

  it('take a new key twice, each under a Subject of its own', async () => {
    test = await kymaWorld('graceful')
    const { world, secrets } = test
    const certificates = [signer(test)]
    await rotate(world)
    certificates.push(signer(test))
    const second = await test.declare('second')
    await planAndMerge(second)
    expect(await goOn(second)).toEqual(['trust-both/data', 'issue-new/data', 'trust-new/data', 'close/close'])
    certificates.push(signer(test))
    for (const own of ['spki', 'subject', 'ski'] as const)
      expect(new Set(certificates.map(each => each[own])).size, own).toBe(3)
    expect(secrets().gateway.cacert).toBe(certificates[2]?.pem)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)
})

describe('a nudge', () => {
  it('rolls a gateway pod once more that was made while its node had the old file (F11, F19)', async () => {
    test = await kymaWorld('compromised-certificate')
    const { world } = test
    const { faults, workloads, store } = test.site('central')
    const { namespace, secret } = profileOf('compromised-certificate').profile.gateway
    await planAndMerge(world)
    const replace = await openStep(world, 'replace')
    const held = store.get('', 'Secret', namespace, secret)
    for (const node of workloads.nodes)
      faults.staleNodes.set(node, new Map([[`Secret/${namespace}/${secret}`, structuredClone(held)]]))
    await recordMerge(world, replace)
    const waiting = await nextWhenReady(world, 60 * 60_000)
    if (waiting.kind !== 'waiting') throw new Error(`expected to wait, found ${waiting.kind}`)
    const gate = waiting.gates.find(({ id }) => id === 'kyma/gateway-trusts')
    expect(gate).toMatchObject({ verdict: 'violated', hint: expect.stringContaining('next --nudge') })
    expect(gate?.because.join()).toContain('istio-system/istio-ingressgateway-')

    faults.staleNodes.clear()
    expect((await mergeVariant(world, 'nudge')).title).toContain('nudge')
    await goOn(world)
    expect(world.rehearsal.restarts().map(({ count }) => count)).toEqual([2])
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)
})

describe('rehearse', () => {
  it('takes names, runtimes and words from the declaration: another release, and runtimes of other names', async () => {
    const gateway = kymaProfiles['1.11'].gateway
    test = await kymaWorld('soon-to-expire', {
      change: declaration => ({
        ...declaration,
        system: 'kyma',
        kyma: {
          ...kymaOf(declaration),
          profile: '1.11',
          gateway,
          runtimes: ['east', 'west'].map(name => ({
            name,
            site: null,
            kind: 'central',
            connection: `${name}-1`,
            cluster: { kind: 'context', context: name },
          })),
        },
      }),
    })
    const { exit, result } = await rehearseDeclared(test.world)
    expect(exit).toBe(0)
    expect(result.phases.map(({ name }) => name)).toEqual(['adopt', 'trust-both', 'issue-new', 'trust-new', 'close'])
    expect(result.handshakes.failed).toBe(0)
    expect(result.restarts).toEqual([])
  }, 600_000)
})

describe('Argo CD with Sealed Secrets', () => {
  it('delivers a whole rotation: one key of the gateway’s Secret changes, and the rest of it stays', async () => {
    test = await kymaWorld('graceful+argocd')
    const { world, secrets } = test
    const before = secrets()
    expect(await wholeRotation(world)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'issue-new/data',
      'trust-new/data',
      'close/close',
    ])
    const after = secrets()
    expect(Object.keys(after.gateway).sort()).toEqual(['cacert', 'tls.crt', 'tls.key'])
    expect([after.gateway['tls.crt'], after.gateway['tls.key']]).toEqual([
      before.gateway['tls.crt'],
      before.gateway['tls.key'],
    ])
    expect(after.gateway.cacert).toBe(after.signer['ca.crt'])
    expect(after.signer['ca.key']).not.toBe(before.signer['ca.key'])
    const { plan } = await loadRotation(world.repository, { rotation: 'first', base: 'main' })
    expect(plan.certificates.map(({ pem }) => pem)).toContain(after.gateway.cacert)
    const { namespace } = demoKyma.signer
    const sealed = test.store('central').get('bitnami.com', 'SealedSecret', namespace, demoKyma.signer.secret)
    expect(Object.keys(textsAt(sealed, 'spec', 'encryptedData'))).toEqual(['ca.key'])
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)
})
