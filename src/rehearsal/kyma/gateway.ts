import { X509Certificate } from 'node:crypto'
import type { GatewayForm } from '../../systems/kyma/profile.ts'
import { istioCaKeys, secretsOfCredential } from '../../systems/kyma/profile.ts'
import { certificatesIn, type Pair } from '../certificates.ts'
import type { VolumeFiles } from '../kubelet.ts'
import { type StoredObject, textsAt } from '../objects.ts'
import { instantAt, type PodProcess, podKey, type Site } from '../site.ts'
import { Endpoint, type LoadedMaterial, loadMaterial } from '../workload-tls.ts'

/** Milliseconds from a changed Secret to the push of istiod. An assumption: a debounce and a round trip. */
const push = [150, 1_500] as const

export interface GatewayParts {
  readonly form: GatewayForm
  readonly credential: string | null
  /** With form mount: what the pod has in its volume. */
  readonly files: () => VolumeFiles
  /** Key of that volume's file. */
  readonly key: string
  readonly secret: string
  readonly server: Pair
  readonly ready: () => void
  /** Called when it may be met, or no more. */
  readonly changed: () => void
}

/**
 * A pod of the ingress gateway: a TLS server that asks every client for a certificate. With a credential name istiod pushes it what the Secret holds; with files it reads
 * them when it starts and never again (istio#33198).
 */
export class GatewayPod implements PodProcess {
  /** Set by tests and faults: pushes no longer reach it. */
  deaf = false
  readonly #site: Site
  readonly #pod: StoredObject
  readonly #parts: GatewayParts
  #endpoint: Endpoint | null = null
  #roots = ''
  #serving = false
  #draining = false

  constructor(site: Site, pod: StoredObject, parts: GatewayParts) {
    this.#site = site
    this.#pod = pod
    this.#parts = parts
  }

  get id(): string {
    return `${this.#site.name}/${podKey(this.#pod)}`
  }

  /** Present while clients may connect. */
  get endpoint(): Endpoint | null {
    return this.#serving ? this.#endpoint : null
  }

  async start(): Promise<void> {
    this.#roots = this.#parts.form === 'mount' ? (this.#parts.files()[this.#parts.key] ?? '') : this.#pushed()
    this.#endpoint = await Endpoint.listen(this.#material(), 'required', 'h2')
    this.#parts.ready()
  }

  /** The Secret changed: with a credential name istiod pushes, some time later for each pod. */
  secretChanged(): void {
    if (this.#parts.form === 'mount') return
    const lag = this.#site.random.fork(`push/${this.id}/${this.#site.clock.elapsed()}`).between(...push)
    this.#site.clock.after(lag, () => {
      if (this.#endpoint === null || this.deaf) return
      const roots = this.#pushed()
      if (roots === this.#roots) return
      this.#roots = roots
      this.#endpoint.setMaterial(this.#material())
      this.#parts.changed()
    })
  }

  filesChanged(): void {}

  joined(): void {
    if (this.#endpoint === null || this.#draining) return
    this.#serving = true
    this.#parts.changed()
  }

  drain(): void {
    this.#draining = true
    this.#serving = false
    this.#parts.changed()
  }

  async stop(): Promise<void> {
    this.drain()
    const endpoint = this.#endpoint
    this.#endpoint = null
    await endpoint?.close()
  }

  endpointAt(port: number): Endpoint | null {
    return port === 8443 ? this.#endpoint : null
  }

  answer(port: number, route: string): unknown {
    if (port !== 15000) return null
    if (route === '/config_dump') return this.#configDump()
    return route === '/certs' ? this.#certs() : null
  }

  #material(): LoadedMaterial {
    const { certificate, key } = this.#parts.server
    return loadMaterial({ chain: certificate, key, roots: this.#roots })
  }

  /** Istio's lookup of the CA of a credential name: the Secret X-cacert, else X; key cacert, else ca.crt; an empty one is none. */
  #pushed(): string {
    const namespace = this.#pod.metadata.namespace ?? ''
    for (const name of secretsOfCredential(this.#parts.credential ?? '')) {
      const secret = this.#site.store.get('', 'Secret', namespace, name)
      if (secret === null) continue
      const data = textsAt(secret, 'data')
      const key = istioCaKeys.find(each => data[each] !== undefined)
      if (key !== undefined) return Buffer.from(data[key] ?? '', 'base64').toString('utf8')
    }
    return ''
  }

  #configDump(): unknown {
    if (this.#parts.form === 'mount' || this.#roots === '') return { configs: [] }
    const name = `kubernetes://${this.#parts.credential ?? ''}-cacert`
    return {
      configs: [
        {
          '@type': 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump',
          dynamic_active_secrets: [
            {
              name,
              last_updated: instantAt(this.#site, this.#pod),
              secret: {
                name,
                validation_context: { trusted_ca: { inline_bytes: Buffer.from(this.#roots).toString('base64') } },
              },
            },
          ],
        },
      ],
    }
  }

  /** As Envoy's admin answers (envoy api/envoy/admin/v3/certs.proto): of a CA file the first certificate, and of that no fingerprint. */
  #certs(): unknown {
    const [first] = certificatesIn(this.#roots)
    if (first === undefined) return { certificates: [] }
    const { serialNumber, validFrom, validTo } = new X509Certificate(first)
    const time = (date: string): string => new Date(date).toISOString().replace(/\.\d+Z$/, 'Z')
    const details = {
      path: `/etc/istio/${this.#parts.secret}/${this.#parts.key}`,
      serial_number: serialNumber.toLowerCase(),
      subject_alt_names: [],
      days_until_expiration: String(
        Math.floor((Date.parse(validTo) - this.#site.clock.millis()) / (24 * 60 * 60 * 1000)),
      ),
      valid_from: time(validFrom),
      expiration_time: time(validTo),
    }
    return { certificates: [{ ca_cert: [details], cert_chain: [] }] }
  }
}
