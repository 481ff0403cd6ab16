import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaSecret } from './ca-secret.ts'
import { Canary } from './canary.ts'
import type { CassandraPhaseProps } from './props.ts'

/**
 * Phase 0. Nodes trust the old CA and present leaves of it.
 *
 * The CA Secret as it is in the cluster, byte for byte: the checksum that the operator goes by covers every key and value, so that no node
 * restarts. From here on the deliverer owns its keys, and a sealed canary shows that the cluster unseals.
 * Ways out: forward to add; abandon leaves everything as it was.
 */
export class Adopt extends Chart {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaSecret(this, 'ca-secret', props)
  }
}
