import type { ControlLink } from '../handshakes.ts'
import type { VolumeFiles } from '../kubelet.ts'
import type { StoredObject } from '../objects.ts'
import { type PodProcess, podKey, type Site } from '../site.ts'
import type { Material } from '../workload-tls.ts'
import { type CassandraNode, cqlProtocol, storesIn } from './node.ts'

export interface HelperParts {
  readonly kind: 'prober' | 'reaper'
  readonly files: () => VolumeFiles
  readonly ready: () => void
  readonly changed: () => void
}

/**
 * A JVM that speaks JMX to nodes with the stores of the client CA: the prober, by which a node's readiness is told, or the reaper of a datacenter. It has path and
 * password of the stores as arguments and reads them at its start: the operator never restarts it for a new CA (mr-cassop
 * controllers/prober.go, reaper_environment.go).
 */
export class Helper implements PodProcess {
  readonly kind: HelperParts['kind']
  readonly #site: Site
  readonly #pod: StoredObject
  readonly #parts: HelperParts
  #stores: Material | null = null
  #up = false

  constructor(site: Site, pod: StoredObject, parts: HelperParts) {
    this.#site = site
    this.#pod = pod
    this.#parts = parts
    this.kind = parts.kind
  }

  /** It has started and not been told to end. */
  get up(): boolean {
    return this.#up
  }

  async start(): Promise<void> {
    this.#stores = storesIn(this.#parts.files())
    this.#up = true
    this.#parts.ready()
  }

  filesChanged(): void {}

  joined(): void {
    this.#parts.changed()
  }

  drain(): void {
    this.#up = false
    this.#parts.changed()
  }

  async stop(): Promise<void> {
    this.drain()
  }

  /** How it connects to a node by JMX; null: one of the two is not there. */
  linkTo(node: CassandraNode): ControlLink | null {
    const endpoint = node.endpointOf('client')
    if (endpoint === null || this.#stores === null || !this.#up) return null
    return {
      link: this.kind,
      client: `${this.#site.name}/${podKey(this.#pod)}`,
      server: node.id,
      endpoint,
      roots: this.#stores.roots,
      serverName: null,
      identity: { chain: this.#stores.chain, key: this.#stores.key },
      alpn: cqlProtocol,
    }
  }
}
