import { createSecureContext, type SecureContext } from 'node:tls'
import type { Fingerprint, Instant } from '../rotation.ts'
import { certificatesIn, fingerprintOf } from './certificates.ts'
import type { VirtualClock } from './clock.ts'
import { type ConnectOptions, type Endpoint, type HandshakeResult, handshake } from './workload-tls.ts'

/** A live workload: server and client at once, with the material of its endpoint. */
export interface Party {
  /** `site/namespace/pod` */
  readonly id: string
  readonly site: string
  /** `namespace/kind/name` of its workload. */
  readonly owner: string
  readonly endpoint: Endpoint
  readonly trustDomain: string
  /** How it connects to another party; null: it never does. @default as in a mesh with SPIFFE identities, to every other party */
  connect?(server: Party): ConnectOptions | null
}

/** `workload` between parties; else what the system calls it: `istiod`, `webhook`. */
export type LinkKind = string

export interface HandshakeFailure {
  readonly at: Instant
  /** What the driver said was going on. */
  readonly phase: string
  readonly link: LinkKind
  readonly client: string
  readonly server: string
  /** SHA-256 of the leaf that the client presents; null where it presents none. */
  readonly clientLeaf: Fingerprint | null
  readonly clientTrusts: readonly Fingerprint[]
  readonly serverLeaf: Fingerprint
  /** Certificates that the server sends after its leaf. */
  readonly serverChain: readonly Fingerprint[]
  readonly serverTrusts: readonly Fingerprint[]
  /** OpenSSL's reason, with the side that gave it. */
  readonly error: string
  /** The plan had said that this link would break now. */
  readonly foretold: boolean
}

export interface HandshakeCounts {
  readonly attempted: number
  /** Failures that nobody had foretold. */
  readonly failed: number
  readonly foretold: number
}

interface Attempt {
  readonly link: LinkKind
  /** Who meets whom with what: equal where nothing that a handshake depends on has changed. */
  readonly mix: string
  readonly client: string
  readonly clientLeaf: Fingerprint | null
  readonly clientTrusts: readonly Fingerprint[]
  readonly server: string
  readonly endpoint: Endpoint
  readonly options: ConnectOptions
}

/** A check that a site adds to the common rounds: its proxies against istiod, its API server against the webhooks. */
export interface ControlLink {
  readonly link: LinkKind
  readonly client: string
  readonly server: string
  readonly endpoint: Endpoint
  /** PEM that the client verifies with; null: it takes every server. */
  readonly roots: string | null
  /** Null: it looks at no name. */
  readonly serverName: string | null
  /** What the client presents, PEM, leaf first. @default nothing */
  readonly identity?: { readonly chain: string; readonly key: string }
  /** @default h2 */
  readonly alpn?: string
}

interface KnownContext {
  readonly context: SecureContext
  readonly trusts: readonly Fingerprint[]
  readonly leaf: Fingerprint | null
}

const concurrency = 24
const busyInterval = 30_000
const longestInterval = 30 * 60_000
const settledAfter = 120_000
const keptFailures = 500

export interface HandshakeOptions {
  readonly crossSite: boolean
  readonly roundLimit: number
  /**
   * Whether a round tries again what has been tried and has not changed on either side. False: each round looks at all pairs and links, and tries those
   * that stand as they have never stood before. @default true
   */
  readonly repeats?: boolean
}

/** At most `limit` of a list: those of that turn, of which each begins where the one before ended. */
function inTurn<T>(list: readonly T[], turn: number, limit: number): readonly T[] {
  if (list.length <= limit) return list
  const start = (turn * limit) % list.length
  return [...list.slice(start), ...list.slice(0, start)].slice(0, limit)
}

/**
 * Handshakes between all pairs, all the time: at once for every pair of which one side changed, so that each mix that a roll-out
 * passes through is met; and in rounds over everything, close together while things move and further apart while nothing does.
 */
export class Handshakes {
  phase = 'start'
  /** Whether the plan says that this link breaks now. */
  foretells: (failure: HandshakeFailure) => boolean = () => false
  readonly failures: HandshakeFailure[] = []
  readonly #clock: VirtualClock
  readonly #crossSite: boolean
  /** Pairs and control links in one round; further ones take their turn in the next. */
  readonly #roundLimit: number
  readonly #repeats: boolean
  readonly #parties = new Map<string, Party>()
  readonly #controls: (() => readonly ControlLink[])[] = []
  readonly #contexts = new Map<string, KnownContext>()
  readonly #dirty = new Set<string>()
  readonly #byPhase = new Map<string, { attempted: number; failed: number; foretold: number }>()
  #met = new Set<string>()
  #controlsChanged = false
  #attempted = 0
  #failed = 0
  #foretold = 0
  #interval = busyInterval
  #lastChange = 0
  #turn = 0
  #enabled = false

