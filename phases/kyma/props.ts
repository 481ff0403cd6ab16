import type { TrustState } from '../../src/rotation.ts'

/** What every phase of one site is made from. Certificates and keys are inputs: a chart never makes or signs anything. */
export interface KymaPhaseProps {
  readonly rotation: string
  /** What the folder declares once this step is in it. */
  readonly state: TrustState
  /** The Secret from which the connector signs: one certificate, never a bundle, and its key. */
  readonly signer: SecretPlace & {
    readonly certificate: { readonly key: string; readonly text: string }
    readonly privateKey: { readonly key: string; readonly text: string }
  }
  /** The one key of the gateway's Secret that a rotation is about; the others belong to whoever wrote them. */
  readonly gateway: SecretPlace & { readonly bundle: { readonly key: string; readonly text: string } }
  /** Deployment of the ingress gateway, where it reads its CA from files. @default none: a credential name is pushed */
  readonly deployment?: { readonly namespace: string; readonly name: string }
  /** A random value whose arrival in the cluster shows that custody is unsealed there. */
  readonly canary: string
  readonly delivery: 'flux' | 'argocd'
}

export interface SecretPlace {
  readonly namespace: string
  readonly name: string
  /** Immutable in Kubernetes, so it is what the live Secret has. */
  readonly type: string
}

/**
 * Keeps an object in the cluster whatever becomes of its file, and everything in it that is not declared here. While either Secret is missing Kyma's
 * setup job makes a new CA and overwrites both; and a Deployment that a deliverer prunes is a gateway that is gone.
 */
export function protection(delivery: KymaPhaseProps['delivery']): Record<string, string> {
  if (delivery === 'argocd')
    return { 'argocd.argoproj.io/sync-options': 'Prune=false,Delete=false,ServerSideApply=true' }
  return {
    'kustomize.toolkit.fluxcd.io/prune': 'disabled',
    'kustomize.toolkit.fluxcd.io/ssa': 'Merge',
    'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
  }
}

export const managedBy = { 'app.kubernetes.io/managed-by': 'reanchor' }
