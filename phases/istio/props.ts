import type { TrustState } from '../../src/rotation.ts'

/** What every phase of one site is made from. Certificates and keys are inputs: a chart never makes or signs anything. */
export interface IstioPhaseProps {
  /** Name of the rotation; stands as an annotation on what the components patch. */
  readonly rotation: string
  /** What the folder declares once this step is in it. */
  readonly state: TrustState
  /** PEM of a certificate by its SHA-256. */
  readonly certificate: (sha256: string) => string
  /** Private key of `state.issuer`, PEM. Null where the folder delivers none (`state.source` is `own`). */
  readonly issuerKey: string | null
  /** A random value whose arrival in the cluster shows that custody is unsealed there. */
  readonly canary: string
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly delivery: 'flux' | 'argocd'
  readonly controlPlane: ControlPlaneCarrier
  /** ZTunnel resource that the same kustomization holds. @default none, no ambient mesh */
  readonly ztunnel?: { readonly name: string }
  /** Kinds that take the restart annotation, per batch of reload targets; the first is batch 1. @default [] */
  readonly workloads?: readonly (readonly string[])[]
}

/**
 * How settings and the restart token reach istiod.
 * sail: a Component patches the `Istio` resource. helmRelease: a ConfigMap that `valuesFrom` names. values: a file of Helm values.
 * `under`: keys of a chart that wraps istiod's; its values stand below them.
 */
export type ControlPlaneCarrier =
  | { readonly kind: 'sail'; readonly name: string }
  | {
      readonly kind: 'helmRelease'
      readonly name: string
      readonly namespace: string
      readonly under?: readonly string[]
    }
  | { readonly kind: 'values'; readonly under?: readonly string[] }

/** Keeps an object out of the deliverer's pruning and templating, in mid-rotation and after. */
export function protection(delivery: 'flux' | 'argocd'): Record<string, string> {
  if (delivery === 'argocd') return { 'argocd.argoproj.io/sync-options': 'Prune=false' }
  return {
    'kustomize.toolkit.fluxcd.io/prune': 'disabled',
    'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
  }
}

export const managedBy = { 'app.kubernetes.io/managed-by': 'reanchor' }
