import { X509Certificate } from 'node:crypto'
import { certificatesIn } from '../certificates.ts'
import type { Timer } from '../clock.ts'
import type { VolumeFiles } from '../kubelet.ts'
import { type StoredObject, textAt } from '../objects.ts'
import { goBool, instantAt, ownerOf, type PodProcess, podKey, type Site } from '../site.ts'
import { Endpoint, loadMaterial } from '../workload-tls.ts'
import type { ControlPlane, Istiod, SignedLeaf, Subscriber } from './istiod.ts'
import { environmentOf } from './istiod.ts'
import { istioNamespace } from './names.ts'

export type ProxyKind = 'sidecar' | 'router' | 'waypoint' | 'ztunnel'

/** Volume through which a proxy gets istio-ca-root-cert. */
export const rootVolume = 'istiod-ca-cert'

// istiod closes a connection after this long (keepaliveMaxServerConnectionAge), which makes agents verify it anew.
const connectionAge = 30 * 60_000
/** Milliseconds between two looks at whether an agent that hangs still does. */
const hung = 60_000
// Envoy's: doubles from 0.5 s to 30 s, and waits for anything up to that. A proxy whose root file was stale came back 14 to 22 s after it was right.
const backOff = { first: 500, longest: 30_000 } as const
/**
 * Milliseconds, as measured with the real pilot-agent and Envoy: connected again 0.5 to 7.8 s after a roll-out of istiod; a new leaf at the
 * moment of the push, 0.35 s after istiod's files have changed.
 */
const lags = { connect: [100, 300], reconnect: [300, 7_500], leaf: [30, 80] } as const

/**
 * pilot-agent with its Envoy, or a ztunnel: takes a leaf from istiod and decides what to trust.
 *
 * istio/istio security/pkg/nodeagent/cache/secretcache.go: ROOTCA is the union of the roots of the last CSR answer and of the
 * bundle that istiod pushed (PCDS), without repeats, sorted by text. A pushed bundle whose bytes differ from the last one drops the
 * leaf and asks for a new one at once; one that is equal does nothing. Otherwise a leaf is renewed at half of its life.
 * A ztunnel knows no push: roots and issuer come with its next renewal or restart (istio/ztunnel src/tls/certificate.rs).
 */
export class Agent implements PodProcess, Subscriber {
  readonly pod: StoredObject
  readonly subscribed: boolean
  readonly proxyType: ProxyKind
  readonly identity: string
  readonly #site: Site
  readonly #plane: ControlPlane
  readonly #files: () => VolumeFiles
  readonly #ready: () => void
  readonly #owner: string
  readonly #partyId: string
  #endpoint: Endpoint | null = null
  #leaf: SignedLeaf | null = null
  #bundle: string | null = null
  /** Of the second entry. */
  #otherRoots = ''
  #replica: Istiod | null = null
  /** The replica that the CA channel is open to, and until when that one lets it be. */
  #authority: Istiod | null = null
  #authorityEnds = 0
  #renewal: Timer | null = null
  #aging: Timer | null = null
  #requesting = false
  #again = false
  #attempt = 0
  #draws = 0
  #stopped = false
  #draining = false
  /** What an agent that hangs has not done yet; null: nothing, or it does not hang. */
  #missed: { bundle: string | null } | null = null
  #updated = { leaf: '', roots: '' }
  #version = 0

  constructor(site: Site, plane: ControlPlane, pod: StoredObject, files: () => VolumeFiles, ready: () => void) {
    this.#site = site
    this.#plane = plane
    this.pod = pod
    this.#files = files
    this.#ready = ready
    this.#owner = ownerOf(site.store, pod)
    this.#partyId = `${site.name}/${podKey(pod)}`
    this.proxyType = proxyKindOf(pod)
    this.subscribed = this.proxyType !== 'ztunnel' && goBool(environmentOf(pod, 'istio-proxy').PROXY_CONFIG_XDS_AGENT)
    const account = textAt(pod, 'spec', 'serviceAccountName') ?? 'default'
    this.identity = `spiffe://${site.trustDomain}/ns/${pod.metadata.namespace}/sa/${account}`
  }

  get endpoint(): Endpoint | null {
    return this.#endpoint
  }

  /** The projected istio-ca-root-cert, with which this proxy verifies istiod. */
  get projectedRoots(): string {
    return this.#files()['root-cert.pem'] ?? ''
  }

  get running(): boolean {
    return !this.#stopped && !this.#draining
  }

  async start(): Promise<void> {
    this.#site.clock.after(this.#between(...lags.connect), () => this.#connect())
  }

  filesChanged(volume: string): void {
    if (volume === rootVolume) this.#site.handshakes.controlChanged()
  }

  drain(): void {
    this.#draining = true
    this.#site.handshakes.leave(this.#partyId)
  }

  async stop(): Promise<void> {
    this.drain()
    this.#stopped = true
    this.#renewal?.cancel()
    this.#aging?.cancel()
    this.#replica?.unsubscribe(this)
    this.#replica = null
    const endpoint = this.#endpoint
    this.#endpoint = null
    await endpoint?.close()
  }

