import { X509Certificate } from 'node:crypto'
import { anchorsVariable } from '../../systems/linkerd/manifests.ts'
import { certificatesIn } from '../certificates.ts'
import type { Timer } from '../clock.ts'
import { listAt, type StoredObject, textAt } from '../objects.ts'
import { ownerOf, type PodProcess, podKey, type Site } from '../site.ts'
import type { PodMeans } from '../system.ts'
import { Endpoint, loadMaterial } from '../workload-tls.ts'
import { Identity, type SignedLeaf, verifies } from './identity.ts'
import { anchorsVolume, configVolume, issuerVolume, leafHoursOf, proxyContainer, proxyName } from './names.ts'
import type { LinkerdPlane } from './plane.ts'
import { type Webhook, webhookPort } from './webhook.ts'

/** Port named linkerd-admin, which serves TLS with the proxy's leaf; port of identity's requests; port of its metrics. */
const ports = { admin: 4191, identity: 8080, metrics: 9990 } as const

/** linkerd2-proxy linkerd/proxy/identity-client/src/certify.rs: a leaf is renewed after 70 % of what is left of its life. */
const renewAfter = 0.7
/** Milliseconds until a certification that failed is tried again: LINKERD2_PROXY_IDENTITY_MIN_REFRESH is 10 s. */
const retry = [10_000, 20_000] as const
/** Milliseconds between two looks at whether a proxy that hangs still does. */
const hung = 60_000
/** Milliseconds. The proxy asks for its leaf as soon as it runs. */
const lags = { certify: [100, 400], ready: [100, 300] } as const

/**
 * A pod with linkerd-proxy, and what runs beside it: identity, or the injector's webhook.
 *
 * Anchors are read once, at the start of the container: from the literal in its environment, or from the ConfigMap that the environment refers
 * to, as the API has it then (linkerd2-proxy linkerd/meshtls/src/creds.rs). Every leaf that comes is held to them before it is used.
 */
export class LinkerdPod implements PodProcess {
  readonly pod: StoredObject
  readonly name: string
  /** Null: another component. */
  readonly identity: Identity | null
  /** The injector's process, as far as its mounted bundle goes. */
  readonly injects: boolean
  readonly #site: Site
  readonly #plane: LinkerdPlane
  readonly #webhook: Webhook
  readonly #means: PodMeans
  readonly #id: string
  readonly #owner: string
  #anchors = ''
  #pool: readonly X509Certificate[] = []
  #leaf: SignedLeaf | null = null
  #endpoint: Endpoint | null = null
  /** What answers requests for leaves: without a client certificate, as a proxy that starts has none. */
  #authority: Endpoint | null = null
  /** Where the API server asks the injector. */
  #admission: Endpoint | null = null
  #timer: Timer | null = null
  #draws = 0
  #running = false
  #draining = false

  constructor(site: Site, plane: LinkerdPlane, webhook: Webhook, pod: StoredObject, means: PodMeans) {
    this.#site = site
    this.#plane = plane
    this.#webhook = webhook
    this.pod = pod
    this.#means = means
    this.name = proxyName(pod)
    this.#id = `${site.name}/${podKey(pod)}`
    this.#owner = ownerOf(site.store, pod)
    const component = pod.metadata.labels?.['linkerd.io/control-plane-component']
    this.identity =
      component === 'identity' ? new Identity(site, podKey(pod), leafHoursOf(pod), volume => means.files(volume)) : null
    this.injects = component === 'proxy-injector'
  }

  get id(): string {
    return this.#id
  }

  get endpoint(): Endpoint | null {
    return this.#endpoint
  }

  get authority(): Endpoint | null {
    return this.#authority
  }

  get anchors(): string {
    return this.#anchors
  }

  get running(): boolean {
    return this.#running && !this.#draining
  }

  /** The bundle that the injector reads at each admission, as its volume has it now. */
  get mountedAnchors(): { readonly roots: string | undefined; readonly global: string | undefined } {
    return { roots: this.#means.files(anchorsVolume)['ca-bundle.crt'], global: this.#means.files(configVolume).global }
  }

  async start(): Promise<void> {
    this.#anchors = this.#anchorsAtStart()
    this.#pool = certificatesIn(this.#anchors).map(pem => new X509Certificate(pem))
    if (this.#pool.length === 0) throw new Error('invalid trust roots')
    this.identity?.start()
    if (this.injects) this.#admission = await this.#webhook.serve()
    this.#running = true
    this.#plane.add(this)
    this.#timer = this.#site.clock.after(this.#between(...lags.certify), () => this.#certify())
  }

  filesChanged(volume: string): void {
    if (volume === issuerVolume) this.identity?.issuerChanged()
  }

  /** Peers connect from now on. */
  joined(): void {
    const endpoint = this.#endpoint
    if (endpoint === null || !this.running) return
    this.#site.handshakes.join({
      id: this.#id,
      site: this.#site.name,
      owner: this.#owner,
      endpoint,
      trustDomain: '',
      connect: server => {
        const name = this.#plane.nameOf(server.id)
        if (name === null) return null
        return { context: endpoint.material.context, alpn: 'istio', serverName: name, trustDomain: '' }
      },
    })
  }

