import { ApiObject } from 'cdk8s'
import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { rotationAnnotation, trustAnnotation } from '../../src/names.ts'
import { gatewayRestart } from '../../src/systems/kyma/phases.ts'
import { placeIn } from '../site-file.ts'
import { type KymaPhaseProps, managedBy, protection } from './props.ts'

/** File of the gateway's Secret in a site's folder. */
export const gatewayFile = 'gateway-ca.yaml'
/** File with the restart of the gateway, where it needs one. */
const restartFile = 'gateway-restart.yaml'

/**
 * What the gateway verifies clients with: one key of its Secret. The server certificate that Kyma 1.18 patches into the same Secret is not named, so that it stays.
 */
export class Gateway extends Construct {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    const { namespace, name, type, bundle } = props.gateway
    const secret = new k8s.KubeSecret(this, 'secret', {
      metadata: { name, namespace, labels: managedBy, annotations: protection(props.delivery) },
      type,
      data: { [bundle.key]: Buffer.from(bundle.text).toString('base64') },
    })
    placeIn(secret, { path: gatewayFile, privateKeys: [] })
    if (props.deployment !== undefined) new Restart(this, 'restart', props, props.deployment)
  }
}

/**
 * Rolls the gateway's Deployment by an annotation of its pod template, and names nothing else of it: replicas are the autoscaler's, the rest is Istio's.
 * A roll-out brings a new pod up before an old one goes; `kubectl delete po -l app=istio-ingressgateway`, as in the runbook, takes all of them at once.
 */
class Restart extends Construct {
  constructor(
    scope: Construct,
    id: string,
    props: KymaPhaseProps,
    { namespace, name }: NonNullable<KymaPhaseProps['deployment']>,
  ) {
    super(scope, id)
    const token = props.state.restarts[gatewayRestart]
    if (token === undefined) return
    const patch = new ApiObject(this, 'deployment', {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: {
        name,
        namespace,
        annotations: { ...protection(props.delivery), [rotationAnnotation]: props.rotation },
      },
      spec: { template: { metadata: { annotations: { [trustAnnotation]: token } } } },
    })
    placeIn(patch, { path: restartFile, privateKeys: [] })
  }
}
