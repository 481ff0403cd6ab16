import { afterEach, describe, expect, it } from 'vitest'
import { resources } from '../../src/cluster/resources.ts'
import { advanceUntil, nextWhenReady, planAndMerge, recordMerge, rotate } from '../../src/commands/demo.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { demoRuntimes } from '../../src/rehearsal/kyma/fleet.ts'
import { textsAt } from '../../src/rehearsal/objects.ts'
import { foretoldPairs } from '../../src/safety/price.ts'
import { extensionsOf } from '../../src/systems/kyma/same-key.ts'
import { isClosed } from './drive.ts'
import { type KymaTestWorld, kymaWorld } from './kyma-world.ts'

let test: KymaTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

const certificates = (text: string | undefined): readonly string[] =>
  (text ?? '').match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n/g) ?? []

describe('a soon-to-expire CA', () => {
  it('is renewed from init to the closed rotation under its own key: no failed handshake, and the gateway rolled twice', async () => {
    test = await kymaWorld('soon-to-expire')
    const { world, secrets } = test
    const before = secrets()
    await rotate(world)
    expect(world.phases.map(({ name, step }) => `${name}/${step}`)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'trust-both/restart',
      'issue-new/data',
      'trust-new/data',
      'trust-new/restart',
      'close/close',
    ])
    const { attempted, failed, foretold } = world.rehearsal.handshakes.counts
    expect({ failed, foretold }).toEqual({ failed: 0, foretold: 0 })
    expect(attempted).toBeGreaterThan(100)
    expect(world.rehearsal.restarts()).toEqual([
      { consumer: 'istio-system/Deployment/istio-ingressgateway', site: 'central', count: 2 },
    ])
    expect(await isClosed(world)).toBe(true)

    // The runbook's end, key by key: its steps 4 and 12.
    const after = secrets()
    expect(Object.keys(after.signer).sort()).toEqual(['ca.crt', 'ca.key'])
    expect(Object.keys(after.gateway)).toEqual(['ca.crt'])
    expect(after.signer['ca.key']).toBe(before.signer['ca.key'])
    expect(after.gateway['ca.crt']).toBe(after.signer['ca.crt'])
    const [old, next] = [before, after].map(each => readCertificate(each.signer['ca.crt'] ?? ''))
    expect(next?.sha256).not.toBe(old?.sha256)
    expect(next?.spki).toBe(old?.spki)
    expect(next?.serial).not.toBe(old?.serial)
    expect(next?.parts.subject.der.equals(old?.parts.subject.der ?? Buffer.alloc(0))).toBe(true)
    expect(next === undefined ? [] : extensionsOf(next)).toEqual(old === undefined ? null : extensionsOf(old))
  }, 600_000)
})

describe('a new key without an outage, which the runbook lacks', () => {
  it('reaches the closed rotation without a failed handshake and without a restart; the server certificate in the same Secret stays', async () => {
    test = await kymaWorld('graceful')
    const { world, secrets } = test
    const before = secrets()
    await rotate(world)
    expect(world.phases.map(({ name, step }) => `${name}/${step}`)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'issue-new/data',
      'trust-new/data',
      'close/close',
    ])
    const { attempted, failed, foretold } = world.rehearsal.handshakes.counts
    expect({ failed, foretold }).toEqual({ failed: 0, foretold: 0 })
    expect(attempted).toBeGreaterThan(100)
    expect(world.rehearsal.restarts()).toEqual([])
    const after = secrets()
    expect(Object.keys(after.signer).sort()).toEqual(['ca.crt', 'ca.key'])
    expect(after.signer['ca.key']).not.toBe(before.signer['ca.key'])
    expect(Object.keys(after.gateway).sort()).toEqual(['cacert', 'tls.crt', 'tls.key'])
    expect(after.gateway['tls.crt']).toBe(before.gateway['tls.crt'])
    expect(after.gateway['tls.key']).toBe(before.gateway['tls.key'])
    expect(after.gateway.cacert).toBe(after.signer['ca.crt'])
    expect(certificates(after.gateway.cacert)).toHaveLength(1)

    // The trap of a runtime's own `cacert`: its agent writes the CA that the connector answered with, alone, and nobody else writes there.
    const [site] = (await loadRotation(world.repository, { rotation: 'first', base: 'main' })).declaration.sites
    if (site === undefined) throw new Error('no site')
    for (const { name } of demoRuntimes) {
      const cluster = await world.context.openCluster({ ...site, name, cluster: { kind: 'context', context: name } })
      const own = await cluster.get(resources.secrets, 'istio-system', 'kyma-gateway-certs-cacert')
      expect(textsAt(own, 'data')).toEqual({ cacert: Buffer.from(after.signer['ca.crt'] ?? '').toString('base64') })
      expect(own?.metadata.managedFields?.map(({ manager }) => manager)).toEqual(['runtime-agent'])
    }
  }, 600_000)
})

