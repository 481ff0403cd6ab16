import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Canary } from './canary.ts'
import { Gateway } from './gateway.ts'
import type { KymaPhaseProps } from './props.ts'
import { Signer } from './signer.ts'

/**
 * Phase 0. The gateway trusts the old CA; the connector issues from it; runtimes and applications present its leaves.
 *
 * Both Secrets with the values that they have. From here on the deliverer owns these keys, and a sealed canary shows that the cluster unseals.
 * Ways out: forward to trust-both, or to replace in an emergency; abandon leaves everything as it was.
 */
export class Adopt extends Chart {
  constructor(scope: Construct, id: string, props: KymaPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new Gateway(this, 'gateway', props)
    new Signer(this, 'signer', props)
  }
}
