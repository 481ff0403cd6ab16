import { ApiObject } from 'cdk8s'
import { k8s } from 'cdk8s-plus-28'
import { Construct } from 'constructs'
import { stringify } from 'yaml'
import { rotationAnnotation, trustAnnotation } from '../../src/names.ts'
import { multirootSetting, xdsAgentSetting } from '../../src/systems/istio/phases.ts'
import { placeIn } from '../site-file.ts'
import { type IstioPhaseProps, managedBy, protection } from './props.ts'

/** Values of the istiod chart (and of the `Istio` resource, which has the same shape) that a state declares. */
function istiodValues(props: Pick<IstioPhaseProps, 'state'>): Record<string, unknown> {
  const { settings, restarts } = props.state
  const pilot: Record<string, unknown> = {}
  if (settings[multirootSetting] !== undefined) pilot.env = { [multirootSetting]: settings[multirootSetting] }
  if (restarts.istiod !== undefined) pilot.podAnnotations = { [trustAnnotation]: restarts.istiod }
  const values: Record<string, unknown> = {}
  if (Object.keys(pilot).length > 0) values.pilot = pilot
  if (settings[xdsAgentSetting] !== undefined) {
    values.meshConfig = { defaultConfig: { proxyMetadata: { [xdsAgentSetting]: settings[xdsAgentSetting] } } }
  }
  return values
}

/** The same below the keys of a chart that wraps istiod's. */
export function chartValues(props: Pick<IstioPhaseProps, 'state' | 'controlPlane'>): Record<string, unknown> {
  const under = props.controlPlane.kind === 'sail' ? [] : (props.controlPlane.under ?? [])
  const values = istiodValues(props)
  if (Object.keys(values).length === 0) return values
  return under.reduceRight<Record<string, unknown>>((inner, key) => ({ [key]: inner }), values)
}

/** Carries the flags and istiod's restart token to the control plane, in the way in which it was installed. */
export class ControlPlane extends Construct {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    const { controlPlane, rotation } = props
    const values = istiodValues(props)
    if (controlPlane.kind === 'sail') {
      const patch = new ApiObject(this, 'istio', {
        apiVersion: 'sailoperator.io/v1',
        kind: 'Istio',
        metadata: { name: controlPlane.name, annotations: { [rotationAnnotation]: rotation } },
        ...(Object.keys(values).length > 0 ? { spec: { values } } : {}),
      })
      placeIn(patch, { path: 'components/istiod/patch.yaml', privateKeys: [] })
    }
    if (controlPlane.kind === 'helmRelease') {
      const map = new k8s.KubeConfigMap(this, 'values', {
        metadata: {
          name: 'reanchor-istiod-values',
          // helm-controller reads valuesFrom in the HelmRelease's own namespace only.
          namespace: controlPlane.namespace,
          labels: { ...managedBy, 'reconcile.fluxcd.io/watch': 'Enabled' },
          annotations: { ...protection(props.delivery), [rotationAnnotation]: rotation },
        },
        data: { 'values.yaml': stringify(chartValues(props)) },
      })
      placeIn(map, { path: 'istiod-values.yaml', privateKeys: [] })
    }
    if (props.ztunnel !== undefined) {
      const token = props.state.restarts.ztunnel
      const patch = new ApiObject(this, 'ztunnel', {
        apiVersion: 'sailoperator.io/v1',
        kind: 'ZTunnel',
        metadata: { name: props.ztunnel.name, annotations: { [rotationAnnotation]: rotation } },
        ...(token === undefined
          ? {}
          : { spec: { values: { ztunnel: { podAnnotations: { [trustAnnotation]: token } } } } }),
      })
      placeIn(patch, { path: 'components/istiod/ztunnel.yaml', privateKeys: [] })
    }
  }
}