  constructor(clock: VirtualClock, options: HandshakeOptions) {
    this.#clock = clock
    this.#crossSite = options.crossSite
    this.#roundLimit = options.roundLimit
    this.#repeats = options.repeats ?? true
    clock.onInstant(() => this.#meetChanged())
    this.#nextRound()
  }

  get counts(): HandshakeCounts {
    return { attempted: this.#attempted, failed: this.#failed, foretold: this.#foretold }
  }

  /** Counts by the label of the phase in which they were made, in the order of the phases. */
  get countsByPhase(): ReadonlyMap<string, HandshakeCounts> {
    return this.#byPhase
  }

  get parties(): readonly Party[] {
    return [...this.#parties.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** What everybody presents now: chains, PEM. */
  get presented(): readonly string[] {
    const links = this.#links()
    return [
      ...[...this.#parties.values()].map(({ endpoint }) => endpoint.material.chain),
      ...links.flatMap(({ identity, endpoint }) => [identity?.chain ?? '', endpoint.material.chain]),
    ]
  }

  /** Counting begins here: what a cluster does while it is first built up is nobody's rotation. */
  enable(): void {
    this.#enabled = true
  }

  join(party: Party): void {
    this.#parties.set(party.id, party)
    this.changed(party.id)
  }

  leave(id: string): void {
    this.#parties.delete(id)
    this.#dirty.delete(id)
    this.#moved()
  }

  /** A party has new material. */
  changed(id: string): void {
    if (!this.#parties.has(id)) return
    this.#dirty.add(id)
    this.#moved()
  }

  addControls(links: () => readonly ControlLink[]): void {
    this.#controls.push(links)
  }

  /** Material of istiod, of a projected root or of a caBundle changed. */
  controlChanged(): void {
    this.#controlsChanged = true
    this.#moved()
  }

  /** One handshake of a proxy that connects to istiod, which counts like all others. */
  async control(link: ControlLink): Promise<boolean> {
    return (await this.#attempt(this.#controlAttempt(link))).ok
  }

  /** Every ordered pair and every control link once; with a limit, as many of each, whose turn it is. */
  async round(limit = Number.POSITIVE_INFINITY): Promise<void> {
    if (!this.#repeats) {
      await this.#all(this.#unmet([...this.#pairs().flatMap(pair => pairAttempt(...pair)), ...this.#controlAttempts()]))
      return
    }
    const turn = this.#turn
    this.#turn += 1
    await this.#all([
      ...inTurn(this.#pairs(), turn, limit).flatMap(pair => pairAttempt(...pair)),
      ...inTurn(this.#links(), turn, limit).map(link => this.#controlAttempt(link)),
    ])
  }

  #moved(): void {
    this.#lastChange = this.#clock.millis()
    this.#interval = busyInterval
  }

  #nextRound(): void {
    // The interval is looked at often, so that a change shortens one that is under way.
    let waited = 0
    const look = (): void => {
      this.#clock.after(busyInterval, async () => {
        waited += busyInterval
        if (waited >= this.#interval) {
          waited = 0
          if (this.#enabled) await this.round(this.#roundLimit)
          const quiet = this.#clock.millis() - this.#lastChange
          if (quiet > settledAfter) this.#interval = Math.min(this.#interval * 2, longestInterval)
        }
        look()
      })
    }
    look()
  }

  async #meetChanged(): Promise<void> {
    if (!this.#enabled) return
    const attempts: Attempt[] = []
    if (this.#dirty.size > 0) {
      const dirty = new Set(this.#dirty)
      this.#dirty.clear()
      const moved = this.#pairs().filter(([client, server]) => dirty.has(client.id) || dirty.has(server.id))
      attempts.push(...moved.flatMap(pair => pairAttempt(...pair)))
    }
    if (this.#controlsChanged) {
      this.#controlsChanged = false
      attempts.push(...this.#controlAttempts())
    }
    await this.#all(this.#unmet(attempts))
  }

  /** Those that stand as they have never stood before. */
  #unmet(attempts: readonly Attempt[]): readonly Attempt[] {
    if (this.#met.size > 200_000) this.#met = new Set()
    return attempts.filter(({ mix }) => {
      const known = this.#met.has(mix)
      this.#met.add(mix)
      return !known
    })
  }

  #pairs(): [Party, Party][] {
    const parties = this.parties
    return parties.flatMap(client =>
      parties
        .filter(server => server !== client && (this.#crossSite || server.site === client.site))
        .filter(server => client.connect === undefined || client.connect(server) !== null)
        .map((server): [Party, Party] => [client, server]),
    )
  }

  #links(): ControlLink[] {
    return this.#controls.flatMap(links => links())
  }

  #controlAttempts(): readonly Attempt[] {
    return this.#links().map(link => this.#controlAttempt(link))
  }

  #controlAttempt(link: ControlLink): Attempt {
    const { context, trusts, leaf } = this.#contextOf(link)
    const { material } = link.endpoint
    const presented = link.identity?.chain ?? ''
    // A server that is shown no certificate verifies none.
    const verified = presented === '' ? '' : material.verifiesWith
    return {
      link: link.link,
      mix: `${link.link} ${link.client} ${presented} ${link.roots} ${link.server} ${link.serverName} ${material.presents} ${verified}`,
      client: link.client,
      clientLeaf: leaf,
      clientTrusts: trusts,
      server: link.server,
      endpoint: link.endpoint,
      options: {
        context,
        alpn: link.alpn ?? 'h2',
        serverName: link.serverName,
        trustDomain: '',
        ...(link.serverName === null ? { anyName: true } : {}),
        ...(link.roots === null ? { anyServer: true } : {}),
      },
    }
  }

  #contextOf({ roots, identity }: ControlLink): KnownContext {
    const key = `${roots ?? ''}\n${identity?.chain ?? ''}`
    const known = this.#contexts.get(key)
    if (known !== undefined) return known
    const certificates = certificatesIn(roots ?? '')
    const [leaf] = certificatesIn(identity?.chain ?? '')
    const made = {
      context: createSecureContext({
        ca: certificates,
        minVersion: 'TLSv1.3',
        ...(identity === undefined ? {} : { cert: identity.chain, key: identity.key }),
      }),
      trusts: [...new Set(certificates.map(fingerprintOf))].sort(),
      leaf: leaf === undefined ? null : fingerprintOf(leaf),
    }
    this.#contexts.set(key, made)
    return made
  }

  async #all(attempts: readonly Attempt[]): Promise<void> {
    let next = 0
    const lane = async (): Promise<void> => {
      for (;;) {
        const attempt = attempts[next++]
        if (attempt === undefined) return
        await this.#attempt(attempt)
      }
    }
    await Promise.all(Array.from({ length: Math.min(concurrency, attempts.length) }, lane))
  }

  async #attempt(attempt: Attempt): Promise<HandshakeResult> {
    const { material } = attempt.endpoint
    const result = await handshake(attempt.endpoint, attempt.options)
    if (!this.#enabled) return result
    const counts = this.#byPhase.get(this.phase) ?? { attempted: 0, failed: 0, foretold: 0 }
    this.#byPhase.set(this.phase, counts)
    counts.attempted += 1
    this.#attempted += 1
    if (result.ok) return result
    const seen = {
      at: this.#clock.instant(),
      phase: this.phase,
      link: attempt.link,
      client: attempt.client,
      server: attempt.server,
      clientLeaf: attempt.clientLeaf,
      clientTrusts: attempt.clientTrusts,
      serverLeaf: material.leaf,
      serverChain: certificatesIn(material.chain).slice(1).map(fingerprintOf),
      serverTrusts: material.trusts,
      error: result.error,
      foretold: false,
    }
    const foretold = this.foretells(seen)
    if (foretold) {
      counts.foretold += 1
      this.#foretold += 1
    } else {
      counts.failed += 1
      this.#failed += 1
    }
    if (this.failures.length < keptFailures) this.failures.push({ ...seen, foretold })
    return result
  }
}

/** Nothing where the two never meet. */
function pairAttempt(client: Party, server: Party): Attempt[] {
  const { material } = client.endpoint
  const mesh = { context: material.context, alpn: 'istio', serverName: null, trustDomain: server.trustDomain }
  const options = client.connect === undefined ? mesh : client.connect(server)
  if (options === null) return []
  return [
    {
      link: 'workload',
      mix: `${client.id} ${material.presents} ${material.verifiesWith} ${server.id} ${options.serverName} ${server.endpoint.material.presents} ${server.endpoint.material.verifiesWith}`,
      client: client.id,
      clientLeaf: material.leaf,
      clientTrusts: material.trusts,
      server: server.id,
      endpoint: server.endpoint,
      options,
    },
  ]
}
