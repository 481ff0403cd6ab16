import type { VolumeFiles } from '../kubelet.ts'
import type { StoredObject } from '../objects.ts'
import { ownerOf, type PodProcess, podKey, type Site } from '../site.ts'
import { Endpoint, loadMaterial } from '../workload-tls.ts'

/**
 * One Cassandra node, as its peers see it: a TLS server and client that presents its keystore and verifies with its truststore, both ways.
 *
 * It reads both at its start and never again: Cassandra 3.11 has no reload. That kubelet changes the files under a running node therefore
 * changes nothing, and a node that has not restarted trusts what it trusted.
 */
export class CassandraNode implements PodProcess {
  /** Milliseconds until a node of little data serves. An assumption. */
  readonly startLag = [15_000, 40_000] as const
  readonly #site: Site
  readonly #files: () => VolumeFiles
  readonly #ready: () => void
  readonly #pod: StoredObject
  readonly #id: string
  #endpoint: Endpoint | null = null
  #draining = false

  constructor(site: Site, pod: StoredObject, files: () => VolumeFiles, ready: () => void) {
    this.#site = site
    this.#pod = pod
    this.#files = files
    this.#ready = ready
    this.#id = `${site.name}/${podKey(pod)}`
  }

  /** `ssl_storage_port`, on which nodes speak to one another. */
  endpointAt(port: number): Endpoint | null {
    return port === 7001 ? this.#endpoint : null
  }

  async start(): Promise<void> {
    const files = this.#files()
    const material = loadMaterial({
      chain: files['keystore.p12'] ?? '',
      key: files['tls.key'] ?? '',
      roots: files['truststore.p12'] ?? '',
    })
    this.#endpoint = await Endpoint.listen(material, 'required')
    this.#ready()
  }

  filesChanged(): void {}

  /** The pod is Ready: peers connect to it from now on. */
  joined(): void {
    const endpoint = this.#endpoint
    if (endpoint === null || this.#draining) return
    this.#site.handshakes.join({
      id: this.#id,
      site: this.#site.name,
      owner: ownerOf(this.#site.store, this.#pod),
      endpoint,
      trustDomain: '',
      // `requireEndpointVerification` is false by default: no name is looked at, in either direction.
      connect: () => ({
        context: endpoint.material.context,
        alpn: 'istio',
        serverName: null,
        trustDomain: '',
        anyName: true,
      }),
    })
  }

  drain(): void {
    this.#draining = true
    this.#site.handshakes.leave(this.#id)
  }

  async stop(): Promise<void> {
    this.drain()
    const endpoint = this.#endpoint
    this.#endpoint = null
    await endpoint?.close()
  }
}
