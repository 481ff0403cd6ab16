import type { TrustState } from '../../src/rotation.ts'
import type { IssuerScheme } from '../../src/systems/linkerd/issuer-secret.ts'

/** What every phase of one site is made from. Certificates and keys are inputs: a chart never makes or signs anything. */
export interface LinkerdPhaseProps {
  /** Name of the rotation; stands as an annotation on what the components patch. */
  readonly rotation: string
  /** What the folder declares once this step is in it. */
  readonly state: TrustState
  /** PEM of a certificate by its SHA-256. */
  readonly certificate: (sha256: string) => string
  /** Private key of `state.issuer`: PEM, or a value that custody sealed before. */
  readonly issuerKey: string
  /** A random value whose arrival in the cluster shows that custody is unsealed there. */
  readonly canary: string
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly delivery: 'flux' | 'argocd'
  /** The form of Secret linkerd-identity-issuer, and its type, which Kubernetes does not let anyone change. */
  readonly issuerSecret: {
    readonly scheme: IssuerScheme
    readonly type: string
    /** The chart makes the Secret from values that a HelmRelease of this namespace takes from a Secret. @default null, the folder delivers it */
    readonly values?: { readonly namespace: string } | null
  }
  readonly controlPlane: LinkerdControlPlane
  /** What restarts, per batch of reload targets; the first is batch 1. @default [] */
  readonly workloads?: readonly LinkerdWorkloads[]
}

/** Where the user's manifests of the control plane hold anchors, as they are before the rotation. */
export interface LinkerdControlPlane {
  /** `data.global` of ConfigMap linkerd-config, up to 2.8; null: there is none. */
  readonly global: string | null
  /** `data.values` of the same, where it holds the anchors, from 2.9 on. */
  readonly values: string | null
  /** `data["ca-bundle.crt"]` of ConfigMap linkerd-identity-trust-roots, from 2.11 on. */
  readonly trustRoots: string | null
  /** The folder delivers that ConfigMap itself, because the user's manifests hold none (`identity.externalCA`). */
  readonly ownTrustRoots: boolean
  /** It does so by a Bundle, which trust-manager makes the ConfigMap of. @default false */
  readonly bundle?: boolean
  /** Deployments of the control plane by name, and where the container of their proxy stands. */
  readonly deployments: readonly ProxyPlace[]
  /** Their proxies have the anchors as a literal, which must change with the restart. */
  readonly literal: boolean
  /** Their pods carry `linkerd.io/trust-root-sha256`, which `linkerd upgrade` would set. */
  readonly rootHash: boolean
  /** What installs Linkerd as a chart, which then makes all of the above itself; null: manifests, which are patched. */
  readonly chart: LinkerdChart | null
}

/** A chart of Linkerd: linkerd2 up to 2.11, linkerd-control-plane from 2.12 on. */
export interface LinkerdChart {
  readonly kind: 'helmRelease' | 'application'
  /** Namespace of the HelmRelease. */
  readonly namespace: string
  /** Keys of a chart that wraps it; its values stand below them. */
  readonly under: readonly string[]
  /** The value that holds the anchors, and its text before the rotation; null: the chart takes none (`identity.externalCA`). */
  readonly anchors: { readonly path: readonly string[]; readonly present: string | null } | null
  /** The value whose entries stand on every pod of the control plane; null: 2.7 and 2.8 have none. */
  readonly podAnnotations: readonly string[] | null
  /** It demands the end of the issuer as a value of its own. */
  readonly issuerExpiry: boolean
}

export interface ProxyPlace {
  readonly kind: string
  readonly name: string
  /** Null: the one that its kustomization gives it. */
  readonly namespace: string | null
  readonly list: 'containers' | 'initContainers'
}

export interface LinkerdWorkloads {
  readonly kinds: readonly string[]
  /** Those whose proxy was injected by hand: their anchors are a literal in Git, which no injector renews. */
  readonly manual: readonly ProxyPlace[]
}

/** Linkerd's own, on every pod of the control plane: SHA-256 of the anchors as its chart was given them. */
export const rootHashAnnotation = 'linkerd.io/trust-root-sha256'
/** Environment variable that a proxy reads its anchors from, once. */
export const anchorsVariable = 'LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS'

/** Keeps an object in the cluster whatever becomes of its file, and its text out of the deliverer's templating. */
export function protection(delivery: 'flux' | 'argocd'): Record<string, string> {
  if (delivery === 'argocd') return { 'argocd.argoproj.io/sync-options': 'Prune=false' }
  return {
    'kustomize.toolkit.fluxcd.io/prune': 'disabled',
    'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
  }
}

export const managedBy = { 'app.kubernetes.io/managed-by': 'reanchor' }
