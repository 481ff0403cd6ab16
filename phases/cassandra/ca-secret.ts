import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { placeIn } from '../site-file.ts'
import { type CassandraPhaseProps, managedBy, protection } from './props.ts'

/** File of the CA Secret in a site's folder. */
export const caSecretFile = 'ca-secret.yaml'

/**
 * The Secret that the operator signs nodes from: one key for each CA that nodes trust, and the private key of the one that signs. `data`, never
 * `stringData`: a key of the latter could not be taken away again, and `drop` does nothing else.
 */
export class CaSecret extends Construct {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    const { secret, data } = props
    const object = new k8s.KubeSecret(this, 'secret', {
      metadata: {
        name: secret.name,
        namespace: secret.namespace,
        labels: managedBy,
        annotations: protection(props.delivery),
      },
      type: secret.type,
      data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
    })
    placeIn(object, { path: caSecretFile, privateKeys: [...props.privateKeys] })
  }
}
