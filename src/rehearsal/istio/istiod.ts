import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { certificatesIn, endOf, issueLeaf, type Pair, selfSignedCa } from '../certificates.ts'
import type { VolumeFiles } from '../kubelet.ts'
import { at, listAt, type Manifest, recordAt, type StoredObject, textAt, textsAt } from '../objects.ts'
import { goBool, type PodProcess, podKey, type Site } from '../site.ts'
import { Endpoint, loadMaterial } from '../workload-tls.ts'
import { istioNamespace } from './names.ts'

/** What a running istiod signs with and hands out. */
export interface SigningCa {
  readonly source: 'own' | 'plugged'
  readonly signer: Pair
  /** cert-chain.pem; empty for a CA of its own, so that such an istiod serves its leaf alone. */
  readonly chain: string
  /** root-cert.pem, byte for byte: order, repeats and all. */
  readonly roots: string
}

export interface SignedLeaf extends Pair {
  readonly chain: string
  readonly roots: string
}

/** An agent that is subscribed to this replica. */
export interface Subscriber {
  readonly pod: StoredObject
  readonly subscribed: boolean
  readonly proxyType: string
  /** The bundle as istiod pushes it to subscribers (PCDS). */
  pushBundle(bundle: string): void
  disconnected(): void
}

interface Push {
  sent: string
  acked: string
  sentTime: string
}

const pcdsType = 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig'
export const rootConfigMap = 'istio-ca-root-cert'
/** Milliseconds, as measured with the real pilot-discovery and Envoys: a push is at a proxy 0.25 to 0.4 s after istiod's files have changed. */
const lags = { debounce: 100, push: [150, 300] } as const
const cacertsFiles = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'] as const

/**
 * One istiod replica. What it takes up and what it refuses follows istio/istio release 1.26 to 1.29: security/pkg/pki/ca and
 * pilot/pkg/bootstrap/istio_ca.go; the same was measured with the real pilot-discovery and is held as a table by the tests.
 */
export class Istiod implements PodProcess {
  readonly pod: StoredObject
  readonly #site: Site
  readonly #plane: ControlPlane
  readonly #files: () => VolumeFiles
  readonly #ready: () => void
  readonly #multiroot: boolean
  readonly #subscribers = new Set<Subscriber>()
  readonly #pushes = new Map<Subscriber, Push>()
  #ca: SigningCa | null = null
  #endpoint: Endpoint | null = null
  #draining = false
  #nonce = 0

  constructor(site: Site, plane: ControlPlane, pod: StoredObject, files: () => VolumeFiles, ready: () => void) {
    this.#site = site
    this.#plane = plane
    this.pod = pod
    this.#files = files
    this.#ready = ready
    this.#multiroot = goBool(environmentOf(pod, 'discovery').ISTIO_MULTIROOT_MESH)
  }

  // Measured with the real program under a kubelet of our own: Ready 1.4 to 2.4 s after its pod is taken up.
  readonly startLag = [1_200, 2_000] as const

  endpointAt(port: number): Endpoint | null {
    return port === 15012 || port === 15017 ? this.#endpoint : null
  }

  answer(port: number, route: string): unknown {
    if (port !== 15014 && port !== 8080) return null
    if (route === '/debug/syncz') return this.syncz()
    return route === '/debug/adsz' ? this.adsz() : null
  }

  /** Present while the replica runs. */
  get endpoint(): Endpoint | null {
    return this.#endpoint
  }

  get ca(): SigningCa | null {
    return this.#ca
  }

  get accepts(): boolean {
    return this.#endpoint !== null && !this.#draining
  }

  async start(): Promise<void> {
    const files = this.#files()
    this.#ca = cacertsFiles.some(name => name in files) ? this.#plugged(files) : this.#own()
    this.#endpoint = await Endpoint.listen(loadMaterial(this.#serving(this.#ca)), 'ifGiven')
    this.#ready()
    this.#plane.replicaUp(this)
    this.#site.handshakes.controlChanged()
  }

