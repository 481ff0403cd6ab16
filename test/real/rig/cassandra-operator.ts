import { createHash } from 'node:crypto'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { cassandraNames } from './cassandra-fleet.ts'
import { output, program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest, Place } from './objects.ts'
import { keepsAddress } from './pod.ts'

/**
 * Stand-in for IBM's Cassandra operator, which cannot be had as a Go module (mr-cassop controllers/cassandra_tls.go, cassandra_container.go): of a changed
 * CA Secret it makes a new key and certificate for all nodes of the region and stores of every CA in it, by the library that the operator has; then it writes
 * the Secret's checksum into an annotation, and then a new POD_RESTART_CHECKSUM into each StatefulSet, which restarts all nodes one by one.
 */
export interface CassandraOperator {
  /** While held it does nothing, as one that is scaled to nothing. */
  hold(held: boolean): void
  stop(): Promise<void>
}

export interface CassandraOperatorOptions {
  readonly region: string
  /** Addresses that nodes of all regions ask first. */
  readonly seeds: readonly string[]
}

interface DataSecret extends Manifest {
  readonly data?: Readonly<Record<string, string>>
}

const { cluster, namespace } = cassandraNames
const encryptions = [
  { ca: cassandraNames.serverCa, node: `${cluster}-cluster-tls-node`, volume: 'cassandra-server-tls' },
  { ca: cassandraNames.clientCa, node: `${cluster}-client-tls-node`, volume: 'cassandra-client-tls' },
] as const
const checksumAnnotation = 'cassandra-cluster-checksum'
/** A real one looks again after a minute, and at once only at Secrets that it has annotated before. */
const pause = 1000

/** `fmt.Sprintf("%v", data)` of a Go map of bytes: sorted keys, bytes in decimal. */
function goMapText(data: Readonly<Record<string, string>>): string {
  const entries = Object.keys(data)
    .sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
    .map(key => `${key}:[${[...Buffer.from(data[key] ?? '', 'base64')].join(' ')}]`)
  return `map[${entries.join(' ')}]`
}

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex')

export async function startCassandraOperator(
  plane: ControlPlane,
  options: CassandraOperatorOptions,
): Promise<CassandraOperator> {
  const { objects } = plane
  const log = join(plane.folder, 'log', 'cassandra-operator.log')
  const signer = await program('cassandra-rig')
  const place: Place = { apiVersion: 'db.ibm.com/v1alpha1', kind: 'CassandraCluster', namespace, name: cluster }
  const secretPlace = (name: string): Place => ({ apiVersion: 'v1', kind: 'Secret', namespace, name })
  let held = false
  let stopped = false

  /** The nodes' Secret of one of the two CAs, made anew where the CA Secret is not what was taken up last. */
  async function nodeSecret(ca: string, node: string): Promise<DataSecret> {
    const secret = (await objects.get(secretPlace(ca))) as DataSecret | null
    // A real one makes a CA up here (getTLSSecret, allowDefaulting): no test of this rig may come to that.
    if (secret === null) throw new Error(`TLSSecretNotFound: ${ca}`)
    const data = secret.data ?? {}
    const checksum = sha1(goMapText(data))
    const annotations = (secret.metadata.annotations ?? {}) as Readonly<Record<string, string>>
    const there = (await objects.get(secretPlace(node))) as DataSecret | null
    if (there !== null && annotations[checksumAnnotation] === checksum) return there
    const asked = JSON.stringify({ data, certificate: 'ca.crt', key: 'ca.key' })
    const made = JSON.parse(await output(signer, ['sign'], { input: asked })) as Readonly<Record<string, string>>
    const manifest: DataSecret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: node, namespace, labels: { 'cassandra-cluster-instance': cluster } },
      type: 'Opaque',
      data: made,
    }
    await objects.apply(manifest, 'manager')
    await objects.merge(secretPlace(ca), {
      metadata: { annotations: { [checksumAnnotation]: checksum, 'cassandra-cluster-instance': cluster } },
    })
    await appendFile(log, `${new Date().toISOString()} signed ${node} anew\n`)
    return manifest
  }

  async function reconcile(): Promise<void> {
    const found = await objects.get(place)
    if (found === null) return
    const { dcs } = found.spec as { readonly dcs: readonly { readonly name: string; readonly replicas: number }[] }
    const nodes: Record<string, DataSecret> = {}
    for (const { ca, node } of encryptions) nodes[node] = await nodeSecret(ca, node)
    const restart = sha1(
      Object.entries(nodes)
        .map(([name, { data = {} }]) => `${name}=${sha1(goMapText(data))}`)
        .join(),
    )
    let ready = true
    for (const dc of dcs) {
      await objects.apply(configuration(dc.name, options.seeds), 'manager')
      await objects.apply(statefulSet(dc, restart, options.region, plane.folder), 'manager')
      const set = await objects.get({
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        namespace,
        name: `${cluster}-cassandra-${dc.name}`,
      })
      // readiness.go: counts, and nothing of revisions.
      const { readyReplicas = 0 } = (set?.status ?? {}) as { readonly readyReplicas?: number }
      ready &&= readyReplicas === dc.replicas
    }
    const { ready: told = false } = (found.status ?? {}) as { readonly ready?: boolean }
    // A Go bool with omitempty: false is an absent field.
    if (told !== ready) await objects.mergeStatus(place, { ready: ready ? true : null })
  }

  async function run(): Promise<void> {
    while (!stopped) {
      if (!held) {
        await reconcile().catch(async cause => {
          await appendFile(log, `${new Date().toISOString()} ${String(cause)}\n`).catch(() => {})
        })
      }
      await sleep(pause)
    }
  }
  const running = run()

  return {
    hold(value) {
      held = value
    },
    async stop() {
      stopped = true
      await running
    },
  }
}

