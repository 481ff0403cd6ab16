import type { Life } from '../certificates.ts'
import type { ControlLink } from '../handshakes.ts'
import { type CaPair, type ClientIdentity, clientIdentity } from './certificates.ts'
import { type CassandraNode, cqlProtocol } from './node.ts'

/**
 * A service that speaks CQL to the cluster with a keystore and a truststore of its own. No API shows either: its owner changes both by hand, when
 * somebody asks.
 */
export class CqlClient {
  readonly name: string
  readonly #changed: () => void
  #roots: string
  #identity: ClientIdentity

  constructor(name: string, ca: CaPair, identity: ClientIdentity, changed: () => void) {
    this.name = name
    this.#roots = ca.certificate
    this.#identity = identity
    this.#changed = changed
  }

  /** Its owner puts another CA beside those that are in the truststore. */
  trust(certificate: string): void {
    if (this.#roots.includes(certificate.trim())) return
    this.#roots += certificate
    this.#changed()
  }

  /** Its owner has a certificate of this CA made for it, and presents that one from now on. */
  async present(ca: CaPair, life: Life): Promise<void> {
    this.#identity = await clientIdentity(this.name, ca, life)
    this.#changed()
  }

  linkTo(node: CassandraNode): ControlLink | null {
    const endpoint = node.serving ? node.clientEndpoint : null
    if (endpoint === null) return null
    return {
      link: 'cql',
      client: `clients/${this.name}`,
      server: node.id,
      endpoint,
      roots: this.#roots,
      serverName: null,
      identity: { chain: this.#identity.certificate, key: this.#identity.key },
      alpn: cqlProtocol,
    }
  }
}
