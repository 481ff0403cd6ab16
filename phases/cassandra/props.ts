import type { TrustState } from '../../src/rotation.ts'

/** What every phase of one region is made from. Certificates and keys are inputs: a chart never makes or signs anything. */
export interface CassandraPhaseProps {
  readonly rotation: string
  /** What the folder declares once this step is in it. */
  readonly state: TrustState
  /** The CA Secret as the CassandraCluster names it. */
  readonly secret: {
    readonly namespace: string
    readonly name: string
    /** Immutable in Kubernetes, so it is what the live Secret has. */
    readonly type: string
  }
  /** The whole data of the Secret in this state, as text. */
  readonly data: Readonly<Record<string, string>>
  /** Keys of `data` that custody must seal. */
  readonly privateKeys: readonly string[]
  /** A random value whose arrival in the cluster shows that custody is unsealed there. */
  readonly canary: string
  readonly delivery: 'flux' | 'argocd'
}

/**
 * Keeps the Secret in the cluster whatever becomes of its file. Gone for a moment only, the operator would sign all nodes with a CA that
 * it makes up (mr-cassop controllers/cassandra_tls.go, getTLSSecret). Nothing of the operator's own annotations stands here: a value in
 * Git would be fought over, and every write of it restarts all nodes.
 */
export function protection(delivery: CassandraPhaseProps['delivery']): Record<string, string> {
  if (delivery === 'argocd') return { 'argocd.argoproj.io/sync-options': 'Prune=false,Delete=false' }
  return {
    'kustomize.toolkit.fluxcd.io/prune': 'disabled',
    'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
  }
}

export const managedBy = { 'app.kubernetes.io/managed-by': 'reanchor' }
