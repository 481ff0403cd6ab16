import { readCassandraCluster } from '../../systems/cassandra/cassandra-cluster.ts'
import type { CassandraCa } from '../../systems/cassandra/model.ts'
import { secretOf } from '../manifests.ts'
import { type ObjectStore, type StoredObject, textAt } from '../objects.ts'
import { podKey, type Site } from '../site.ts'
import type { PodMeans } from '../system.ts'
import type { CaPair } from './certificates.ts'
import { Helper } from './helper.ts'
import { CassandraNode } from './node.ts'
import { CassandraOperator, encryptionOf, nodeVolumes } from './operator.ts'
import type { Outsider } from './outsider.ts'

export interface RegionParts {
  /** The CA that someone made for all regions; asked for where a CassandraCluster names a Secret that is not there yet. */
  readonly ca: (which: CassandraCa) => CaPair | null
  /** Who connects to the nodes of every region. */
  readonly outsiders: readonly Outsider[]
  /** Brings up what the CassandraCluster names beside its own nodes, unless another region has. */
  readonly bringUp: (seeds: readonly string[]) => Promise<void>
}

/** What runs in one region for a CassandraCluster: the operator, the nodes, prober and reapers; and who reaches them from outside. */
export class CassandraRegion {
  readonly operator: CassandraOperator
  readonly outsiders: readonly Outsider[]
  readonly #site: Site
  readonly #nodes = new Map<string, CassandraNode>()
  readonly #helpers = new Map<string, Helper>()

  constructor(site: Site, parts: RegionParts) {
    this.#site = site
    this.outsiders = parts.outsiders
    // Before the operator hears of a cluster: else it would make CAs up.
    site.store.onChange(({ what, object }) => {
      if (what !== 'created' || object.kind !== 'CassandraCluster') return
      this.#provideCas(object, parts)
      const { unmanagedRegions } = readCassandraCluster(object, 'server', object.metadata.name)
      if (unmanagedRegions.length > 0) site.clock.after(0, () => parts.bringUp(unmanagedRegions))
    })
    this.operator = new CassandraOperator(site)
    site.handshakes.addControls(() => {
      const nodes = [...this.#nodes.values()]
      return nodes.flatMap(node =>
        [
          ...[...this.#helpers.values()].map(helper => (node.serving ? helper.linkTo(node) : null)),
          ...parts.outsiders.map(outsider => outsider.linkTo(node)),
          this.operator.linkTo(node),
        ].filter(link => link !== null),
      )
    })
    regionsByStore.set(site.store, this)
  }

  get nodes(): readonly CassandraNode[] {
    return [...this.#nodes.values()].filter(node => node.serving)
  }

  process(pod: StoredObject, { files, ready }: PodMeans): CassandraNode | Helper | null {
    const changed = (): void => this.#site.handshakes.controlChanged()
    const component = pod.metadata.labels?.['cassandra-cluster-component'] ?? ''
    const volume = (ca: CassandraCa) => () => files(nodeVolumes[ca])
    const mounted = (['server', 'client'] as const).filter(ca => mounts(pod, nodeVolumes[ca]))
    const client = mounted.includes('client')
    if (component === 'cassandra') {
      const node = new CassandraNode(this.#site, pod, {
        stores: Object.fromEntries(mounted.map(ca => [ca, volume(ca)])),
        ready,
        changed,
        ...(client ? { healthy: each => this.#healthy(each) } : {}),
      })
      this.#nodes.set(podKey(pod), node)
      return node
    }
    if ((component !== 'prober' && component !== 'reaper') || !client) return null
    const helper = new Helper(this.#site, pod, { kind: component, files: volume('client'), ready, changed })
    this.#helpers.set(podKey(pod), helper)
    return helper
  }

  /** The prober's look at a node by JMX, over TLS with the client CA: its verdict is the readiness probe (mr-cassop controllers/prober.go). */
  async #healthy(node: CassandraNode): Promise<boolean> {
    const prober = [...this.#helpers.values()].find(helper => helper.kind === 'prober' && helper.up)
    const link = prober?.linkTo(node) ?? null
    return link !== null && (await this.#site.handshakes.control(link))
  }

  /** Someone made the CA Secrets by hand with utils/tls.sh, under the names that the CassandraCluster gives. */
  #provideCas(cluster: StoredObject, { ca }: RegionParts): void {
    for (const which of encryptionOf(cluster)) {
      // Of a Secret that is not named the operator makes its own.
      if (textAt(cluster, 'spec', 'encryption', which, 'caTLSSecret', 'name') === undefined) continue
      const { namespace, secret, certificateKey, privateKey } = readCassandraCluster(
        cluster,
        which,
        cluster.metadata.name,
      )
      const pair = ca(which)
      if (pair === null || this.#site.store.get('', 'Secret', namespace, secret) !== null) continue
      this.#site.store.put(
        secretOf(secret, namespace, { [certificateKey]: pair.certificate, [privateKey]: pair.key }),
        'kubectl-create',
      )
    }
  }
}

const regionsByStore = new WeakMap<ObjectStore, CassandraRegion>()

/** The Cassandra of a rehearsal's region. */
export function cassandraRegionOf(store: ObjectStore): CassandraRegion {
  const found = regionsByStore.get(store)
  if (found === undefined) throw new Error('no Cassandra runs in this region')
  return found
}

function mounts(pod: StoredObject, volume: string): boolean {
  const volumes = (pod.spec as { readonly volumes?: readonly { readonly name?: string }[] } | undefined)?.volumes
  return volumes?.some(({ name }) => name === volume) === true
}
