import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import type { CurrentCa, NextCa } from '../../src/plan/ca.ts'
import { cassandraFleet, demoCluster } from '../../src/rehearsal/cassandra/fleet.ts'
import type { FileTree } from '../../src/rotation.ts'
import { currentCa } from '../../src/systems/cassandra/material.ts'

/** One rotation of Cassandra that `output/` shows. */
export interface CassandraFixture {
  readonly name: string
  /** rotation.yaml */
  readonly declaration: string
  readonly files: FileTree
  readonly current: CurrentCa
  readonly next: NextCa
  readonly waysBack: boolean
}

const site = 'eu-1'
/** A public key whose private half nobody keeps. */
const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

/** Stand where private keys would: no key is in this repository, and synth neither makes nor signs anything. */
export function cassandraFixtures(): readonly CassandraFixture[] {
  const shared = { files: cassandraFleet({ sites: [site], ageRecipient: recipient }), current: current(), next: next() }
  return [
    { ...shared, name: 'cassandra-graceful', declaration: declaration('graceful'), waysBack: true },
    { ...shared, name: 'cassandra-emergency', declaration: declaration('emergency'), waysBack: false },
  ]
}

function declaration(strategy: string): string {
  return `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: db-2026
spec:
  system: cassandra
  strategy: ${strategy}
  forge: local
  custody:
    sops: {age: [${recipient}]}
  sites:
    - name: ${site}
      path: trust/${site}
      delivery:
        flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}
  cassandra:
    cluster: ${demoCluster.name}
    namespace: ${demoCluster.namespace}
`
}

/** Text of a public certificate. The PEM files lie in the sources alone, so the build looks back to them. */
function certificate(name: string): Certificate {
  const folders = ['./certificates/', '../../../phases/cassandra/certificates/'].map(
    path => new URL(path, import.meta.url),
  )
  const folder = folders.find(url => existsSync(fileURLToPath(url)))
  if (folder === undefined) throw new Error('phases/cassandra/certificates is missing: synth runs in a checkout only')
  return readCertificate(readFileSync(new URL(`${name}.pem`, folder), 'utf8'))
}

function current(): CurrentCa {
  const ca = certificate('old-ca')
  return currentCa({
    cluster: {
      namespace: demoCluster.namespace,
      name: demoCluster.name,
      secret: demoCluster.secret,
      certificateKey: 'ca.crt',
      privateKey: 'ca.key',
      nodeSecret: 'example-cluster-tls-node',
      datacenters: [{ name: site, replicas: 3 }],
      managedRegions: [],
      unmanagedRegions: [],
      inMaintenance: [],
      internodeEncryption: 'all',
    },
    secret: {
      namespace: demoCluster.namespace,
      name: demoCluster.secret,
      type: 'Opaque',
      certificateKey: 'ca.crt',
      privateKey: 'ca.key',
      data: { 'ca.crt': ca.pem, 'ca.key': 'fixture: no key\n' },
    },
    annotations: {},
  })
}

function next(): NextCa {
  const ca = certificate('new-ca')
  return { root: ca, issuer: ca, chain: [], key: 'fixture: no key of new-ca\n' }
}