  filesChanged(volume: string): void {
    if (volume !== 'cacerts' || this.#ca === null) return
    // The watcher on /etc/cacerts is set up only where istiod started with a complete plugged CA (initCACertsAndCRLWatcher).
    if (this.#ca.source === 'own') return
    this.#site.clock.after(lags.debounce, () => this.#reload())
  }

  drain(): void {
    this.#draining = true
    this.#plane.replicaDown(this)
  }

  async stop(): Promise<void> {
    this.drain()
    for (const subscriber of [...this.#subscribers]) subscriber.disconnected()
    this.#subscribers.clear()
    const endpoint = this.#endpoint
    this.#endpoint = null
    await endpoint?.close()
  }

  /** Signs a leaf for a workload, in the form of the CSR answer: leaf, cert-chain.pem, and the whole root-cert.pem last. */
  sign(uri: string): SignedLeaf {
    const ca = this.#ca!
    const life = this.#site.life(this.#site.leafHours)
    const end = new Date(Math.min(life.notAfter.getTime(), endOf(ca.signer.certificate)))
    return { ...issueLeaf(ca.signer, { uri, life: { ...life, notAfter: end } }), chain: ca.chain, roots: ca.roots }
  }

  subscribe(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber)
    this.#push(subscriber)
  }

  unsubscribe(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
    this.#pushes.delete(subscriber)
  }

  /** /debug/syncz */
  syncz(): unknown {
    return [...this.#subscribers].map(subscriber => {
      const push = this.#pushes.get(subscriber)
      const nonce = `${podKey(subscriber.pod)}-cds`
      return {
        cluster_id: 'Kubernetes',
        proxy: `${subscriber.pod.metadata.name}.${subscriber.pod.metadata.namespace}`,
        proxy_type: subscriber.proxyType,
        istio_version: '1.29.0',
        cluster_sent: nonce,
        cluster_acked: nonce,
        listener_sent: nonce,
        listener_acked: nonce,
        resources: {
          'type.googleapis.com/envoy.config.cluster.v3.Cluster': {
            sent: nonce,
            acked: nonce,
            sentTime: subscriber.pod.metadata.creationTimestamp,
          },
          ...(push === undefined ? {} : { [pcdsType]: { ...push } }),
        },
      }
    })
  }

  /** /debug/adsz */
  adsz(): unknown {
    const clients = [...this.#subscribers].map(subscriber => ({
      connectionId: `${subscriber.pod.metadata.name}.${subscriber.pod.metadata.namespace}-1`,
      connectedAt: subscriber.pod.metadata.creationTimestamp,
      address: `${textAt(subscriber.pod, 'status', 'podIP') ?? ''}:40000`,
      labels: { ...subscriber.pod.metadata.labels },
      metadata: { PROXY_CONFIG: { proxyMetadata: environmentOf(subscriber.pod, 'istio-proxy') } },
      watches: {
        'type.googleapis.com/envoy.config.cluster.v3.Cluster': [],
        ...(subscriber.subscribed ? { [pcdsType]: [] } : {}),
      },
    }))
    return { totalClients: clients.length, clients }
  }

