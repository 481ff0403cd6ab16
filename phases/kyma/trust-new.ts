import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Canary } from './canary.ts'
import { Gateway } from './gateway.ts'
import type { KymaPhaseProps } from './props.ts'
import { Signer } from './signer.ts'

/**
 * The gateway trusts both, then the new CA only; the connector issues from it; leaves are of the new one.
 *
 * Ways out: the closing pull request; back to issue-new, which trusts the old CA again.
 */
export class TrustNew extends Chart {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Gateway(this, 'gateway', props)
    new Signer(this, 'signer', props)
  }
}
