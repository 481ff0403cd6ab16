import { createHash } from 'node:crypto'
import { ApiObject } from 'cdk8s'
import { Construct } from 'constructs'
import { rotationAnnotation, trustAnnotation } from '../../src/names.ts'
import { anchorText } from '../../src/systems/linkerd/go-pem.ts'
import { controlPlaneKey, dataPlaneKey, literalAnchors } from '../../src/systems/linkerd/phases.ts'
import { placeIn } from '../site-file.ts'
import { controlPlaneComponent } from './files.ts'
import { anchorsVariable, type LinkerdPhaseProps, type ProxyPlace, rootHashAnnotation } from './props.ts'

/** File of a hand-injected workload's patch within the Component of its batch. */
export function manualFile(place: Pick<ProxyPlace, 'kind' | 'name' | 'namespace'>): string {
  return `${[place.kind.toLowerCase(), ...(place.namespace === null ? [] : [place.namespace]), place.name].join('-')}.yaml`
}

/**
 * Restarts the control plane by an annotation of its pod templates. Up to 2.10 its proxies have the anchors as a literal beside it, which is
 * what `linkerd upgrade` and `linkerd inject --manual` write.
 */
export class ControlPlane extends Construct {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    const { controlPlane, namespace } = props
    for (const place of controlPlane.deployments) {
      const patch = new ApiObject(this, place.name, {
        apiVersion: 'apps/v1',
        kind: place.kind,
        metadata: { name: place.name, namespace, annotations: { [rotationAnnotation]: props.rotation } },
        ...templateOf(props, controlPlaneKey, controlPlane.literal ? place : null, controlPlane.rootHash),
      })
      placeIn(patch, { path: `${controlPlaneComponent}/${place.name}.yaml`, privateKeys: [] })
    }
  }
}

/**
 * Restarts workloads by an annotation of their pod template, which their own kustomizations take in as a Component. The patch names no object
 * of its own: its target, a kind pattern, decides. What was injected by hand gets a patch of its own besides, as its anchors lie in Git.
 */
export class DataPlane extends Construct {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    for (const [index, { manual }] of (props.workloads ?? []).entries()) {
      const key = dataPlaneKey(index + 1)
      const patch = new ApiObject(this, key, {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'any', annotations: { [rotationAnnotation]: props.rotation } },
        ...templateOf(props, key, null, false),
      })
      placeIn(patch, { path: `components/${key}/patch.yaml`, privateKeys: [] })
      for (const place of manual) {
        const spec = templateOf(props, key, place, false)
        const own = new ApiObject(this, `${key}-${manualFile(place)}`, {
          apiVersion: 'apps/v1',
          kind: place.kind,
          metadata: { name: place.name, annotations: { [rotationAnnotation]: props.rotation } },
          ...spec,
        })
        placeIn(own, { path: `components/${key}/${manualFile(place)}`, privateKeys: [] })
      }
    }
  }
}

/** Nothing until the first restart of a class: before it, a pod template must not change by a byte. */
function templateOf(props: LinkerdPhaseProps, key: string, literal: ProxyPlace | null, hash: boolean): object {
  const token = props.state.restarts[key]
  if (token === undefined) return {}
  const anchors = anchorText(literalAnchors(props.state, key).map(props.certificate))
  const annotations: Record<string, string> = { [trustAnnotation]: token }
  if (hash) annotations[rootHashAnnotation] = createHash('sha256').update(anchors).digest('hex')
  const spec =
    literal === null
      ? {}
      : { spec: { [literal.list]: [{ name: 'linkerd-proxy', env: [{ name: anchorsVariable, value: anchors }] }] } }
  return { spec: { template: { metadata: { annotations }, ...spec } } }
}
