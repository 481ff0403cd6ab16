import { createHash } from 'node:crypto'
import {
  type CassandraClusterFacts,
  operatorAnnotations,
  operatorLabels,
  readCassandraCluster,
  restartVariable,
  statefulSetName,
} from '../../systems/cassandra/cassandra-cluster.ts'
import { operatorChecksum } from '../../systems/cassandra/checksum.ts'
import type { CassandraCa } from '../../systems/cassandra/model.ts'
import type { Timer } from '../clock.ts'
import type { ControlLink } from '../handshakes.ts'
import { at, type Manifest, numberAt, type StoredObject, textAt, textsAt } from '../objects.ts'
import type { Site } from '../site.ts'
import { type NodeMaterial, nodeMaterial, operatorCa } from './certificates.ts'
import { type CassandraNode, cqlProtocol } from './node.ts'

const manager = 'manager'
/** Milliseconds from an event to the reconcile that it starts. An assumption: a controller's queue and a few reads. */
const lags = [500, 2_500] as const
/** A fully ready cluster is looked at again after a minute (controllers/controller.go), one that is not sooner. */
const requeue = { ready: 60_000, waiting: 10_000 } as const
const tenYears = 10 * 365 * 24

/** Volumes through which a node gets its material. */
export const nodeVolumes: Readonly<Record<CassandraCa, string>> = {
  server: 'cassandra-server-tls',
  client: 'cassandra-client-tls',
}

/**
 * IBM's Cassandra operator, as far as a CA Secret concerns it (mr-cassop, controllers/controller.go, cassandra_tls.go, cassandra_container.go).
 *
 * A changed Secret means a new key and certificate for all nodes of the region, then the annotation, then a new `POD_RESTART_CHECKSUM` in every
 * StatefulSet. Secrets are reconciled before the look at other regions, StatefulSets after it, so that a region that cannot be reached lets the
 * annotation match while nothing restarts.
 */
export class CassandraOperator {
  readonly #site: Site
  readonly #scheduled = new Map<string, { readonly timer: Timer; readonly at: number }>()
  readonly #running = new Set<string>()
  #clientFiles: { readonly chain: string; readonly key: string } | null = null
  readonly events: { readonly reason: string; readonly message: string }[] = []
  /** Set by tests: the prober of another region does not answer. */
  remoteRegionsDown = false
  /** Set by tests and faults: it is scaled to nothing, or hangs. */
  paused = false

  constructor(site: Site) {
    this.#site = site
    site.store.onChange(({ what, object }) => {
      if (object.kind === 'CassandraCluster' && what !== 'status' && what !== 'deleted') this.#soon(object)
      // Creations of a user's own Secret are not handled, and updates only where the annotation names a cluster (eventhandler/annotation_handler.go).
      if (object.kind === 'Secret' && what === 'changed') {
        const instance = object.metadata.annotations?.[operatorAnnotations.instance]
        const cluster = instance === undefined ? null : this.#cluster(object.metadata.namespace ?? '', instance)
        if (cluster !== null) this.#soon(cluster)
      }
      if (object.kind === 'StatefulSet') {
        const instance = object.metadata.labels?.[operatorLabels.instance]
        const cluster = instance === undefined ? null : this.#cluster(object.metadata.namespace ?? '', instance)
        if (cluster !== null) this.#soon(cluster)
      }
    })
  }

  /** Whether it has taken up every CA Secret and calls every cluster ready. */
  get settled(): boolean {
    const { store } = this.#site
    return (
      this.#running.size === 0 &&
      store.list('db.ibm.com', 'CassandraCluster').every(cluster => {
        const taken = encryptionOf(cluster).every(ca => {
          const facts = readCassandraCluster(cluster, ca, cluster.metadata.name)
          const secret = store.get('', 'Secret', facts.namespace, facts.secret)
          const seen = secret?.metadata.annotations?.[operatorAnnotations.checksum]
          return secret !== null && seen === operatorChecksum(decoded(secret))
        })
        return taken && at(cluster, 'status', 'ready') === true
      })
    )
  }

