import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { canaryName } from '../../src/names.ts'
import { placeIn } from '../site-file.ts'
import { type CassandraPhaseProps, managedBy, protection } from './props.ts'

/** A sealed value of no worth: that it arrives whole shows that the cluster can unseal before a CA depends on it. */
export class Canary extends Construct {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    const secret = new k8s.KubeSecret(this, 'secret', {
      metadata: {
        name: canaryName,
        namespace: props.secret.namespace,
        labels: managedBy,
        annotations: protection(props.delivery),
      },
      type: 'Opaque',
      data: { canary: Buffer.from(props.canary).toString('base64') },
    })
    placeIn(secret, { path: 'canary.yaml', privateKeys: ['canary'] })
  }
}
