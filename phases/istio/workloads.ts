import { ApiObject } from 'cdk8s'
import { Construct } from 'constructs'
import { rotationAnnotation, trustAnnotation } from '../../src/names.ts'
import { workloadsKey } from '../../src/systems/istio/phases.ts'
import { placeIn } from '../site-file.ts'
import type { IstioPhaseProps } from './props.ts'

/**
 * Restarts workloads by an annotation of their pod template, which their own kustomizations take in as a Component.
 * The patch names no object of its own: its target, a kind pattern, decides (kustomize ignores kind and name of a targeted patch).
 */
export class Workloads extends Construct {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    for (const [index] of (props.workloads ?? []).entries()) {
      const key = workloadsKey(index + 1)
      const token = props.state.restarts[key]
      const patch = new ApiObject(this, key, {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'any', annotations: { [rotationAnnotation]: props.rotation } },
        ...(token === undefined
          ? {}
          : { spec: { template: { metadata: { annotations: { [trustAnnotation]: token } } } } }),
      })
      placeIn(patch, { path: `components/${key}/patch.yaml`, privateKeys: [] })
    }
  }
}
