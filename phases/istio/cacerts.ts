import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { joinPem } from '../../src/pki/bundle.ts'
import { placeIn } from '../site-file.ts'
import { type IstioPhaseProps, managedBy, protection } from './props.ts'

/** The public files of a plugged CA by their key in `cacerts`: exact bytes, every PEM with one newline at its end. */
export function publicFiles(props: Pick<IstioPhaseProps, 'state' | 'certificate'>): Record<string, string> {
  const { state, certificate } = props
  return {
    'ca-cert.pem': joinPem(certificate(state.issuer)),
    'cert-chain.pem': joinPem(...state.chain.map(certificate)),
    'root-cert.pem': joinPem(...state.bundle.map(certificate)),
  }
}

/**
 * The Secret that istiod reads its CA from, with all four keys: istiod 1.26 and later refuses to start with fewer, and earlier ones
 * fall back to a self-signed CA in silence (istio security/pkg/pki/ca, checkCABundleCompleteness).
 */
export class CaCerts extends Construct {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    if (props.issuerKey === null) throw new Error('cacerts needs the private key of its issuing CA')
    const files = { ...publicFiles(props), 'ca-key.pem': props.issuerKey }
    const secret = new k8s.KubeSecret(this, 'secret', {
      metadata: {
        name: 'cacerts',
        namespace: props.namespace,
        labels: managedBy,
        annotations: protection(props.delivery),
      },
      type: 'Opaque',
      data: Object.fromEntries(Object.entries(files).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
    })
    placeIn(secret, { path: 'cacerts.yaml', privateKeys: ['ca-key.pem'] })
  }
}
