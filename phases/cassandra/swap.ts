import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaSecret } from './ca-secret.ts'
import { Canary } from './canary.ts'
import type { CassandraPhaseProps } from './props.ts'

/**
 * Nodes trust both CAs; they present leaves of the old CA, then of the new one.
 *
 * `ca.crt` and `ca.key` are the new CA, `ca2.crt` is the old certificate, in one change: a pair that does not match stops the operator. The old
 * private key leaves the Secret.
 * Ways out: forward to drop, once every node of every region presents a leaf of the new CA; back to add.
 */
export class Swap extends Chart {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaSecret(this, 'ca-secret', props)
  }
}
