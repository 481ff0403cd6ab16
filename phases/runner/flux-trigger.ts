import { ApiObject, Chart } from 'cdk8s'
import type { Construct } from 'constructs'

export interface FluxTriggerProps {
  /** Namespace of Flux, and of the objects that are made. */
  readonly namespace: string
  /** Kustomizations that deliver reanchor's site folders. */
  readonly kustomizations: readonly string[]
  /** GitRepository that they read from. */
  readonly gitRepository: string
  /** https://… of the repository on GitHub that runs the workflow. */
  readonly repository: string
  /** Secret with the key `token`: a GitHub token that may send repository_dispatch. @default reanchor-dispatch */
  readonly dispatchSecret?: string
  /** Secret with the key `token`: what the forge's webhook is signed with. @default reanchor-webhook */
  readonly webhookSecret?: string
}

/**
 * Both ways between the forge and Flux, so that nobody waits for a poll: a merge makes Flux look at Git at once, and what Flux applied starts the runner's
 * workflow (event type `Kustomization/<name>.<namespace>`). Both write to the cluster by Flux's own hand; reanchor does not.
 */
export class FluxTrigger extends Chart {
  constructor(scope: Construct, id: string, props: FluxTriggerProps) {
    super(scope, id, { namespace: props.namespace, disableResourceNameHashes: true })
    new ApiObject(this, 'receiver', {
      apiVersion: 'notification.toolkit.fluxcd.io/v1',
      kind: 'Receiver',
      metadata: { name: 'reanchor' },
      spec: {
        type: 'github',
        events: ['ping', 'push'],
        secretRef: { name: props.webhookSecret ?? 'reanchor-webhook' },
        resources: [
          { apiVersion: 'source.toolkit.fluxcd.io/v1', kind: 'GitRepository', name: props.gitRepository },
          ...props.kustomizations.map(name => ({
            apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
            kind: 'Kustomization',
            name,
          })),
        ],
      },
    })
    new ApiObject(this, 'provider', {
      apiVersion: 'notification.toolkit.fluxcd.io/v1beta3',
      kind: 'Provider',
      metadata: { name: 'reanchor' },
      spec: {
        type: 'githubdispatch',
        address: props.repository,
        secretRef: { name: props.dispatchSecret ?? 'reanchor-dispatch' },
      },
    })
    new ApiObject(this, 'alert', {
      apiVersion: 'notification.toolkit.fluxcd.io/v1beta3',
      kind: 'Alert',
      metadata: { name: 'reanchor' },
      spec: {
        summary: 'a folder of reanchor was applied, or could not be',
        providerRef: { name: 'reanchor' },
        eventSeverity: 'info',
        eventSources: props.kustomizations.map(name => ({ kind: 'Kustomization', name })),
      },
    })
  }
}
