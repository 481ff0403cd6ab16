import { ApiObject } from 'cdk8s'
import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { rotationAnnotation } from '../../src/names.ts'
import { anchorText, readAsGo } from '../../src/systems/linkerd/go-pem.ts'
import { globalAnchors, withGlobalAnchors, withValuesAnchors } from '../../src/systems/linkerd/linkerd-config.ts'
import { placeIn } from '../site-file.ts'
import { controlPlaneComponent, trustRootsFile } from './files.ts'
import { type LinkerdPhaseProps, managedBy, protection } from './props.ts'

/**
 * The anchors of a state as text: canonical, except where they are those that stand there already. Then not a byte changes, and so not
 * one pod: proxies are compared with this text, blanks and all.
 */
export function anchorsOf(props: Pick<LinkerdPhaseProps, 'state' | 'certificate' | 'controlPlane'>): string {
  const { global, trustRoots, chart } = props.controlPlane
  const present = chart?.anchors?.present ?? trustRoots ?? (global === null ? null : globalAnchors(global))
  if (present !== null) {
    const read = readAsGo(present)
    if (read.ok && read.anchors.join() === props.state.bundle.join()) return present
  }
  return anchorText(props.state.bundle.map(props.certificate))
}

/** The anchors where the injector, identity and (from 2.11 on) the control plane's own proxies read them. */
export class Anchors extends Construct {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    const { controlPlane, namespace, rotation } = props
    const anchors = anchorsOf(props)
    const config: Record<string, string> = {}
    if (controlPlane.global !== null) config.global = withGlobalAnchors(controlPlane.global, anchors)
    if (controlPlane.values !== null) config.values = withValuesAnchors(controlPlane.values, anchors)
    if (Object.keys(config).length > 0) {
      const patch = new ApiObject(this, 'linkerd-config', {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'linkerd-config', namespace, annotations: { [rotationAnnotation]: rotation } },
        data: config,
      })
      placeIn(patch, { path: `${controlPlaneComponent}/linkerd-config.yaml`, privateKeys: [] })
    }
    const data = { 'ca-bundle.crt': anchors }
    const name = 'linkerd-identity-trust-roots'
    if (controlPlane.trustRoots !== null) {
      const patch = new ApiObject(this, 'trust-roots', {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name, namespace, annotations: { [rotationAnnotation]: rotation } },
        data,
      })
      placeIn(patch, { path: `${controlPlaneComponent}/trust-roots.yaml`, privateKeys: [] })
    }
    if (!controlPlane.ownTrustRoots) return
    if (controlPlane.bundle === true) {
      placeIn(new ApiObject(this, 'bundle', bundleOf(name, anchors, props)), { path: trustRootsFile, privateKeys: [] })
      return
    }
    const map = new k8s.KubeConfigMap(this, 'own-trust-roots', {
      metadata: { name, namespace, labels: managedBy, annotations: protection(props.delivery) },
      data,
    })
    placeIn(map, { path: trustRootsFile, privateKeys: [] })
  }
}

/**
 * trust-manager writes a ConfigMap of the Bundle's name, here in the control plane's namespace alone. Its anchors stand in it, by value: from a
 * Secret or a ConfigMap of somebody else's they could change under a step that was reviewed.
 */
function bundleOf(name: string, anchors: string, { namespace, delivery }: LinkerdPhaseProps) {
  return {
    apiVersion: 'trust.cert-manager.io/v1alpha1',
    kind: 'Bundle',
    metadata: { name, labels: managedBy, annotations: protection(delivery) },
    spec: {
      sources: [{ inLine: anchors }],
      target: {
        configMap: { key: 'ca-bundle.crt' },
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
      },
    },
  }
}
