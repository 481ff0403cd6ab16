import { describe, expect, it } from 'vitest'
import { readCassandraCluster } from '../../../src/systems/cassandra/cassandra-cluster.ts'

function cluster(encryption: unknown, more: Record<string, unknown> = {}): unknown {
  return {
    apiVersion: 'db.ibm.com/v1alpha1',
    kind: 'CassandraCluster',
    metadata: { name: 'example', namespace: 'anton' },
    spec: { dcs: [{ name: 'dc1', replicas: 3 }], encryption, ...more },
  }
}

describe('what a CassandraCluster says of its CA', () => {
  it('is the Secret’s name and keys, which the runbook’s `manual` is only an example of', () => {
    const object = cluster({
      server: {
        internodeEncryption: 'all',
        caTLSSecret: { name: 'example-cluster-manual-tls-ca', crtFileKey: 'root.crt', fileKey: 'root.key' },
      },
    })
    expect(readCassandraCluster(object, 'server', 'x')).toMatchObject({
      secret: 'example-cluster-manual-tls-ca',
      certificateKey: 'root.crt',
      privateKey: 'root.key',
      nodeSecret: 'example-cluster-tls-node',
    })
  })

  it('has the operator’s defaults, which differ for server and client', () => {
    const object = cluster({ server: { internodeEncryption: 'all' }, client: { enabled: true } })
    expect(readCassandraCluster(object, 'server', 'x')).toMatchObject({
      secret: 'example-cluster-tls-ca',
      certificateKey: 'ca.crt',
      privateKey: 'ca.key',
    })
    expect(readCassandraCluster(object, 'client', 'x')).toMatchObject({
      secret: 'example-client-tls-ca',
      nodeSecret: 'example-client-tls-node',
    })
  })

  it('refuses node certificates that the user brings: no CA of the operator signs them', () => {
    const object = cluster({ server: { internodeEncryption: 'all', nodeTLSSecret: { name: 'ours' } } })
    expect(() => readCassandraCluster(object, 'server', 'x')).toThrow(/brings its own node certificates/)
  })

  it('refuses a CA that no one uses', () => {
    expect(() => readCassandraCluster(cluster(undefined), 'server', 'x')).toThrow(/do not encrypt/)
    const half = cluster({ server: { internodeEncryption: 'all' } })
    expect(() => readCassandraCluster(half, 'client', 'x')).toThrow(/without TLS/)
  })

  it('names regions and maintenance', () => {
    const object = cluster(
      { server: { internodeEncryption: 'dc' } },
      {
        maintenance: [{ dc: 'dc1' }],
        externalRegions: { managed: [{ domain: 'us.example.com' }], unmanaged: [{ seeds: ['10.0.0.1'], dcs: [] }] },
      },
    )
    expect(readCassandraCluster(object, 'server', 'x')).toMatchObject({
      managedRegions: ['us.example.com'],
      unmanagedRegions: ['10.0.0.1'],
      inMaintenance: ['dc1'],
      internodeEncryption: 'dc',
    })
  })
})
