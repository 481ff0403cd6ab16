import type { ResourceType } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'

/**
 * What the API server asks of Linkerd, by certificates that are a PKI of their own: `linkerd check` looks at each (linkerd2 pkg/healthcheck, category
 * linkerd-webhooks-and-apisvc-tls), and a rotation must leave all of them alone. What one that has ended breaks differs, and so does what is made of it.
 */
export interface LinkerdWebhook {
  readonly kind: 'MutatingWebhookConfiguration' | 'ValidatingWebhookConfiguration'
  readonly type: ResourceType
  readonly name: string
  /** Of the Service that the API server asks: `<service>.<namespace>.svc` is who it must be. */
  readonly service: string
  /** Of the container's port in the chart. */
  readonly port: string
  /**
   * What is refused, or goes on unasked: pods, which each restart of a rotation makes anew, or objects that no step writes, but which may stand in
   * one kustomization with a workload and hold its delivery up.
   */
  readonly asks: 'pods' | 'objects'
}

/** Without it pods have no proxy, whatever its failurePolicy says. */
export const injectorWebhook: LinkerdWebhook = {
  kind: 'MutatingWebhookConfiguration',
  type: resources.mutatingWebhooks,
  name: 'linkerd-proxy-injector-webhook-config',
  service: 'linkerd-proxy-injector',
  port: 'proxy-injector',
  asks: 'pods',
}

/** Beside the injector; one that is not there asks nobody. */
export const otherWebhooks: readonly LinkerdWebhook[] = [
  {
    kind: 'MutatingWebhookConfiguration',
    type: resources.mutatingWebhooks,
    name: 'linkerd-tap-injector-webhook-config',
    service: 'tap-injector',
    port: 'tap-injector',
    asks: 'pods',
  },
  {
    kind: 'ValidatingWebhookConfiguration',
    type: resources.validatingWebhooks,
    name: 'linkerd-sp-validator-webhook-config',
    service: 'linkerd-sp-validator',
    port: 'sp-validator',
    asks: 'objects',
  },
  // From 2.11 on.
  {
    kind: 'ValidatingWebhookConfiguration',
    type: resources.validatingWebhooks,
    name: 'linkerd-policy-validator-webhook-config',
    service: 'linkerd-policy-validator',
    port: 'policy-https',
    asks: 'objects',
  },
]

/** As an owner in evidence, and in what a gate says. */
export function webhookOwner({ kind, name }: LinkerdWebhook): string {
  return `${kind}/${name}`
}