  /** istiod pushed its bundle. */
  pushBundle(bundle: string): void {
    if (!this.running || this.#hangs(bundle) || bundle === this.#bundle) return
    this.#bundle = bundle
    if (this.#leaf === null) {
      void this.#site.clock.after(this.#between(...lags.leaf), () => this.#requestLeaf())
      return
    }
    this.#updated.roots = instantAt(this.#site, this.pod)
    this.#version += 1
    this.#site.clock.after(0, async () => {
      await this.#present()
    })
    this.#site.clock.after(this.#between(...lags.leaf), () => this.#requestLeaf())
  }

  disconnected(): void {
    this.#replica = null
    this.#aging?.cancel()
    if (!this.running || this.#hangs()) return
    this.#site.clock.after(this.#between(...lags.reconnect), () => this.#connect())
  }

  /**
   * Envoy's /config_dump, as far as secrets go: one entry for each SDS configuration that uses one. That is one, and two where a metrics
   * port of its own is set, whose streams istiod answers each by itself.
   */
  configDump(): unknown {
    const secret = (name: string, updated: string, body: Record<string, unknown>): unknown => ({
      name,
      version_info: String(this.#version),
      last_updated: updated === '' ? this.pod.metadata.creationTimestamp : `${updated.slice(0, -1)}.000Z`,
      secret: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret', name, ...body },
    })
    const bytes = (text: string): { inline_bytes: string } => ({ inline_bytes: Buffer.from(text).toString('base64') })
    const entries = (chain: string, roots: string): unknown[] => [
      secret('default', this.#updated.leaf, {
        tls_certificate: { certificate_chain: bytes(chain), private_key: bytes('[redacted]') },
      }),
      secret('ROOTCA', this.#updated.roots, { validation_context: { trusted_ca: bytes(roots) } }),
    ]
    const material = this.#leaf === null ? null : (this.#endpoint?.material ?? null)
    const split = this.#site.faults.splitEntries.has(this.#owner)
    const twice = split || environmentOf(this.pod, 'istio-proxy').ENVOY_SECURE_METRICS_PORT !== undefined
    const active =
      material === null
        ? []
        : [
            ...entries(material.chain, material.roots),
            ...(twice ? entries(material.chain, split ? this.#otherRoots : material.roots) : []),
          ]
    const warming =
      active.length > 0
        ? []
        : [{ name: 'default', version_info: 'uninitialized', last_updated: this.pod.metadata.creationTimestamp }]
    return {
      configs: [
        {
          '@type': 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump',
          ...(active.length > 0 ? { dynamic_active_secrets: active } : {}),
          ...(warming.length > 0 ? { dynamic_warming_secrets: warming } : {}),
        },
      ],
    }
  }

  /** ztunnel's /config_dump, as far as certificates go. */
  ztunnelDump(): unknown {
    const described = (pem: string): unknown => {
      const certificate = new X509Certificate(pem)
      return {
        pem: Buffer.from(pem).toString('base64'),
        serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
        validFrom: new Date(certificate.validFrom).toISOString(),
        expirationTime: new Date(certificate.validTo).toISOString(),
      }
    }
    const leaf = this.#leaf
    if (leaf === null)
      return { certificates: [{ identity: this.identity, state: 'Initializing', certChain: [], rootCerts: [] }] }
    const chain = [leaf.certificate, ...certificatesIn(leaf.chain)]
    return {
      certificates: [
        {
          identity: this.identity,
          state: 'Available',
          certChain: chain.map(described),
          rootCerts: certificatesIn(leaf.roots).map(described),
        },
      ],
    }
  }

  async #connect(): Promise<void> {
    if (!this.running || this.#replica !== null) return
    const replica = this.#pick(this.#plane.serving)
    if (replica === undefined || !(await this.#verified(replica))) {
      this.#retry(() => this.#connect())
      return
    }
    if (!this.running || !replica.accepts) {
      this.#retry(() => this.#connect())
      return
    }
    this.#attempt = 0
    this.#replica = replica
    if (!this.#site.faults.splitReplicas) this.#openChannel(replica)
    replica.subscribe(this)
    this.#aging?.cancel()
    this.#aging = this.#site.clock.after(this.#between(connectionAge * 0.9, connectionAge), () => {
      this.#replica?.unsubscribe(this)
      this.disconnected()
    })
    if (this.#leaf === null) this.#site.clock.after(400, () => (this.#leaf === null ? this.#requestLeaf() : undefined))
  }

  async #requestLeaf(): Promise<void> {
    if (!this.running || this.#hangs()) return
    if (this.#requesting) {
      this.#again = true
      return
    }
    this.#requesting = true
    try {
      await this.#sign()
    } finally {
      this.#requesting = false
    }
    if (!this.#again) return
    this.#again = false
    this.#site.clock.after(50, () => this.#requestLeaf())
  }

  async #sign(): Promise<void> {
    // An open channel is used as it is: istiod is verified when the channel is made.
    const ended = this.#site.clock.millis() >= this.#authorityEnds
    if (this.#authority === null || !this.#authority.accepts || ended) {
      const replica = this.#pick(this.#plane.serving)
      if (replica === undefined || !(await this.#verified(replica))) {
        this.#authority = null
        this.#retry(() => this.#requestLeaf())
        return
      }
      this.#openChannel(replica)
    }
    if (this.#authority?.accepts !== true) {
      this.#retry(() => this.#requestLeaf())
      return
    }
    this.#attempt = 0
    this.#leaf = this.#authority.sign(this.identity)
    const now = instantAt(this.#site, this.pod)
    this.#updated = { leaf: now, roots: now }
    this.#version += 1
    this.#renewal?.cancel()
    const half = this.#site.leafHours * 3_600_000 * 0.5
    this.#renewal = this.#site.clock.after(this.#between(half * 0.99, half * 1.01), () => this.#requestLeaf())
    await this.#present()
  }

  #openChannel(replica: Istiod): void {
    this.#authority = replica
    this.#authorityEnds = this.#site.clock.millis() + connectionAge
  }

  /** Hands leaf and roots to the proxy, whose new connections use them from now on. */
  async #present(): Promise<void> {
    const leaf = this.#leaf
    if (leaf === null || this.#stopped) return
    const roots = this.proxyType === 'ztunnel' ? certificatesIn(leaf.roots) : unionOf(leaf.roots, this.#bundle ?? '')
    const material = loadMaterial({
      chain: leaf.certificate + leaf.chain + leaf.roots,
      key: leaf.key,
      roots: roots.join(''),
    })
    if (!this.#site.faults.splitEntries.has(this.#owner)) this.#otherRoots = material.roots
    if (this.#endpoint !== null) {
      this.#endpoint.setMaterial(material)
      this.#site.handshakes.changed(this.#partyId)
      return
    }
    const endpoint = await Endpoint.listen(material, 'required')
    if (this.#stopped) {
      await endpoint.close()
      return
    }
    this.#endpoint = endpoint
    this.#ready()
  }

  endpointAt(): Endpoint | null {
    return this.#endpoint
  }

  answer(port: number, route: string): unknown {
    if (port !== 15000 || route !== '/config_dump') return null
    return this.proxyType === 'ztunnel' ? this.ztunnelDump() : this.configDump()
  }

  joined(): void {
    if (this.#endpoint === null || !this.running) return
    const { name, trustDomain, handshakes } = this.#site
    handshakes.join({ id: this.#partyId, site: name, owner: this.#owner, endpoint: this.#endpoint, trustDomain })
  }

  #verified(replica: Istiod): Promise<boolean> {
    const endpoint = replica.endpoint
    if (endpoint === null || this.projectedRoots === '') return Promise.resolve(false)
    return this.#site.handshakes.control({
      link: 'istiod',
      client: this.#partyId,
      server: `${this.#site.name}/${podKey(replica.pod)}`,
      endpoint,
      roots: this.projectedRoots,
      serverName: `istiod.${istioNamespace}.svc`,
    })
  }

  #retry(action: () => Promise<void>): void {
    if (!this.running) return
    const ceiling = Math.min(backOff.first * 2 ** this.#attempt, backOff.longest)
    this.#attempt += 1
    this.#site.clock.after(this.#between(0, ceiling), action)
  }

  /** Whether it hangs now. What it should have done it does once it no longer hangs: with the last bundle that was pushed, and a new leaf. */
  #hangs(bundle: string | null = null): boolean {
    if (this.#leaf === null || !this.#site.faults.frozen.has(this.#owner)) return false
    if (this.#missed !== null) {
      this.#missed.bundle = bundle ?? this.#missed.bundle
      return true
    }
    this.#missed = { bundle }
    this.#site.clock.after(hung, () => this.#goOn())
    return true
  }

  async #goOn(): Promise<void> {
    const missed = this.#missed
    if (missed === null || this.#stopped) return
    this.#missed = null
    if (this.#hangs(missed.bundle)) return
    if (this.#replica === null) await this.#connect()
    if (missed.bundle === null || missed.bundle === this.#bundle) await this.#requestLeaf()
    else this.pushBundle(missed.bundle)
  }

  #pick(replicas: readonly Istiod[]): Istiod | undefined {
    return replicas[this.#between(0, Math.max(0, replicas.length - 1))]
  }

  #between(low: number, high: number): number {
    this.#draws += 1
    return this.#site.random
      .fork(`agent/${this.pod.metadata.uid}/${this.#draws}`)
      .between(Math.round(low), Math.round(high))
  }
}

function unionOf(fromAnswer: string, pushed: string): string[] {
  return [...new Set([...certificatesIn(fromAnswer), ...certificatesIn(pushed)])].sort()
}

/** What kind of proxy a pod runs, by the labels and annotations that Istio gives. */
function proxyKindOf(pod: StoredObject): ProxyKind {
  const { labels = {}, annotations = {} } = pod.metadata
  if (labels.app === 'ztunnel') return 'ztunnel'
  if (labels['gateway.istio.io/managed']?.startsWith('istio.io-mesh-controller') === true) return 'waypoint'
  if (labels['gateway.networking.k8s.io/gateway-name'] !== undefined) return 'router'
  return annotations['inject.istio.io/templates'] === 'gateway' ? 'router' : 'sidecar'
}
