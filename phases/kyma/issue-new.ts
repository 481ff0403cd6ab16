import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Canary } from './canary.ts'
import { Gateway } from './gateway.ts'
import type { KymaPhaseProps } from './props.ts'
import { Signer } from './signer.ts'

/**
 * The gateway trusts both; the connector issues from the new CA; leaves are of the old one, then of the new one.
 *
 * With strategy renew only the certificate is new: the key beside it stays, byte for byte.
 * Ways out: forward to trust-new, once every runtime has renewed and the applications' owners say so; back to trust-both.
 */
export class IssueNew extends Chart {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Gateway(this, 'gateway', props)
    new Signer(this, 'signer', props)
  }
}
