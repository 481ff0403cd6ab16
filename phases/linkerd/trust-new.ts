import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Anchors } from './anchors.ts'
import { Canary } from './canary.ts'
import { HelmValues } from './helm-values.ts'
import { Issuer } from './issuer.ts'
import type { LinkerdPhaseProps } from './props.ts'
import { ControlPlane, DataPlane } from './restarts.ts'

/**
 * Verifiers trust both roots, then the new one only; holders present leaves of the new CA.
 *
 * As in trust-both: data, control plane, data plane. A proxy that does not restart trusts both a while longer, which breaks nothing.
 * Ways out: the closing pull request; back to both roots, by another restart of what has restarted.
 */
export class TrustNew extends Chart {
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