  #reload(): void {
    const current = this.#ca
    if (current === null || this.#endpoint === null) return
    let next: SigningCa
    try {
      next = this.#plugged(this.#files())
    } catch (error) {
      this.#log(`Failed to update CA certs: ${error instanceof Error ? error.message : String(error)}`)
      return
    }
    if (
      next.roots === current.roots &&
      next.chain === current.chain &&
      next.signer.certificate === current.signer.certificate
    )
      return
    if (next.roots !== current.roots) {
      if (!this.#multiroot) {
        this.#log('Multi root is disabled, updating new ROOT-CA not supported')
        return
      }
      // Releases 1.20 to 1.29 compare text: one bundle's bytes must contain the other's.
      if (!next.roots.includes(current.roots) && !current.roots.includes(next.roots)) {
        this.#log('Updating new ROOT-CA not supported')
        return
      }
      this.#log('Updating new ROOT-CA')
    }
    this.#ca = next
    if (next.signer.certificate !== current.signer.certificate) {
      this.#log('Istiod has detected the newly added intermediate CA and updated its key and certs accordingly')
    }
    this.#endpoint.setMaterial(loadMaterial(this.#serving(next)))
    this.#site.handshakes.controlChanged()
    this.#plane.bundleMayHaveChanged(this)
    if (next.roots !== current.roots) for (const subscriber of this.#subscribers) this.#push(subscriber)
  }

  /** Sends the bundle to a subscriber; a proxy that did not subscribe, or an istiod without multi-root, never speaks of it. */
  #push(subscriber: Subscriber): void {
    if (!this.#multiroot || !subscriber.subscribed) return
    const random = this.#site.random.fork(`push/${subscriber.pod.metadata.uid}/${this.#site.clock.elapsed()}`)
    const nonce = `${podKey(this.pod)}-${++this.#nonce}`
    const push: Push = {
      sent: nonce,
      acked: this.#pushes.get(subscriber)?.acked ?? '',
      sentTime: this.#site.clock.instant(),
    }
    this.#pushes.set(subscriber, push)
    this.#site.clock.after(random.between(...lags.push), () => {
      if (!this.#subscribers.has(subscriber) || this.#ca === null) return
      subscriber.pushBundle(this.#ca.roots)
      push.acked = push.sent
    })
  }

  #plugged(files: VolumeFiles): SigningCa {
    const missing = cacertsFiles.filter(name => (files[name] ?? '') === '')
    if (missing.length > 0) throw new Error(`incomplete signing CA bundle detected: ${missing.join(', ')} missing`)
    const [certificate] = certificatesIn(files['ca-cert.pem']!)
    if (certificate === undefined) throw new Error('ca-cert.pem holds no certificate')
    const ca: SigningCa = {
      source: 'plugged',
      signer: { certificate, key: files['ca-key.pem']! },
      chain: files['cert-chain.pem']!,
      roots: files['root-cert.pem']!,
    }
    verifyPlugged(ca, this.#site.clock.now())
    return ca
  }

  #own(): SigningCa {
    const { store } = this.#site
    const existing = store.get('', 'Secret', istioNamespace, 'istio-ca-secret')
    if (existing !== null) return ownCa(existing)
    const pair = selfSignedCa(this.#site.trustDomain, this.#site.life(10 * 365 * 24))
    const encode = (text: string): string => Buffer.from(text).toString('base64')
    const secret: Manifest = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'istio-ca-secret', namespace: istioNamespace },
      type: 'istio.io/ca-root',
      data: {
        'ca-cert.pem': encode(pair.certificate),
        'ca-key.pem': encode(pair.key),
        'cert-chain.pem': '',
        'key.pem': '',
        'root-cert.pem': '',
      },
    }
    return ownCa(store.put(secret, 'pilot-discovery'))
  }

  #serving(ca: SigningCa): { chain: string; key: string; roots: string } {
    const names = [
      `istiod.${istioNamespace}.svc`,
      `istiod-remote.${istioNamespace}.svc`,
      `istio-pilot.${istioNamespace}.svc`,
    ]
    const leaf = issueLeaf(ca.signer, { dns: names, life: this.#site.life(this.#site.leafHours) })
    return { chain: leaf.certificate + ca.chain, key: leaf.key, roots: ca.roots }
  }

  #log(line: string): void {
    this.#site.log(podKey(this.pod), line)
  }
}

function ownCa(secret: StoredObject): SigningCa {
  const data = textsAt(secret, 'data')
  const decode = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('utf8')
  const certificate = decode('ca-cert.pem')
  return { source: 'own', signer: { certificate, key: decode('ca-key.pem') }, chain: '', roots: certificate }
}

// security/pkg/pki/util/keycertbundle.go Verify: the key fits, the first certificate is a CA, and it verifies to the pool of roots.
function verifyPlugged(ca: SigningCa, now: Date): void {
  const certificate = new X509Certificate(ca.signer.certificate)
  const spki = createPublicKey(createPrivateKey(ca.signer.key)).export({ type: 'spki', format: 'der' })
  if (!certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(spki))
    throw new Error('the private key does not match ca-cert.pem')
  if (!certificate.ca) throw new Error('ca-cert.pem is not a CA certificate')
  const roots = certificatesIn(ca.roots).map(pem => new X509Certificate(pem))
  const chain = certificatesIn(ca.chain).map(pem => new X509Certificate(pem))
  if (!reaches(certificate, roots, chain, now, 0)) throw new Error('ca-cert.pem does not verify to root-cert.pem')
}

function reaches(
  certificate: X509Certificate,
  roots: readonly X509Certificate[],
  chain: readonly X509Certificate[],
  now: Date,
  depth: number,
): boolean {
  if (Date.parse(certificate.validTo) < now.getTime() || depth > 8) return false
  if (roots.some(root => root.raw.equals(certificate.raw))) return true
  const issuedBy = (issuer: X509Certificate): boolean =>
    certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
  if (roots.some(root => issuedBy(root) && Date.parse(root.validTo) >= now.getTime())) return true
  return chain.some(
    issuer => !issuer.raw.equals(certificate.raw) && issuedBy(issuer) && reaches(issuer, roots, chain, now, depth + 1),
  )
}