describe('a compromised certificate', () => {
  it('is replaced in one pull request, and refuses nobody: the price is nothing, and nothing fails', async () => {
    test = await kymaWorld('compromised-certificate')
    const { world, secrets } = test
    const before = secrets()
    await rotate(world)
    expect(world.phases.map(({ name }) => name)).toEqual(['adopt', 'replace', 'close'])
    const { failed, foretold } = world.rehearsal.handshakes.counts
    expect({ failed, foretold }).toEqual({ failed: 0, foretold: 0 })
    const after = secrets()
    expect(after.signer['ca.key']).toBe(before.signer['ca.key'])
    expect(after.signer['ca.crt']).not.toBe(before.signer['ca.crt'])
    expect(after.gateway['ca.crt']).toBe(after.signer['ca.crt'])
  }, 600_000)
})

describe('a compromised key', () => {
  it('is replaced in one pull request: every client is refused at every gateway, exactly as foretold, until it has a new certificate', async () => {
    test = await kymaWorld('compromised-key')
    const { world, secrets, kyma } = test
    const before = secrets()
    const plan = await planAndMerge(world)
    expect(foretoldPairs(plan).map(({ client, server, from, to }) => ({ client, server, from, to }))).toEqual([
      { client: 'runtime', server: 'gateway', from: '0-adopt/1-adopt', to: '1-replace/1-data' },
      { client: 'application', server: 'gateway', from: '0-adopt/1-adopt', to: '1-replace/1-data' },
      { client: 'runtime', server: 'gateway', from: '1-replace/1-data', to: '0-adopt/1-adopt' },
      { client: 'application', server: 'gateway', from: '1-replace/1-data', to: '0-adopt/1-adopt' },
    ])
    const { handshakes } = world.rehearsal
    const replace = await advanceUntil(world, ({ phase }) => phase === 1)
    expect(handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    if (replace === null) throw new Error('replace was not opened')
    await recordMerge(world, replace)

    // Nobody renews yet: once the gateway is rolled, each of the four clients is refused by each of its pods, once in a round.
    await world.rehearsal.run(20 * 60_000)
    const at = handshakes.counts
    await handshakes.round()
    const pairs = (kyma.runtimes.length + kyma.applications.length) * kyma.gateways.length
    expect(pairs).toBe(12)
    expect(handshakes.counts.attempted - at.attempted).toBe(pairs)
    expect(handshakes.counts.foretold - at.foretold).toBe(pairs)
    expect(handshakes.counts.failed).toBe(0)

    // People bring each client a new token; then nothing fails any more.
    while ((await nextWhenReady(world)).kind !== 'opened') await world.rehearsal.run(60_000)
    const onboarded = handshakes.counts
    await handshakes.round()
    expect(handshakes.counts.foretold).toBe(onboarded.foretold)
    expect(handshakes.counts.failed).toBe(0)
    const after = secrets()
    expect(after.signer['ca.key']).not.toBe(before.signer['ca.key'])
    expect(after.gateway['ca.crt']).toBe(after.signer['ca.crt'])
    expect(Object.keys(after.signer).sort()).toEqual(['ca.crt', 'ca.key'])
    expect(Object.keys(after.gateway)).toEqual(['ca.crt'])
  }, 600_000)
})