function labelsOf(dc: string): Readonly<Record<string, string>> {
  return {
    'cassandra-cluster-instance': cluster,
    'cassandra-cluster-component': 'cassandra',
    'cassandra-cluster-dc': dc,
  }
}

function storesOf(volume: string): Readonly<Record<string, unknown>> {
  return {
    keystore: `/etc/${volume}/keystore.p12`,
    keystore_password: 'cassandra',
    truststore: `/etc/${volume}/truststore.p12`,
    truststore_password: 'cassandra',
    store_type: 'PKCS12',
    protocol: 'TLS',
    algorithm: 'SunX509',
    require_client_auth: true,
  }
}

/** As the operator has it: nodes listen on the pod's address, with TLS between all of them, and CQL listens on every address. */
function configuration(dc: string, seeds: readonly string[]): Manifest {
  const yaml = stringify({
    cluster_name: cluster,
    num_tokens: 4,
    auto_bootstrap: false,
    partitioner: 'org.apache.cassandra.dht.Murmur3Partitioner',
    commitlog_sync: 'periodic',
    commitlog_sync_period: '10000ms',
    endpoint_snitch: 'GossipingPropertyFileSnitch',
    listen_interface: 'eth0',
    rpc_interface: 'eth0',
    // 3.11 has a port of its own for TLS; 5.0 has one for both.
    storage_port: 7001,
    ssl_storage_port: 7001,
    native_transport_port: 9042,
    start_native_transport: true,
    hinted_handoff_enabled: true,
    // A machine that does other work too is no reason to call a node down.
    phi_convict_threshold: 16,
    read_request_timeout: '12s',
    write_request_timeout: '12s',
    request_timeout: '12s',
    concurrent_reads: 8,
    concurrent_writes: 8,
    memtable_heap_space: '64MiB',
    file_cache_size: '16MiB',
    seed_provider: [
      { class_name: 'org.apache.cassandra.locator.SimpleSeedProvider', parameters: [{ seeds: seeds.join(',') }] },
    ],
    server_encryption_options: { internode_encryption: 'all', ...storesOf('cassandra-server-tls') },
    client_encryption_options: { enabled: true, ...storesOf('cassandra-client-tls') },
  })
  const logback = `<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601, UTC} %-5level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
`
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: `${cluster}-cassandra-${dc}-config`, namespace, labels: labelsOf(dc) },
    data: { 'cassandra.yaml': yaml, 'cassandra-rackdc.properties': `dc=${dc}\nrack=r1\n`, 'logback.xml': logback },
  }
}

function statefulSet(
  dc: { readonly name: string; readonly replicas: number },
  restart: string,
  region: string,
  folder: string,
): Manifest {
  const name = `${cluster}-cassandra-${dc.name}`
  const probe = { exec: { command: ['/usr/local/bin/cassandra-rig', 'ready', '9042'] }, timeoutSeconds: 20 }
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name, namespace, labels: labelsOf(dc.name) },
    spec: {
      replicas: dc.replicas,
      serviceName: name,
      podManagementPolicy: 'Parallel',
      // The operator's prober calls a node ready when others see it too; here the next one waits for as long as gossip takes.
      minReadySeconds: 8,
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      selector: { matchLabels: labelsOf(dc.name) },
      template: {
        metadata: { labels: labelsOf(dc.name), annotations: { [keepsAddress]: region } },
        spec: {
          terminationGracePeriodSeconds: 60,
          containers: [
            {
              name: 'cassandra',
              image: 'rig/cassandra',
              env: [
                { name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
                { name: 'POD_RESTART_CHECKSUM', value: restart },
              ],
              ports: [
                { name: 'tls', containerPort: 7001 },
                { name: 'cql', containerPort: 9042 },
              ],
              startupProbe: { ...probe, periodSeconds: 2, failureThreshold: 300 },
              readinessProbe: { ...probe, periodSeconds: 5 },
              volumeMounts: [
                { name: 'config', mountPath: '/etc/cassandra' },
                { name: 'data', mountPath: '/var/lib/cassandra', subPathExpr: '$(POD_NAME)' },
                ...encryptions.map(({ volume }) => ({ name: volume, mountPath: `/etc/${volume}` })),
              ],
            },
          ],
          volumes: [
            { name: 'config', configMap: { name: `${name}-config` } },
            { name: 'data', hostPath: { path: join(folder, 'cassandra') } },
            ...encryptions.map(({ node, volume }) => ({ name: volume, secret: { secretName: node } })),
          ],
        },
      },
    },
  }
}
