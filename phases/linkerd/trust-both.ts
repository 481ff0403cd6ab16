import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Anchors } from './anchors.ts'
import { Canary } from './canary.ts'
import { HelmValues } from './helm-values.ts'
import { Issuer } from './issuer.ts'
import type { LinkerdPhaseProps } from './props.ts'
import { ControlPlane, DataPlane } from './restarts.ts'

/**
 * Verifiers trust the old root, then old and new; holders present leaves of the old CA.
 *
 * First where anchors are read, then the control plane restarts (identity accepts an issuer only by the anchors of its own start), then the
 * data plane, whose pods get their anchors from the injector.
 * Ways out: forward to issue-new, once every proxy of every cluster has both; back, by another restart of what has restarted.
 */
export class TrustBoth extends Chart {
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
