import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaSecret } from './ca-secret.ts'
import { Canary } from './canary.ts'
import type { CassandraPhaseProps } from './props.ts'

/**
 * Nodes trust the old CA, then old and new; they present leaves of the old CA.
 *
 * `ca2.crt` is the new certificate, without its key. The operator makes new leaves all the same, signed by the old CA, and restarts every node:
 * only a node that has restarted trusts the new CA.
 * Ways out: forward to swap, once every node of every region has restarted; back to adopt.
 */
export class Add extends Chart {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaSecret(this, 'ca-secret', props)
  }
}
