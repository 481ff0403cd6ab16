import { cassandraGuards } from './cassandra-guards.ts'
import type { Guard } from './guard.ts'
import { istioGuards } from './istio-guards.ts'
import { kymaGuards } from './kyma-guards.ts'
import { linkerdGuards } from './linkerd-guards.ts'
import { sharedGuards } from './shared-guards.ts'

/** Every check that is taken out, one by one. */
export const guards: readonly Guard[] = [
  ...sharedGuards,
  ...istioGuards,
  ...linkerdGuards,
  ...kymaGuards,
  ...cassandraGuards,
]

/** Those that are over before a node of Cassandra has restarted. */
export const quickScenarios: ReadonlySet<string> = new Set(['paused', 'edited-folder', 'unsealed-key'])