  #cluster(namespace: string, name: string): StoredObject | null {
    return this.#site.store.get('db.ibm.com', 'CassandraCluster', namespace, name)
  }

  #soon(cluster: StoredObject, delay?: number): void {
    const key = `${cluster.metadata.namespace}/${cluster.metadata.name}`
    const { clock, random } = this.#site
    const wait = delay ?? random.fork(`operator/${key}/${clock.elapsed()}`).between(...lags)
    const pending = this.#scheduled.get(key)
    if (pending !== undefined) {
      if (pending.at <= clock.millis() + wait) return
      pending.timer.cancel()
    }
    const timer = clock.after(wait, async () => {
      this.#scheduled.delete(key)
      if (this.#running.has(key)) {
        this.#soon(cluster)
        return
      }
      this.#running.add(key)
      try {
        const live = this.#cluster(cluster.metadata.namespace ?? '', cluster.metadata.name)
        if (live === null) return
        if (this.paused) {
          this.#soon(live, requeue.waiting)
          return
        }
        const ready = await this.#reconcile(live)
        this.#soon(live, ready ? requeue.ready : requeue.waiting)
      } finally {
        this.#running.delete(key)
      }
    })
    this.#scheduled.set(key, { timer, at: clock.millis() + wait })
  }

  async #reconcile(cluster: StoredObject): Promise<boolean> {
    const kinds = encryptionOf(cluster)
    const materials: Record<string, NodeMaterial> = {}
    for (const ca of kinds) {
      const facts = readCassandraCluster(cluster, ca, cluster.metadata.name)
      const material = await this.#nodeSecret(cluster, facts, ca)
      if (material === null) return this.#setReady(cluster, false)
      materials[ca] = material
      if (ca === 'client') this.#setClientFiles(material)
    }
    const [facts] = kinds.map(ca => readCassandraCluster(cluster, ca, cluster.metadata.name))
    if (facts === undefined) return this.#setReady(cluster, false)
    this.#helper(cluster, facts, kinds, 'prober', null)
    if (this.remoteRegionsDown) {
      this.#site.log('cassandra-operator', 'ErrRegionNotReady')
      return this.#setReady(cluster, false)
    }
    const restart = goMapChecksum({
      'cassandra.yaml': createHash('sha1')
        .update(JSON.stringify(at(cluster, 'spec', 'cassandra') ?? null))
        .digest('hex'),
      ...Object.fromEntries(
        Object.entries(materials).map(([ca, material]) => [
          ca === 'server' ? 'cluster-node-tls-secret' : 'client-node-tls-secret',
          operatorChecksum({ ...material }),
        ]),
      ),
    })
    for (const dc of facts.datacenters) this.#statefulSet(cluster, facts, dc, kinds, restart)
    const sets = facts.datacenters.map(dc =>
      this.#site.store.get('apps', 'StatefulSet', facts.namespace, statefulSetName(facts, dc.name)),
    )
    // readiness.go: counts, and nothing of revisions.
    const ready = sets.every(
      (set, index) => numberAt(set, 'status', 'readyReplicas') === facts.datacenters[index]?.replicas,
    )
    // Reaper speaks to nodes that serve, so it comes after them.
    if (ready) for (const dc of facts.datacenters) this.#helper(cluster, facts, kinds, 'reaper', dc.name)
    return this.#setReady(cluster, ready)
  }

  /** The nodes' material as it is or as it was made anew; null where the operator gives up for now. */
  async #nodeSecret(
    cluster: StoredObject,
    facts: CassandraClusterFacts,
    ca: CassandraCa,
  ): Promise<NodeMaterial | null> {
    const { store } = this.#site
    const secret = await this.#caSecret(cluster, facts, ca)
    const data = decoded(secret)
    const checksum = operatorChecksum(data)
    const node = store.get('', 'Secret', facts.namespace, facts.nodeSecret)
    const seen = secret.metadata.annotations?.[operatorAnnotations.checksum]
    if (node !== null && seen === checksum) return decoded(node) as unknown as NodeMaterial
    let material: NodeMaterial
    try {
      material = await nodeMaterial(data, facts, this.#site.life(1).notBefore)
    } catch (error) {
      this.#event('TLSSecretInvalid', error instanceof Error ? error.message : String(error))
      return null
    }
    store.put(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          name: facts.nodeSecret,
          namespace: facts.namespace,
          labels: labelsOf(facts),
          ownerReferences: owned(cluster),
        },
        type: 'Opaque',
        data: encoded({ ...material }),
      },
      manager,
    )
    // The first time nothing is written down, and the next look signs everything once more.
    if (node === null) return material
    const live = store.get('', 'Secret', facts.namespace, secret.metadata.name)
    if (live === null) return material
    store.update(live, manager, next => {
      next.metadata.annotations = {
        ...next.metadata.annotations,
        [operatorAnnotations.checksum]: checksum,
        [operatorAnnotations.instance]: facts.name,
      }
    })
    this.#site.log('cassandra-operator', `signed ${facts.nodeSecret} anew`)
    return material
  }

  /** setupClientTLSFiles: certificate and key of the nodes, for its own sessions. */
  #setClientFiles(material: NodeMaterial): void {
    if (this.#clientFiles?.chain === material['tls.crt']) return
    this.#clientFiles = { chain: material['tls.crt'], key: material['tls.key'] }
    this.#site.handshakes.controlChanged()
  }

  /** How it sees to roles and keyspaces by CQL; null: one of the two is not there. It verifies no node (cql.go: EnableHostVerification: false). */
  linkTo(node: CassandraNode): ControlLink | null {
    const endpoint = node.serving ? node.endpointOf('client') : null
    if (endpoint === null || this.#clientFiles === null || this.paused) return null
    return {
      link: 'operator',
      client: `${this.#site.name}/operator`,
      server: node.id,
      endpoint,
      roots: null,
      serverName: null,
      identity: this.#clientFiles,
      alpn: cqlProtocol,
    }
  }

  /** getTLSSecret: a named Secret that is not there is made up for, under the default name. */
  async #caSecret(cluster: StoredObject, facts: CassandraClusterFacts, ca: CassandraCa): Promise<StoredObject> {
    const { store } = this.#site
    const named = store.get('', 'Secret', facts.namespace, facts.secret)
    if (named !== null) return named
    if (textAt(cluster, 'spec', 'encryption', ca, 'caTLSSecret', 'name') !== undefined)
      this.#event('TLSSecretNotFound', `Secret ${facts.secret} not found`)
    const name = `${facts.name}-${ca === 'server' ? 'cluster' : 'client'}-tls-ca`
    const fallback = store.get('', 'Secret', facts.namespace, name)
    if (fallback !== null) return fallback
    const made = await operatorCa(this.#site.life(tenYears))
    return store.put(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, namespace: facts.namespace, labels: labelsOf(facts), ownerReferences: owned(cluster) },
        type: 'Opaque',
        data: encoded({ [facts.certificateKey]: made.certificate, [facts.privateKey]: made.key }),
      },
      manager,
    )
  }

  #event(reason: string, message: string): void {
    this.events.push({ reason, message })
    this.#site.log('cassandra-operator', `${reason}: ${message}`)
  }

  #setReady(cluster: StoredObject, ready: boolean): boolean {
    // A Go bool with omitempty: false is an absent field.
    this.#site.store.setStatus(cluster, manager, ready ? { ready: true } : {})
    return ready
  }

  #statefulSet(
    cluster: StoredObject,
    facts: CassandraClusterFacts,
    dc: { readonly name: string; readonly replicas: number },
    kinds: readonly CassandraCa[],
    restart: string,
  ): void {
    const name = statefulSetName(facts, dc.name)
    const labels = { ...labelsOf(facts), [operatorLabels.component]: 'cassandra', [operatorLabels.dc]: dc.name }
    const live = this.#site.store.get('apps', 'StatefulSet', facts.namespace, name)
    this.#site.store.put(
      {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name, namespace: facts.namespace, labels, ownerReferences: owned(cluster) },
        spec: {
          replicas: dc.replicas,
          serviceName: name,
          podManagementPolicy: 'Parallel',
          updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
          selector: { matchLabels: labels },
          template: {
            // What others have put into the template's annotations stays.
            metadata: { labels, annotations: textsAt(live, 'spec', 'template', 'metadata', 'annotations') },
            spec: {
              containers: [
                {
                  name: 'cassandra',
                  image: 'cassandra:3.11.13',
                  env: [{ name: restartVariable, value: restart }],
                },
              ],
              volumes: kinds.map(ca => ({
                name: nodeVolumes[ca],
                secret: { secretName: readCassandraCluster(cluster, ca, facts.name).nodeSecret },
              })),
            },
          },
        },
      },
      manager,
    )
  }

  /**
   * Path and password of its stores are arguments: nothing of their content, so it never restarts for a new CA (controllers/prober.go,
   * reaper_environment.go).
   */
  #helper(
    cluster: StoredObject,
    facts: CassandraClusterFacts,
    kinds: readonly CassandraCa[],
    component: 'prober' | 'reaper',
    dc: string | null,
  ): void {
    const name = `${facts.name}-cassandra-${dc === null ? '' : `${dc}-`}${component}`
    const labels = {
      ...labelsOf(facts),
      [operatorLabels.component]: component,
      ...(dc === null ? {} : { [operatorLabels.dc]: dc }),
    }
    const live = this.#site.store.get('apps', 'Deployment', facts.namespace, name)
    const manifest: Manifest = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace: facts.namespace, labels, ownerReferences: owned(cluster) },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels, annotations: textsAt(live, 'spec', 'template', 'metadata', 'annotations') },
          spec: {
            containers: [{ name: component, image: `${component}:latest` }],
            volumes: kinds.includes('client')
              ? [
                  {
                    name: nodeVolumes.client,
                    secret: { secretName: readCassandraCluster(cluster, 'client', facts.name).nodeSecret },
                  },
                ]
              : [],
          },
        },
      },
    }
    this.#site.store.put(manifest, manager)
  }
}

