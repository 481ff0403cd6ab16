import type { ClusterFailure } from '../cluster/cluster.ts'
import type { StoredObject } from './objects.ts'

/**
 * What can go wrong by name. The cluster itself acts out the first two; the others are things that people do, which the driver of a
 * rehearsal acts out through the repository.
 */
export const faultNames = [
  /** One consumer never takes up a new bundle or leaf, as an agent that hangs. */
  'never-reloads',
  /** One of several replicas keeps the material that it had, restarted or not: its node's kubelet, or its watch, sees no change. */
  'replica-lags',
  'edited-pr',
  'out-of-order',
  'revert-trust-both',
  'one-step',
] as const

export type FaultName = (typeof faultNames)[number]

/** Those that the cluster acts out by itself. */
export type ClusterFault = Extract<FaultName, 'never-reloads' | 'replica-lags'>

export interface ApiFault {
  /** `list pods in shop`, `get secrets istio-system/cacerts`, `http …`: the fault strikes where this matches. */
  readonly asked: RegExp
  readonly failure: ClusterFailure
  /** What the client says of it. @default a sentence for each kind of failure */
  readonly detail?: string
  /** How many more times it strikes; absent: always. */
  times?: number
}

/** What is out of order at one site now. A test or a driver sets and clears it while time runs. */
export interface SiteFaults {
  /** Owners (`namespace/kind/name`) whose proxies keep what they hold once they are up. */
  readonly frozen: Set<string>
  /** Nodes whose kubelet no longer sees changes; the value is what it last saw, by `kind/namespace/name`. */
  readonly staleNodes: Map<string, ReadonlyMap<string, StoredObject | null>>
  /** Owners whose new pods never get ready. */
  readonly neverReady: Set<string>
  /** Milliseconds of kubelet sync lag for one owner, in place of the drawn one. */
  readonly kubeletLag: Map<string, number>
  /** Answers of the API server that fail. */
  readonly api: ApiFault[]
  /** Added to the time that the API server tells, in milliseconds. */
  clockSkew: number
  /** Milliseconds by which the clock of a node is off. */
  readonly nodeSkew: Map<string, number>
  /** Flux and Argo CD do not look at the repository. */
  sourceStalled: boolean
  /** Reads are answered from this copy of the store, as a stale watch cache would; null: live. */
  staleReads: readonly StoredObject[] | null
  /**
   * A proxy's CA channel may reach another istiod replica than its XDS stream, as a Service gives it. Seen with the real istiod: where one
   * replica lags, such a proxy keeps the old issuer, also after a restart of istiod, until the bundle's bytes change once more.
   */
  splitReplicas: boolean
  /** Owners whose proxies hold two entries of ROOTCA, of which one keeps the roots that it had: one stream was answered before a push. */
  readonly splitEntries: Set<string>
}

export function noFaults(): SiteFaults {
  return {
    frozen: new Set(),
    staleNodes: new Map(),
    neverReady: new Set(),
    kubeletLag: new Map(),
    api: [],
    clockSkew: 0,
    nodeSkew: new Map(),
    sourceStalled: false,
    staleReads: null,
    splitReplicas: false,
    splitEntries: new Set(),
  }
}
