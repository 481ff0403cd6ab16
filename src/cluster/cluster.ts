import type { Instant } from '../rotation.ts'

/** A Kubernetes object as the API gives it. */
export interface KubernetesObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly generation?: number
    readonly creationTimestamp?: string
    readonly deletionTimestamp?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    readonly ownerReferences?: readonly {
      readonly kind: string
      readonly name: string
      readonly uid?: string
      readonly controller?: boolean
    }[]
    readonly managedFields?: readonly {
      readonly manager?: string
      readonly operation?: string
      readonly subresource?: string
      readonly time?: string
      readonly fieldsV1?: unknown
    }[]
  }
  readonly [field: string]: unknown
}

/** A resource type: `{group: 'apps', version: 'v1', plural: 'deployments'}`; the core group is ''. */
export interface ResourceType {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly namespaced: boolean
}

export interface ListOptions {
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Only metadata is asked for, as by `metadata`: of Secrets nothing else need travel. @default whole objects */
  readonly metadataOnly?: boolean
}

/** What a TLS server shows to a client that presents nothing. */
export interface ServedTls {
  /** As served, DER, leaf first. Never empty. */
  readonly chain: readonly Buffer[]
  /** DER of the names of the CAs of which it takes a client's certificate; null: it asks for none, or what it asked could not be read. */
  readonly authorities: readonly Buffer[] | null
}

/**
 * The only reader of the Kubernetes API. It never writes.
 *
 * Every method throws `ClusterError` for what keeps it from answering; an answer is a whole answer.
 * `get` returns null where the object, or the resource type itself, does not exist.
 * `list` yields pages until the list is whole, and throws `partial` where it cannot be made whole.
 */
export interface Cluster {
  /** UID of the namespace kube-system, which names the cluster, and the API server's own time. */
  identity(): Promise<{ readonly uid: string; readonly now: Instant }>
  get(type: ResourceType, namespace: string | null, name: string): Promise<KubernetesObject | null>
  /** As `get`, but only metadata travels: for Secrets, whose bytes the verifier never needs. */
  metadata(type: ResourceType, namespace: string | null, name: string): Promise<KubernetesObject | null>
  list(type: ResourceType, options?: ListOptions): AsyncIterable<readonly KubernetesObject[]>
  /**
   * HTTP GET through a port-forward to a port that listens on the pod's loopback. Body as text; non-2xx throws.
   * `timeout`: milliseconds, where less than the implementation's own are to be spent on it.
   */
  httpGet(
    pod: { readonly namespace: string; readonly name: string },
    port: number,
    path: string,
    timeout?: number,
  ): Promise<string>
  /**
   * TLS handshake with a pod's port through a port-forward, verifying nothing and presenting nothing. `timeout` as for `httpGet`.
   * A port-forward ends on the pod's loopback. Where nothing listens there, the port is dialled at `address`, if one is given.
   */
  servedTls(
    pod: { readonly namespace: string; readonly name: string; readonly address?: string },
    port: number,
    serverName: string,
    timeout?: number,
  ): Promise<ServedTls>
  close(): Promise<void>
}

/** What a ClusterError says of status 401: no role helps where the token has ended, or is of another cluster. */
export const credentialsRefused = 'the API server does not accept these credentials'

/** unreachable: no answer. forbidden: 401 or 403. partial: half a list. timeout: a port-forward that never answers. */
export type ClusterFailure = 'unreachable' | 'forbidden' | 'partial' | 'timeout' | 'malformed'

export class ClusterError extends Error {
  readonly failure: ClusterFailure
  /** What was asked: `list pods in istio-system`. */
  readonly asked: string

  constructor(failure: ClusterFailure, asked: string, detail: string, cause?: unknown) {
    super(`${asked}: ${detail}`, cause === undefined ? undefined : { cause })
    this.name = 'ClusterError'
    this.failure = failure
    this.asked = asked
  }
}
