import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaSecret } from './ca-secret.ts'
import { Canary } from './canary.ts'
import type { CassandraPhaseProps } from './props.ts'

/**
 * Emergency. Nodes trust the old CA, then the new one only; they present leaves of the old CA, then of the new one.
 *
 * The old key is compromised, so no overlap is wanted: nodes that have restarted and those that have not refuse one another until the roll-out is
 * through, within a region and between regions. The plan names these pairs and is made only with an outage accepted.
 * Ways out: forward only.
 */
export class Replace extends Chart {
  constructor(scope: Construct, id: string, props: CassandraPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaSecret(this, 'ca-secret', props)
  }
}
