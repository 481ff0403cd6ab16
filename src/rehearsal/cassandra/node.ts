import type { CassandraCa } from '../../systems/cassandra/model.ts'
import { tlsPorts } from '../../systems/cassandra/model.ts'
import type { VolumeFiles } from '../kubelet.ts'
import type { StoredObject } from '../objects.ts'
import { ownerOf, type PodProcess, podKey, type Site } from '../site.ts'
import { Endpoint, loadMaterial, type Material } from '../workload-tls.ts'

export interface NodeParts {
  /** Keystore and truststore of each CA whose TLS the node speaks; the server's or the client's alone, or both. */
  readonly stores: Readonly<Partial<Record<CassandraCa, () => VolumeFiles>>>
  readonly ready: () => void
  /** Whether the prober of the region reaches the node by JMX: its answer is the readiness probe. @default it does */
  readonly healthy?: (node: CassandraNode) => Promise<boolean>
  /** Clients may connect from now on, or no longer. */
  readonly changed?: () => void
}

/** How often the kubelet asks the prober for a node's health. */
const probePeriod = 10_000

/**
 * One Cassandra node: to its peers a TLS server and client that presents its keystore and verifies with its truststore, both ways; to CQL clients,
 * and by JMX to prober and reaper, a TLS server with the stores of the client CA.
 *
 * It reads both at its start and never again: Cassandra 3.11 has no reload. That kubelet changes the files under a running node therefore
 * changes nothing, and a node that has not restarted trusts what it trusted.
 */
export class CassandraNode implements PodProcess {
  /** Milliseconds until a node of little data serves. An assumption. */
  readonly startLag = [15_000, 40_000] as const
  readonly id: string
  readonly #site: Site
  readonly #parts: NodeParts
  readonly #pod: StoredObject
  readonly #endpoints = new Map<CassandraCa, Endpoint>()
  #serving = false
  #draining = false

  constructor(site: Site, pod: StoredObject, parts: NodeParts) {
    this.#site = site
    this.#pod = pod
    this.#parts = parts
    this.id = `${site.name}/${podKey(pod)}`
  }

  endpointAt(port: number): Endpoint | null {
    for (const [ca, endpoint] of this.#endpoints) if (tlsPorts[ca] === port) return endpoint
    return null
  }

  /** Where peers, or CQL and JMX, are answered; present from the start on, before the node is ready. */
  endpointOf(ca: CassandraCa): Endpoint | null {
    return this.#draining ? null : (this.#endpoints.get(ca) ?? null)
  }

  /** Clients send it queries. */
  get serving(): boolean {
    return this.#serving
  }

  async start(): Promise<void> {
    const { server, client } = this.#parts.stores
    if (server !== undefined)
      this.#endpoints.set('server', await Endpoint.listen(loadMaterial(storesIn(server())), 'required'))
    if (client !== undefined)
      this.#endpoints.set('client', await Endpoint.listen(loadMaterial(storesIn(client())), 'required', cqlProtocol))
    await this.#probe()
  }

  /** The readiness probe asks the prober, and it asks the node: who is not reached stays out until it is. */
  async #probe(): Promise<void> {
    if (this.#draining) return
    if (this.#parts.healthy === undefined || (await this.#parts.healthy(this))) {
      this.#parts.ready()
      return
    }
    this.#site.clock.after(probePeriod, () => this.#probe())
  }

  filesChanged(): void {}

  /** The pod is Ready: peers and clients connect to it from now on. */
  joined(): void {
    if (this.#draining) return
    this.#serving = true
    this.#parts.changed?.()
    const endpoint = this.#endpoints.get('server')
    if (endpoint === undefined) return
    this.#site.handshakes.join({
      id: this.id,
      site: this.#site.name,
      owner: ownerOf(this.#site.store, this.#pod),
      endpoint,
      trustDomain: '',
      // `requireEndpointVerification` is false by default: no name is looked at, in either direction.
      connect: () => ({
        context: endpoint.material.context,
        alpn: peerProtocol,
        serverName: null,
        trustDomain: '',
        anyName: true,
      }),
    })
  }

  drain(): void {
    this.#draining = true
    this.#serving = false
    this.#site.handshakes.leave(this.id)
    this.#parts.changed?.()
  }

  async stop(): Promise<void> {
    this.drain()
    const open = [...this.#endpoints.values()]
    this.#endpoints.clear()
    await Promise.all(open.map(endpoint => endpoint.close()))
  }
}

/** What endpoints of the rehearsal take for a protocol; Cassandra itself asks for none. */
export const peerProtocol = 'istio'
export const cqlProtocol = 'h2'

/** What a process reads of a volume with the nodes' Secret. */
export function storesIn(files: VolumeFiles): Material {
  return {
    chain: files['keystore.p12'] ?? '',
    key: files['tls.key'] ?? '',
    roots: files['truststore.p12'] ?? '',
  }
}
