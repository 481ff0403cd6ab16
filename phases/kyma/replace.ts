import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Canary } from './canary.ts'
import { Gateway } from './gateway.ts'
import type { KymaPhaseProps } from './props.ts'
import { Signer } from './signer.ts'

/**
 * Emergency. The gateway trusts the new CA only, and the connector issues from it, in one change; leaves are of the old one until each client has a new one.
 *
 * With a new key every runtime and application is refused until it was given a new token: it cannot renew through a gateway that refuses it. The plan names these
 * pairs and is made only with an outage accepted. With a new certificate of the same key, subject and key identifier nobody is refused.
 * Ways out: forward only.
 */
export class Replace extends Chart {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Gateway(this, 'gateway', props)
    new Signer(this, 'signer', props)
  }
}
