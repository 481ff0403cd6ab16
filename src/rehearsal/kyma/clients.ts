import { type ConnectionKind, compassName, connectionKinds, renewsAt } from '../../systems/kyma/runtime.ts'
import type { Life } from '../certificates.ts'
import { type ObjectStore, type StoredObject, textAt } from '../objects.ts'
import type { Site } from '../site.ts'
import type { Connector, Issued } from './connector.ts'
import { demoKyma } from './fleet.ts'

/** Whether a gateway takes this identity now: a handshake with a pod of it. */
export type Meets = (identity: Issued) => Promise<string | null>

/** Of synchronisation, in milliseconds (connectivity-certs-controller, compass-runtime-agent). */
const syncPeriod = 300_000

interface ClientParts {
  readonly site: Site
  readonly connector: Connector
  readonly meets: Meets
  /** Its material changed: whoever meets it should meet it again. */
  readonly changed: () => void
  readonly name: string
  /** Hours that its certificate lives. */
  readonly hours: number
}

/** An application: it holds a client certificate, and renews it when its owner says so. No resource in any cluster tells of it. */
export class Application {
  readonly name: string
  readonly #parts: ClientParts
  #identity: Issued | null = null

  constructor(parts: ClientParts) {
    this.#parts = parts
    this.name = parts.name
  }

  get identity(): Issued | null {
    return this.#identity
  }

