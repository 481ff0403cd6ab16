import type { ControlLink } from '../handshakes.ts'
import type { Site } from '../site.ts'
import type { LinkerdPod } from './proxy.ts'

/** Names of the proxies of all sites, by party: a client knows whom it connects to from the destination service. */
const names = new WeakMap<object, Map<string, string>>()

/** The meshed pods of one site that run, and the links between them and identity. */
export class LinkerdPlane {
  readonly #pods = new Set<LinkerdPod>()
  readonly #names: Map<string, string>

  constructor(site: Site) {
    const shared = names.get(site.handshakes) ?? new Map<string, string>()
    names.set(site.handshakes, shared)
    this.#names = shared
    site.handshakes.addControls(() => this.#links())
  }

  get pods(): readonly LinkerdPod[] {
    return [...this.#pods].filter(pod => pod.running)
  }

  /** Replicas of identity that answer. */
  get identities(): readonly LinkerdPod[] {
    return this.pods.filter(pod => pod.identity !== null && pod.authority !== null)
  }

  get injectors(): readonly LinkerdPod[] {
    return this.pods.filter(pod => pod.injects && pod.endpoint !== null)
  }

  add(pod: LinkerdPod): void {
    this.#pods.add(pod)
    this.#names.set(pod.id, pod.name)
  }

  remove(pod: LinkerdPod): void {
    this.#pods.delete(pod)
  }

  nameOf(party: string): string | null {
    return this.#names.get(party) ?? null
  }

  /** Every proxy against every replica of identity, whose leaf it verifies when it asks for its own. */
  #links(): readonly ControlLink[] {
    const replicas = this.identities
    return this.pods.flatMap(pod =>
      pod.identity !== null || pod.endpoint === null
        ? []
        : replicas.flatMap(replica =>
            replica.authority === null
              ? []
              : [
                  {
                    link: 'identity',
                    client: pod.id,
                    server: replica.id,
                    endpoint: replica.authority,
                    roots: pod.anchors,
                    serverName: replica.name,
                  },
                ],
          ),
    )
  }
}
