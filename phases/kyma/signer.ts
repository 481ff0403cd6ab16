import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { placeIn } from '../site-file.ts'
import { type KymaPhaseProps, managedBy, protection } from './props.ts'

/** File of the connector's Secret in a site's folder. */
export const signerFile = 'connector-ca.yaml'

/**
 * What the connector signs client certificates with. It reads the first PEM block of the certificate and no other, so old certificates never stand here.
 * `data`, never `stringData`: base64 in one line, whatever the system's own tool wraps at.
 */
export class Signer extends Construct {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    const { namespace, name, type, certificate, privateKey } = props.signer
    const secret = new k8s.KubeSecret(this, 'secret', {
      metadata: { name, namespace, labels: managedBy, annotations: protection(props.delivery) },
      type,
      data: { [certificate.key]: base64(certificate.text), [privateKey.key]: base64(privateKey.text) },
    })
    placeIn(secret, { path: signerFile, privateKeys: [privateKey.key] })
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
