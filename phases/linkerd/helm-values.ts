import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { rotationAnnotation, trustAnnotation } from '../../src/names.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { yamlText } from '../../src/render/yaml.ts'
import { controlPlaneKey } from '../../src/systems/linkerd/phases.ts'
import { placeIn } from '../site-file.ts'
import { anchorsOf } from './anchors.ts'
import { valuesFile, valuesName } from './files.ts'
import { type LinkerdPhaseProps, managedBy, protection } from './props.ts'

/** Values of Linkerd's chart that a state declares, below the keys of a chart that wraps it. No key is among them. */
export function chartValues(props: LinkerdPhaseProps): Record<string, unknown> {
  const { chart } = props.controlPlane
  if (chart === null) return {}
  const values: Record<string, unknown> = {}
  if (chart.anchors !== null) put(values, [...chart.under, ...chart.anchors.path], anchorsOf(props))
  const token = props.state.restarts[controlPlaneKey]
  if (chart.podAnnotations !== null && token !== undefined)
    put(values, [...chart.under, ...chart.podAnnotations, trustAnnotation], token)
  if (chart.issuerExpiry) put(values, [...chart.under, 'identity', 'issuer', 'crtExpiry'], expiryOf(props))
  return values
}

/** As the chart's README has it: `date -d '+8760 hour' +"%Y-%m-%dT%H:%M:%SZ"`. */
function expiryOf({ state, certificate }: LinkerdPhaseProps): string {
  return readCertificate(certificate(state.issuer)).parts.notAfter.toISOString().replace('.000Z', 'Z')
}

function put(values: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path
  if (key === undefined) throw new Error('a value without a path')
  if (rest.length === 0) {
    values[key] = value
    return
  }
  const inner = (values[key] ?? {}) as Record<string, unknown>
  values[key] = inner
  put(inner, rest, value)
}

/** The ConfigMap that a HelmRelease takes the values from; an Application takes a file. helm-controller looks anew when it changes. */
export class HelmValues extends Construct {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    const { chart } = props.controlPlane
    if (chart?.kind !== 'helmRelease') return
    const map = new k8s.KubeConfigMap(this, 'values', {
      metadata: {
        name: valuesName,
        // helm-controller reads valuesFrom in the HelmRelease's own namespace only.
        namespace: chart.namespace,
        labels: { ...managedBy, ...watched },
        annotations: { ...protection(props.delivery), [rotationAnnotation]: props.rotation },
      },
      data: { 'values.yaml': yamlText(chartValues(props)) },
    })
    placeIn(map, { path: valuesFile, privateKeys: [] })
  }
}

/** Flux looks at a HelmRelease at once when what its `valuesFrom` names and carries this label has changed. */
export const watched = { 'reconcile.fluxcd.io/watch': 'Enabled' }
