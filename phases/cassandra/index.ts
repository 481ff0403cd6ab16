/** The constructs of Cassandra's phases, for cdk8s apps of your own. A chart is given certificates and keys; it never makes or signs any. */
export { Add } from './add.ts'
export { Adopt } from './adopt.ts'
export { CaSecret } from './ca-secret.ts'
export { cassandraCharts } from './charts.ts'
export { Drop } from './drop.ts'
export type { CassandraPhaseProps } from './props.ts'
export { Replace } from './replace.ts'
export { Swap } from './swap.ts'