/** The CAs of which the operator signs leaves: those of encryption that is on, unless the user brings the leaves. */
export function encryptionOf(cluster: StoredObject): readonly CassandraCa[] {
  const server = textAt(cluster, 'spec', 'encryption', 'server', 'internodeEncryption') ?? 'none'
  const on: readonly CassandraCa[] = [
    ...(server === 'none' ? [] : (['server'] as const)),
    ...(at(cluster, 'spec', 'encryption', 'client', 'enabled') === true ? (['client'] as const) : []),
  ]
  return on.filter(ca => textAt(cluster, 'spec', 'encryption', ca, 'nodeTLSSecret', 'name') === undefined)
}

function labelsOf(facts: CassandraClusterFacts): Record<string, string> {
  return { [operatorLabels.instance]: facts.name }
}

function owned(cluster: StoredObject): NonNullable<StoredObject['metadata']['ownerReferences']> {
  const { name, uid } = cluster.metadata
  return [{ apiVersion: cluster.apiVersion, kind: cluster.kind, name, uid, controller: true }]
}

function decoded(secret: StoredObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(textsAt(secret, 'data')).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  )
}

function encoded(data: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]))
}

/** sha1 of a map of strings as Go prints it. */
function goMapChecksum(map: Readonly<Record<string, string>>): string {
  const text = Object.keys(map)
    .sort()
    .map(key => `${key}:${map[key]}`)
    .join(' ')
  return createHash('sha1').update(`map[${text}]`).digest('hex')
}
