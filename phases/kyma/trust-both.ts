import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Canary } from './canary.ts'
import { Gateway } from './gateway.ts'
import type { KymaPhaseProps } from './props.ts'
import { Signer } from './signer.ts'

/**
 * The gateway trusts the old CA, then old and new; the connector issues from the old one; leaves are of the old one.
 *
 * The runbook gives the new certificate to the connector first (its step 4) and to the gateway later (step 8): whoever renews in between is refused. Here trust
 * comes first. The bundle stands in the gateway's Secret only: the connector would read its first block and drop the other.
 * Ways out: forward to issue-new, once every gateway pod trusts both; back to adopt.
 */
export class TrustBoth extends Chart {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Gateway(this, 'gateway', props)
    new Signer(this, 'signer', props)
  }
}
