import { ApiObject, Chart } from 'cdk8s'
import type { Construct } from 'constructs'

export interface ArgoCdTriggerProps {
  /** Namespace of Argo CD. */
  readonly namespace: string
  /** OWNER/NAME on GitHub of the repository that runs the workflow. */
  readonly repository: string
}

/**
 * Argo CD's notifications start the runner's workflow once an Application has brought a new revision (event type `reanchor-applied`). The ConfigMap has one owner:
 * where there is one already, its keys go into that. Applications subscribe by the annotation
 * `notifications.argoproj.io/subscribe.reanchor-applied.reanchor: ""`; the token stands as `reanchor-dispatch-token` in Secret argocd-notifications-secret.
 */
export class ArgoCdTrigger extends Chart {
  constructor(scope: Construct, id: string, props: ArgoCdTriggerProps) {
    super(scope, id, { namespace: props.namespace, disableResourceNameHashes: true })
    const lines = (...text: readonly string[]): string => `${text.join('\n')}\n`
    new ApiObject(this, 'notifications', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'argocd-notifications-cm' },
      data: {
        'service.webhook.reanchor': lines(
          'url: https://api.github.com',
          'headers:',
          '  - name: Authorization',
          '    value: Bearer $reanchor-dispatch-token',
          '  - name: Accept',
          '    value: application/vnd.github+json',
        ),
        'template.reanchor-applied': lines(
          'webhook:',
          '  reanchor:',
          '    method: POST',
          `    path: /repos/${props.repository}/dispatches`,
          '    body: |',
          '      {"event_type": "reanchor-applied", "client_payload": {"application": "{{.app.metadata.name}}"}}',
        ),
        'trigger.reanchor-applied': lines(
          '- description: an Application has brought a new revision, and is healthy',
          "  when: app.status.operationState != nil and app.status.operationState.phase in ['Succeeded'] and app.status.health.status == 'Healthy'",
          '  oncePer: app.status.sync.revision',
          '  send: [reanchor-applied]',
        ),
      },
    })
  }
}
