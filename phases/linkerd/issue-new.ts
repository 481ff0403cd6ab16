import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Anchors } from './anchors.ts'
import { Canary } from './canary.ts'
import { HelmValues } from './helm-values.ts'
import { Issuer } from './issuer.ts'
import type { LinkerdPhaseProps } from './props.ts'
import { ControlPlane, DataPlane } from './restarts.ts'

/**
 * Verifiers trust both roots; holders present leaves of the old CA, then of the new one.
 *
 * The new issuer goes into `linkerd-identity-issuer` alone. Identity follows it while it runs; every proxy renews its leaf after 70 % of what
 * is left of its life, at the latest within a day.
 * Ways out: forward to trust-new, once a probe has seen a leaf of the new CA at every proxy; back to the old issuer; a nudge restarts
 * identity and the workloads, where identity missed the change (linkerd2#15109).
 */
export class IssueNew extends Chart {
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