  drain(): void {
    this.#draining = true
    this.#plane.remove(this)
    this.#site.handshakes.leave(this.#id)
  }

  async stop(): Promise<void> {
    this.drain()
    this.#running = false
    this.#timer?.cancel()
    this.identity?.stop()
    const endpoints = [this.#endpoint, this.#authority, this.#admission]
    this.#admission = null
    this.#endpoint = null
    this.#authority = null
    for (const endpoint of endpoints) await endpoint?.close()
  }

  endpointAt(port: number): Endpoint | null {
    if (port === ports.identity) return this.#authority
    if (port === webhookPort) return this.#admission
    return port === ports.admin ? this.#endpoint : null
  }

  answer(port: number, route: string): unknown {
    if (port === ports.metrics && route === '/metrics') return this.identity?.metrics() ?? null
    return null
  }

  /** Asks for a leaf, holds it to its own anchors, and renews it after 70 % of what is left of its life. */
  async #certify(): Promise<void> {
    if (!this.running) return
    if (this.#leaf !== null && this.#site.faults.frozen.has(this.#owner)) {
      // One that hangs asks again once it no longer does.
      this.#timer = this.#site.clock.after(hung, () => this.#certify())
      return
    }
    const signed = await this.#request()
    if (!this.running) return
    if (signed === null || !this.#accepts(signed)) {
      if (signed !== null) this.#site.log(this.#id, 'certification failed: the leaf is not of a trusted root')
      this.#timer = this.#site.clock.after(this.#between(...retry), () => this.#certify())
      return
    }
    const first = this.#leaf === null
    this.#leaf = signed
    const left = signed.notAfter - this.#site.clock.millis()
    this.#timer = this.#site.clock.after(Math.max(10_000, Math.round(left * renewAfter)), () => this.#certify())
    await this.#present(signed)
    if (first) this.#site.clock.after(this.#between(...lags.ready), () => this.#means.ready())
  }

  async #request(): Promise<SignedLeaf | null> {
    // Identity's own proxy asks the process beside it, over loopback and without TLS.
    if (this.identity !== null) return this.identity.sign(this.name)
    const replicas = this.#plane.identities
    const replica = replicas[this.#between(0, Math.max(0, replicas.length - 1))]
    const endpoint = replica?.authority ?? null
    if (replica === undefined || endpoint === null) return null
    const verified = await this.#site.handshakes.control({
      link: 'identity',
      client: this.#id,
      server: replica.id,
      endpoint,
      roots: this.#anchors,
      serverName: replica.name,
    })
    return verified ? (replica.identity?.sign(this.name) ?? null) : null
  }

  #accepts(signed: SignedLeaf): boolean {
    const between = certificatesIn(signed.chain).map(pem => new X509Certificate(pem))
    return verifies(new X509Certificate(signed.certificate), this.#pool, between)
  }

  async #present(signed: SignedLeaf): Promise<void> {
    const material = loadMaterial({ chain: signed.certificate + signed.chain, key: signed.key, roots: this.#anchors })
    if (this.#endpoint !== null) {
      this.#endpoint.setMaterial(material)
      this.#authority?.setMaterial(material)
      this.#site.handshakes.changed(this.#id)
      this.#site.handshakes.controlChanged()
      return
    }
    const endpoint = await Endpoint.listen(material, 'required')
    const authority = this.identity === null ? null : await Endpoint.listen(material, 'ifGiven')
    if (!this.#running) {
      await endpoint.close()
      await authority?.close()
      return
    }
    this.#endpoint = endpoint
    this.#authority = authority
    this.#site.handshakes.controlChanged()
  }

  #anchorsAtStart(): string {
    const container = proxyContainer(this.pod)
    const variable = listAt(container, 'env').find(entry => textAt(entry, 'name') === anchorsVariable)
    const literal = textAt(variable, 'value')
    if (literal !== undefined) return literal
    const name = textAt(variable, 'valueFrom', 'configMapKeyRef', 'name') ?? ''
    const key = textAt(variable, 'valueFrom', 'configMapKeyRef', 'key') ?? ''
    const map = this.#site.store.get('', 'ConfigMap', this.pod.metadata.namespace ?? '', name)
    return textAt(map, 'data', key) ?? ''
  }

  #between(low: number, high: number): number {
    this.#draws += 1
    return this.#site.random.fork(`linkerd/${this.pod.metadata.uid}/${this.#draws}`).between(low, high)
  }
}
