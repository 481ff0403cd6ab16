import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaSecret } from './ca-secret.ts'
import { Canary } from './canary.ts'
import type { CassandraPhaseProps } from './props.ts'

/**
 * Nodes trust both CAs, then the new one only; they present leaves of the new CA.
 *
 * `ca2.crt` is gone, which the deliverer does only where it owns that key.
 * Ways out: the closing pull request; back to swap, which trusts the old CA again.
 */
export class Drop extends Chart {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaSecret(this, 'ca-secret', props)
  }
}
