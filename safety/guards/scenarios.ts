import { cassandraScenarios } from './cassandra-scenarios.ts'
import { istioScenarios } from './istio-scenarios.ts'
import { kymaScenarios } from './kyma-scenarios.ts'
import { linkerdScenarios } from './linkerd-scenarios.ts'
import type { Scenario } from './scenario.ts'
import { sharedScenarios } from './shared-scenarios.ts'

export const scenarios: readonly Scenario[] = [
  ...sharedScenarios,
  ...istioScenarios,
  ...linkerdScenarios,
  ...kymaScenarios,
  ...cassandraScenarios,
]
