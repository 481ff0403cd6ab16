import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Anchors } from './anchors.ts'
import { Canary } from './canary.ts'
import { HelmValues } from './helm-values.ts'
import { Issuer } from './issuer.ts'
import type { LinkerdPhaseProps } from './props.ts'
import { ControlPlane, DataPlane } from './restarts.ts'

/**
 * Verifiers trust the old root; holders present leaves of the old CA.
 *
 * Today's issuer, sealed, and the wiring: anchors stay as they stand, and no pod template changes. The canary shows that the cluster unseals.
 * Ways out: forward to trust-both; abandon, which leaves everything as it was.
 */
export class Adopt extends Chart {
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
