import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { issuerData, issuerSecretName, issuerValuesName, schemeKeys } from '../../src/systems/linkerd/issuer-secret.ts'
import { placeIn } from '../site-file.ts'
import { anchorsOf } from './anchors.ts'
import { issuerFile } from './files.ts'
import { watched } from './helm-values.ts'
import { type LinkerdPhaseProps, managedBy, protection } from './props.ts'

/**
 * The Secret that identity signs leaves with, in the form in which it stood before. Identity follows it while it runs, but accepts an issuer
 * only if the anchors that it was started with verify it (linkerd2 pkg/identity/service.go).
 */
export class Issuer extends Construct {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    const { state, issuerSecret } = props
    // The chart makes the Secret itself in its own form, from values: then those are what the folder delivers.
    const values = issuerSecret.values ?? null
    // Identity sends this PEM as it is with every leaf, so what lies between issuer and root belongs in it.
    const between = state.chain.filter(sha256 => sha256 !== state.issuer)
    const data = issuerData(issuerSecret.scheme, {
      certificates: [state.issuer, ...between].map(props.certificate),
      key: props.issuerKey,
      anchors: anchorsOf(props),
    })
    const secret = new k8s.KubeSecret(this, 'secret', {
      metadata: {
        name: values === null ? issuerSecretName : issuerValuesName,
        namespace: values?.namespace ?? props.namespace,
        labels: {
          ...managedBy,
          ...(values === null
            ? {
                'linkerd.io/control-plane-component': 'identity',
                'linkerd.io/control-plane-ns': props.namespace,
              }
            : watched),
        },
        annotations: protection(props.delivery),
      },
      type: issuerSecret.type,
      data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
    })
    placeIn(secret, { path: issuerFile, privateKeys: [schemeKeys[issuerSecret.scheme].key] })
  }
}
