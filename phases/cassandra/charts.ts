import type { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Add } from './add.ts'
import { Adopt } from './adopt.ts'
import { Drop } from './drop.ts'
import type { CassandraPhaseProps } from './props.ts'
import { Replace } from './replace.ts'
import { Swap } from './swap.ts'

type PhaseChart = new (scope: Construct, id: string, props: CassandraPhaseProps) => Chart

/** The chart of each phase by its name, as src/systems/cassandra/phases.ts names them. */
export const cassandraCharts: Readonly<Record<string, PhaseChart>> = {
  adopt: Adopt,
  add: Add,
  swap: Swap,
  drop: Drop,
  replace: Replace,
}
