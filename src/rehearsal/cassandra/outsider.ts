import type { CassandraCa } from '../../systems/cassandra/model.ts'
import type { Life } from '../certificates.ts'
import type { ControlLink } from '../handshakes.ts'
import { type CaPair, type IdentityByHand, identityByHand } from './certificates.ts'
import { type CassandraNode, cqlProtocol, peerProtocol } from './node.ts'

/**
 * Whoever connects to nodes with a keystore and a truststore of its own: a service that speaks CQL, or a node of a region that no operator looks after
 * (`externalRegions.unmanaged`). No API shows either store: the owner changes both by hand, when somebody asks. In the one handshake each side
 * verifies the other, so that nodes need not connect back.
 */
export class Outsider {
  readonly name: string
  /** By which of a node's two CAs they meet. */
  readonly ca: CassandraCa
  readonly #changed: () => void
  #roots: string
  #identity: IdentityByHand

  private constructor(
    name: string,
    at: {
      readonly ca: CassandraCa
      readonly roots: string
      readonly identity: IdentityByHand
      readonly changed: () => void
    },
  ) {
    this.name = name
    this.ca = at.ca
    this.#roots = at.roots
    this.#identity = at.identity
    this.#changed = at.changed
  }

  static async make(name: string, { ca, pair, life, changed }: OutsiderParts): Promise<Outsider> {
    return new Outsider(name, {
      ca,
      roots: pair.certificate,
      identity: await identityByHand(name, pair, life),
      changed,
    })
  }

  /** Its owner puts another CA beside those that are in the truststore. */
  trust(certificate: string): void {
    if (this.#roots.includes(certificate.trim())) return
    this.#roots += certificate
    this.#changed()
  }

  /** Its owner has a certificate of this CA made for it, and presents that one from now on. */
  async present(ca: CaPair, life: Life): Promise<void> {
    this.#identity = await identityByHand(this.name, ca, life)
    this.#changed()
  }

  linkTo(node: CassandraNode): ControlLink | null {
    const endpoint = node.serving ? node.endpointOf(this.ca) : null
    if (endpoint === null) return null
    return {
      link: this.ca === 'client' ? 'cql' : 'unmanaged',
      client: this.name,
      server: node.id,
      endpoint,
      roots: this.#roots,
      serverName: null,
      identity: { chain: this.#identity.certificate, key: this.#identity.key },
      alpn: this.ca === 'client' ? cqlProtocol : peerProtocol,
    }
  }
}

export interface OutsiderParts {
  readonly ca: CassandraCa
  /** The CA that it trusts, and that signed what it presents. */
  readonly pair: CaPair
  readonly life: Life
  readonly changed: () => void
}