/** Environment of one container of a pod, init containers included (native sidecars live there). */
export function environmentOf(pod: StoredObject, container: string): Record<string, string> {
  const all = [...listAt(pod, 'spec', 'containers'), ...listAt(pod, 'spec', 'initContainers')]
  const found = all.find(entry => textAt(entry, 'name') === container)
  return Object.fromEntries(
    listAt(found, 'env').map(entry => [textAt(entry, 'name') ?? '', textAt(entry, 'value') ?? '']),
  )
}

/**
 * What the istiod replicas of a site do together: one leader writes the ConfigMap `istio-ca-root-cert` of every namespace and the
 * `caBundle` of the webhooks. Until a new leader is elected the last leader's word stands.
 */
export class ControlPlane {
  readonly #site: Site
  readonly #replicas: Istiod[] = []
  #leader: Istiod | null = null
  #electing = false

  constructor(site: Site) {
    this.#site = site
    site.store.onChange(change => {
      const { kind, metadata } = change.object
      if (change.what === 'status') return
      if (kind === 'Namespace' && change.what === 'created') this.#writeSoon(metadata.name)
      // The leader reverts an edit of its ConfigMap, and fills webhooks that appear.
      if (kind === 'ConfigMap' && metadata.name === rootConfigMap && metadata.namespace !== undefined)
        this.#writeSoon(metadata.namespace)
      if (kind.endsWith('WebhookConfiguration') && change.what !== 'deleted') this.#patchSoon()
    })
  }

  /** Replicas that a new connection may reach, oldest first. */
  get serving(): readonly Istiod[] {
    return this.#replicas.filter(replica => replica.accepts)
  }

  get leader(): Istiod | null {
    return this.#leader
  }

  replicaUp(replica: Istiod): void {
    this.#replicas.push(replica)
    if (this.#leader === null) this.#elect()
  }

  replicaDown(replica: Istiod): void {
    const index = this.#replicas.indexOf(replica)
    if (index >= 0) this.#replicas.splice(index, 1)
    if (this.#leader !== replica) return
    this.#leader = null
    this.#elect()
  }

  bundleMayHaveChanged(replica: Istiod): void {
    if (replica === this.#leader) this.#writeAll()
  }

  #elect(): void {
    if (this.#electing) return
    this.#electing = true
    this.#site.clock.after(
      this.#site.random.fork(`election/${this.#site.clock.elapsed()}`).between(1_000, 5_000),
      () => {
        this.#electing = false
        this.#leader = this.serving[0] ?? null
        if (this.#leader !== null) this.#writeAll()
      },
    )
  }

  #writeAll(): void {
    for (const namespace of this.#site.store.list('', 'Namespace')) this.#writeSoon(namespace.metadata.name)
    this.#patchSoon()
  }

  #writeSoon(namespace: string): void {
    const lag = this.#site.random.fork(`rootcert/${namespace}/${this.#site.clock.elapsed()}`).between(50, 1_500)
    this.#site.clock.after(lag, () => {
      const roots = this.#leader?.ca?.roots
      if (roots === undefined || this.#site.store.get('', 'Namespace', null, namespace) === null) return
      this.#site.store.put(
        {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: rootConfigMap, namespace, labels: { 'istio.io/config': 'true' } },
          data: { 'root-cert.pem': roots },
        },
        'pilot-discovery',
      )
    })
  }

  #patchSoon(): void {
    this.#site.clock.after(300, () => {
      const roots = this.#leader?.ca?.roots
      if (roots === undefined) return
      const caBundle = Buffer.from(roots).toString('base64')
      for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']) {
        for (const configuration of this.#site.store.list('admissionregistration.k8s.io', kind)) {
          if (textAt(configuration, 'webhooks', 0, 'clientConfig', 'service', 'name') !== 'istiod') continue
          this.#site.store.update(configuration, 'pilot-discovery', next => {
            for (const webhook of listAt(next, 'webhooks')) recordAt(webhook, 'clientConfig').caBundle = caBundle
          })
        }
      }
    })
  }
}

/** caBundle of the first webhook of a configuration, as PEM; null where it is not filled in yet. */
export function caBundleOf(configuration: StoredObject | null): string | null {
  const bundle = at(configuration, 'webhooks', 0, 'clientConfig', 'caBundle')
  return typeof bundle === 'string' && bundle !== '' ? Buffer.from(bundle, 'base64').toString('utf8') : null
}
