import type { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Adopt } from './adopt.ts'
import { IssueNew } from './issue-new.ts'
import type { KymaPhaseProps } from './props.ts'
import { Replace } from './replace.ts'
import { TrustBoth } from './trust-both.ts'
import { TrustNew } from './trust-new.ts'

type PhaseChart = new (scope: Construct, id: string, props: KymaPhaseProps) => Chart

/** The chart of each phase by its name, as src/systems/kyma/phases.ts names them. */
export const kymaCharts: Readonly<Record<string, PhaseChart>> = {
  adopt: Adopt,
  'trust-both': TrustBoth,
  'issue-new': IssueNew,
  'trust-new': TrustNew,
  replace: Replace,
}
