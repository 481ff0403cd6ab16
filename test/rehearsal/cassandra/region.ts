import { parseAllDocuments } from 'yaml'
import type { Cluster } from '../../../src/cluster/cluster.ts'
import { type CaPair, scriptCa } from '../../../src/rehearsal/cassandra/certificates.ts'
import { cassandraFleet, demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import type { CassandraOperator } from '../../../src/rehearsal/cassandra/operator.ts'
import { CassandraRegion } from '../../../src/rehearsal/cassandra/region.ts'
import { createClock, seededRandom, type VirtualClock } from '../../../src/rehearsal/clock.ts'
import { readableCluster } from '../../../src/rehearsal/cluster.ts'
import { noFaults } from '../../../src/rehearsal/faults.ts'
import { Handshakes } from '../../../src/rehearsal/handshakes.ts'
import { Kubelets } from '../../../src/rehearsal/kubelet.ts'
import { type Manifest, ObjectStore, type StoredObject, textsAt } from '../../../src/rehearsal/objects.ts'
import { Workloads } from '../../../src/rehearsal/rollout.ts'
import type { Site } from '../../../src/rehearsal/site.ts'

export const second = 1_000
export const minute = 60 * second

export interface Region {
  readonly site: Site
  readonly clock: VirtualClock
  readonly store: ObjectStore
  readonly operator: CassandraOperator
  readonly workloads: Workloads
  /** What the verifier reads. */
  readonly cluster: Cluster
  readonly old: CaPair
  /** With client encryption: the CA of clients. */
  readonly clientCa: CaPair | null
  caSecret(): StoredObject
  nodeSecret(): Record<string, string>
  /** Applies the CA Secret's data as Flux does; `client`: that of the client CA. */
  deliver(data: Readonly<Record<string, string>>, which?: 'server' | 'client'): void
  pods(): readonly StoredObject[]
  run(milliseconds: number): Promise<void>
  settle(): Promise<void>
  close(): Promise<void>
}

/** One region with an API server, workloads and the operator, brought up with a CA that someone made with utils/tls.sh. */
export async function startRegion(
  options: {
    readonly ca?: CaPair
    readonly clientEncryption?: boolean
    readonly more?: Readonly<Record<string, string>>
  } = {},
): Promise<Region> {
  const clock = createClock(new Date('2026-11-22T08:00:00Z'))
  let identities = 0
  const store = new ObjectStore(clock, () => `uid-${++identities}`)
  const site: Site = {
    name: 'eu-1',
    clock,
    random: seededRandom('region'),
    store,
    faults: noFaults(),
    handshakes: new Handshakes(clock, { crossSite: false, roundLimit: 1 }),
    trustDomain: 'cluster.local',
    leafHours: 24,
    life: hours => ({
      notBefore: new Date(clock.millis() - 120_000),
      notAfter: new Date(Math.floor(clock.millis() / 1000) * 1000 + hours * 3_600_000),
    }),
    log: () => {},
  }
  const clientCa = options.clientEncryption === true ? await scriptCa('ca-client', site.life(10 * 365 * 24)) : null
  const parts = new CassandraRegion(site, {
    ca: which => (which === 'client' ? clientCa : null),
    outsiders: [],
    bringUp: async () => {},
  })
  const { operator } = parts
  const workloads = new Workloads(site, new Kubelets(site), parts)
  for (const name of ['kube-system', demoCluster.namespace])
    store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }, 'kubectl')
  const old = options.ca ?? (await scriptCa('ca', site.life(10 * 365 * 24)))
  store.put(secretManifest({ 'ca.crt': old.certificate, 'ca.key': old.key, ...options.more }), 'kubectl-create')
  const fleet = cassandraFleet({
    sites: ['eu-1'],
    ageRecipient: 'age1',
    scenario: options.clientEncryption === true ? 'client-ca' : 'server-ca',
  })
  for (const document of parseAllDocuments(fleet.get('databases/eu-1/cassandra.yaml') ?? ''))
    store.apply(document.toJS() as Manifest, 'kustomize-controller')

  const region: Region = {
    site,
    clock,
    store,
    operator,
    workloads,
    old,
    clientCa,
    cluster: readableCluster(site, workloads),
    caSecret: () => store.get('', 'Secret', demoCluster.namespace, demoCluster.secret) as StoredObject,
    nodeSecret() {
      const secret = store.get('', 'Secret', demoCluster.namespace, 'example-cluster-tls-node')
      return Object.fromEntries(
        Object.entries(textsAt(secret, 'data')).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
      )
    },
    deliver(data, which = 'server') {
      store.apply(secretManifest(data, which), 'kustomize-controller', { takeOver: /^(kubectl|before-first-apply)/ })
    },
    pods: () =>
      store
        .list('', 'Pod', demoCluster.namespace)
        .filter(pod => pod.metadata.labels?.['cassandra-cluster-component'] === 'cassandra'),
    run: milliseconds => clock.advance(milliseconds),
    async settle() {
      let quiet = 0
      for (let round = 0; round < 200 && quiet < 4; round += 1) {
        await clock.advance(30 * second)
        quiet = workloads.settled ? quiet + 1 : 0
      }
      if (quiet < 4) throw new Error('the region does not settle')
    },
    async close() {
      clock.stop()
      await workloads.close()
    },
  }
  await region.settle()
  return region
}

function secretManifest(data: Readonly<Record<string, string>>, which: 'server' | 'client' = 'server'): Manifest {
  const { namespace, secret, clientSecret } = demoCluster
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: which === 'server' ? secret : clientSecret, namespace },
    type: 'Opaque',
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
  }
}
