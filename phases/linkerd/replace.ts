import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Anchors } from './anchors.ts'
import { Canary } from './canary.ts'
import { HelmValues } from './helm-values.ts'
import { Issuer } from './issuer.ts'
import type { LinkerdPhaseProps } from './props.ts'
import { ControlPlane, DataPlane } from './restarts.ts'

/**
 * The old key is in foreign hands: anchors and issuer change at once, and what has not restarted yet is cut off from what has.
 *
 * There is no way back, and no overlap that would keep the stolen key trusted.
 */
export class Replace extends Chart {
  constructor(scope: Construct, id: string, props: LinkerdPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Issuer(this, 'issuer', props)
    new Anchors(this, 'anchors', props)
    new HelmValues(this, 'helm-values', props)
    new ControlPlane(this, 'control-plane', props)
    new DataPlane(this, 'data-plane', props)
  }
}
