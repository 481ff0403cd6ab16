import { createPrivateKey, X509Certificate } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { scriptCa } from '../../../src/rehearsal/cassandra/certificates.ts'
import { demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import { certificatesIn } from '../../../src/rehearsal/certificates.ts'
import { numberAt } from '../../../src/rehearsal/objects.ts'
import { operatorChecksum } from '../../../src/systems/cassandra/checksum.ts'
import { minute, type Region, startRegion } from './region.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

let open: Region | null = null

async function region(options: Parameters<typeof startRegion>[0] = {}): Promise<Region> {
  open = await startRegion(options)
  return open
}

afterEach(async () => {
  await open?.close()
  open = null
})

const checksum = 'cassandra-cluster-checksum'

describe("the rehearsal's Cassandra operator", () => {
  it('signs nodes, writes its checksum down, and calls the cluster ready', async () => {
    const here = await region()
    const data = { 'ca.crt': here.old.certificate, 'ca.key': here.old.key }
    expect(here.caSecret().metadata.annotations?.[checksum]).toBe(operatorChecksum(data))
    expect(here.caSecret().metadata.annotations?.['cassandra-cluster-instance']).toBe('example')
    expect(here.pods().length).toBe(3)
    const leaf = new X509Certificate(here.nodeSecret()['tls.crt'] ?? '')
    expect(leaf.verify(new X509Certificate(here.old.certificate).publicKey)).toBe(true)
    expect(leaf.serialNumber).toBe('01')
    expect(leaf.subject.split('\n').sort()).toEqual(['CN=localhost', 'O=ca'])
    const cluster = here.store.get('db.ibm.com', 'CassandraCluster', demoCluster.namespace, demoCluster.name)
    expect(cluster?.status).toEqual({ ready: true })
  })

  it('follows each change of the Secret with new material and a restart of every node, and keeps its annotations through Flux', async () => {
    const here = await region()
    const next = await scriptCa('ca2', here.site.life(87_600))
    const before = here.pods().map(pod => pod.metadata.uid)
    const leaf = here.nodeSecret()['tls.crt']
    const data = { 'ca.crt': here.old.certificate, 'ca.key': here.old.key, 'ca2.crt': next.certificate }
    here.deliver(data)
    expect(here.caSecret().metadata.annotations?.[checksum]).not.toBe(operatorChecksum(data))
    await here.settle()
    expect(here.caSecret().metadata.annotations?.[checksum]).toBe(operatorChecksum(data))
    expect(here.nodeSecret()['tls.crt']).not.toBe(leaf)
    expect(here.nodeSecret()['ca.crt']).toBe(here.old.certificate)
    expect(certificatesIn(here.nodeSecret()['truststore.p12'] ?? '').length).toBe(2)
    const after = here.pods().map(pod => pod.metadata.uid)
    expect(after.filter(uid => before.includes(uid))).toEqual([])
    expect(here.workloads.restarts().find(({ consumer }) => consumer.includes('StatefulSet'))?.count).toBeGreaterThan(0)
  })

  it('restarts nothing where the Secret is delivered as it is, but for the first look', async () => {
    const here = await region()
    const before = here.pods().map(pod => pod.metadata.uid)
    here.deliver({ 'ca.crt': here.old.certificate, 'ca.key': here.old.key })
    await here.run(10 * minute)
    expect(here.pods().map(pod => pod.metadata.uid)).toEqual(before)
  })

  it('holds one entry for two CAs of one Subject, even if they differ in case: the runbook’s note', async () => {
    const here = await region()
    const twin = await scriptCa('CA', here.site.life(87_600))
    here.deliver({ 'ca.crt': here.old.certificate, 'ca.key': here.old.key, 'ca2.crt': twin.certificate })
    await here.settle()
    expect(certificatesIn(here.nodeSecret()['truststore.p12'] ?? '').length).toBe(1)
  })

  it('gives up on a pair that does not match, and on PKCS#8: nodes go on with what they have', async () => {
    const here = await region()
    const next = await scriptCa('ca2', here.site.life(87_600))
    const leaf = here.nodeSecret()['tls.crt']
    here.deliver({ 'ca.crt': next.certificate, 'ca.key': here.old.key, 'ca2.crt': here.old.certificate })
    await here.run(5 * minute)
    expect(here.nodeSecret()['tls.crt']).toBe(leaf)
    expect(here.operator.events.at(-1)?.message).toMatch(/doesn't match/)
    const pkcs8 = createPrivateKey(next.key).export({ type: 'pkcs8', format: 'pem' }).toString()
    here.deliver({ 'ca.crt': next.certificate, 'ca.key': pkcs8, 'ca2.crt': here.old.certificate })
    await here.run(5 * minute)
    expect(here.nodeSecret()['tls.crt']).toBe(leaf)
    expect(here.operator.events.at(-1)?.message).toBe('failed to parse private key')
    expect(here.operator.events.every(({ reason }) => reason === 'TLSSecretInvalid')).toBe(true)
  })

  it('makes up a CA and signs all nodes with it where the Secret is gone for a moment', async () => {
    const here = await region()
    here.store.delete(here.caSecret())
    await here.run(3 * minute)
    expect(here.operator.events.some(({ reason }) => reason === 'TLSSecretNotFound')).toBe(true)
    const leaf = new X509Certificate(here.nodeSecret()['tls.crt'] ?? '')
    expect(leaf.issuer).toBe('O=cassandra_operator')
  })

  it('writes its checksum down while no node restarts, where another region cannot be reached', async () => {
    const here = await region()
    here.operator.remoteRegionsDown = true
    const next = await scriptCa('ca2', here.site.life(87_600))
    const before = here.pods().map(pod => pod.metadata.uid)
    const data = { 'ca.crt': here.old.certificate, 'ca.key': here.old.key, 'ca2.crt': next.certificate }
    here.deliver(data)
    await here.run(5 * minute)
    expect(here.caSecret().metadata.annotations?.[checksum]).toBe(operatorChecksum(data))
    expect(here.pods().map(pod => pod.metadata.uid)).toEqual(before)
  })

  it('does not restart the prober for a new client CA: one that kept its truststore calls no node of the new CA ready, until a person restarts it', async () => {
    const here = await region({ clientEncryption: true })
    const deployment = `${demoCluster.name}-cassandra-prober`
    const prober = () =>
      here.store
        .list('', 'Pod', demoCluster.namespace)
        .filter(pod => pod.metadata.labels?.['cassandra-cluster-component'] === 'prober')
        .map(pod => pod.metadata.uid)
    const before = prober()
    expect(before.length).toBe(1)
    const old = here.clientCa
    if (old === null) throw new Error('no client CA')
    const next = await scriptCa('ca2', here.site.life(87_600))
    const nodes = here.pods().map(pod => pod.metadata.uid)
    here.deliver({ 'ca.crt': old.certificate, 'ca.key': old.key, 'ca2.crt': next.certificate }, 'client')
    await here.settle()
    expect(here.pods().some(pod => nodes.includes(pod.metadata.uid))).toBe(false)
    expect(prober()).toEqual(before)

    // The swap, and nobody restarted the prober after add.
    here.deliver({ 'ca.crt': next.certificate, 'ca.key': next.key, 'ca2.crt': old.certificate }, 'client')
    await here.run(15 * minute)
    const ready = () =>
      numberAt(
        here.store.get('apps', 'StatefulSet', demoCluster.namespace, 'example-cassandra-eu-1'),
        'status',
        'readyReplicas',
      )
    expect(ready()).toBeLessThan(3)
    const stuck = here.store.get('apps', 'Deployment', demoCluster.namespace, deployment)
    if (stuck === null) throw new Error('no prober')
    here.store.update(stuck, 'kubectl-rollout', changed => {
      const { metadata } = (changed.spec as { template: { metadata: { annotations?: Record<string, string> } } })
        .template
      metadata.annotations = { 'kubectl.kubernetes.io/restartedAt': here.clock.instant() }
    })
    await here.settle()
    expect(ready()).toBe(3)
  })
})