  /** With a token, which needs no certificate. */
  async onboard(): Promise<boolean> {
    if (!this.#parts.connector.redeem(this.#parts.connector.csrInfoUrl('application'))) return false
    this.#identity = await this.#parts.connector.sign(this.name, this.#parts.hours)
    this.#parts.changed()
    return true
  }

  /** Through the gateway, which must still take its certificate; false where it does not. */
  async renew(): Promise<boolean> {
    const identity = this.#identity
    if (identity === null || (await this.#parts.meets(identity)) !== null) return false
    this.#identity = await this.#parts.connector.sign(this.name, this.#parts.hours)
    this.#parts.changed()
    return true
  }
}

export interface RuntimeParts extends ClientParts {
  /** Its own cluster. */
  readonly store: ObjectStore
  readonly kind: ConnectionKind
  /** Name of its connection. */
  readonly connection: string
}

/**
 * A runtime in a cluster of its own. Every five minutes it calls the central cluster through the gateway; it renews its certificate with less than 30 % of the validity
 * left, or when told, and only through that gateway. A CertificateRequest brings it a first certificate by a token, and is deleted.
 */
export class Runtime {
  readonly name: string
  /** Set by tests and faults: it synchronises, but never renews. */
  stubborn = false
  /** Set by tests and faults: nothing that it sends leaves its cluster. */
  cutOff = false
  readonly #parts: RuntimeParts
  #identity: Issued | null = null
  #life: Life | null = null
  #busy = false

  constructor(parts: RuntimeParts) {
    this.#parts = parts
    this.name = parts.name
    parts.store.onChange(({ what, object }) => {
      if (what === 'created' && object.kind === 'CertificateRequest')
        parts.site.clock.after(1_000, async () => await this.#requested(object))
    })
    this.#tick()
  }

  get identity(): Issued | null {
    return this.#identity
  }

  get kind(): ConnectionKind {
    return this.#parts.kind
  }

  get connection(): string {
    return this.#parts.connection
  }

  /** A first certificate, that was issued some hours ago. */
  async onboard(age = 0): Promise<void> {
    await this.#take(await this.#parts.connector.sign(this.name, this.#parts.hours), age)
    this.#written(null)
  }

  /** What a person runs in its cluster. */
  ask(): void {
    const { store } = this.#parts
    const live = this.#live()
    if (live === null) return
    store.update(live, 'kubectl-patch', next => {
      next.spec = {
        ...(next.spec as Record<string, unknown>),
        [this.#parts.kind === 'central' ? 'renewNow' : 'refreshCredentialsNow']: true,
      }
    })
  }

  /** A CertificateRequest, as a person creates it with a URL that the connector gave a moment ago; the agent of Compass gets a new token. */
  request(): void {
    const { store, connector, kind, connection } = this.#parts
    if (kind === 'compass') {
      this.#parts.site.clock.after(1_000, async () => {
        if (connector.redeem(connector.csrInfoUrl('runtime'))) await this.onboard()
      })
      return
    }
    store.put(
      {
        apiVersion: 'applicationconnector.kyma-project.io/v1alpha1',
        kind: 'CertificateRequest',
        metadata: { name: connection },
        spec: { csrInfoUrl: connector.csrInfoUrl('runtime') },
      },
      'kubectl-create',
    )
  }

  async #requested(request: StoredObject): Promise<void> {
    const { store, connector } = this.#parts
    const url = textAt(request, 'spec', 'csrInfoUrl') ?? ''
    if (!connector.redeem(url)) {
      // It sets the error and never tries this one again.
      store.update(request, 'connectivity-certs-controller', next => {
        next.status = { error: 'token is invalid or has expired' }
      })
      return
    }
    await this.onboard()
    store.delete(request)
  }

  #tick(): void {
    this.#parts.site.clock.after(syncPeriod, async () => {
      try {
        await this.#sync()
      } finally {
        this.#tick()
      }
    })
  }

  async #sync(): Promise<void> {
    const identity = this.#identity
    if (identity === null || this.#busy) return
    this.#busy = true
    try {
      const refused = this.cutOff ? 'dial tcp: i/o timeout' : await this.#parts.meets(identity)
      if (refused !== null) {
        this.#written(refused)
        return
      }
      if (!this.stubborn && (this.#asked() || this.renewsIn <= 0)) {
        const issued = await this.#parts.connector.sign(this.name, this.#parts.hours)
        await this.#take(issued, 0)
      }
      this.#written(null)
    } catch (error) {
      this.#written(error instanceof Error ? error.message : String(error))
    } finally {
      this.#busy = false
    }
  }

  /** Virtual milliseconds until it renews by itself; below 0: with its next synchronisation. */
  get renewsIn(): number {
    const renews = this.#life === null ? null : renewsAt(instants(this.#life))
    return renews === null ? Number.POSITIVE_INFINITY : Date.parse(renews) - this.#parts.site.clock.millis()
  }

  #asked(): boolean {
    const spec = this.#live()?.spec as Record<string, unknown> | undefined
    return spec?.renewNow === true || spec?.refreshCredentialsNow === true
  }

  async #take(issued: Issued, age: number): Promise<void> {
    const { site, store, hours, kind } = this.#parts
    const begin = site.clock.millis() - age * 3_600_000
    this.#identity = issued
    this.#life = { notBefore: new Date(begin), notAfter: new Date(begin + hours * 3_600_000) }
    const encoded = (text: string): string => Buffer.from(text).toString('base64')
    store.put(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          name: 'cluster-client-certificates',
          namespace: kind === 'central' ? 'kyma-integration' : 'compass-system',
        },
        type: 'Opaque',
        data: {
          crt: encoded(issued.certificate),
          key: encoded(issued.key),
          crtChain: encoded(issued.certificate + issued.ca),
        },
      },
      'runtime-agent',
    )
    // Its own gateway trusts what the connector answers with, alone: an update, not a merge (preserver.go).
    store.put(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'kyma-gateway-certs-cacert', namespace: 'istio-system' },
        type: 'Opaque',
        data: { cacert: encoded(issued.ca) },
      },
      'runtime-agent',
    )
    this.#parts.changed()
  }

  #live(): StoredObject | null {
    const { store, kind, connection } = this.#parts
    const group = kind === 'central' ? 'applicationconnector.kyma-project.io' : 'compass.kyma-project.io'
    return store.get(group, connectionKinds[kind], null, connection)
  }

  /** Writes spec and status in one update, and takes back the wish for a renewal, whether it was fulfilled or not. */
  #written(error: string | null): void {
    const { site, store, kind, connection } = this.#parts
    const now = site.clock.instant()
    const before = this.#live()
    const last = textAt(before, 'status', 'synchronizationStatus', 'lastSuccess')
    const lastConnected = textAt(before, 'status', 'connectionStatus', 'lastSuccess')
    const dates = this.#life === null ? {} : instants(this.#life)
    const manager = kind === 'central' ? 'connectivity-certs-controller' : 'compass-runtime-agent'
    const manifest =
      kind === 'central'
        ? {
            apiVersion: 'applicationconnector.kyma-project.io/v1alpha1',
            kind: 'CentralConnection',
            metadata: { name: connection },
            spec: {
              managementInfoUrl: `https://gateway.${demoKyma.domain}/v1/runtimes/management/info`,
              renewNow: false,
            },
          }
        : {
            apiVersion: 'compass.kyma-project.io/v1alpha1',
            kind: 'CompassConnection',
            metadata: { name: compassName },
            spec: {
              managementInfo: { connectorUrl: `https://gateway.${demoKyma.domain}` },
              refreshCredentialsNow: false,
            },
          }
    const status =
      kind === 'central'
        ? {
            synchronizationStatus: {
              lastSync: now,
              ...(error === null ? { lastSuccess: now } : last === undefined ? {} : { lastSuccess: last }),
            },
            ...(error === null ? { certificateStatus: dates } : { error: { message: error } }),
          }
        : {
            connectionState: error === null ? 'Synchronized' : 'ConnectionMaintenanceFailed',
            connectionStatus: {
              lastSync: now,
              lastSuccess: error === null ? now : (lastConnected ?? now),
              error: error ?? '',
              certificateStatus: dates,
            },
          }
    const object = store.put(manifest, manager)
    store.setStatus(object, manager, status)
  }
}

function instants(life: Life): { readonly notBefore: string; readonly notAfter: string } {
  const text = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, 'Z')
  return { notBefore: text(life.notBefore), notAfter: text(life.notAfter) }
}
