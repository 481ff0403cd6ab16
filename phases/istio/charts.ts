import type { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { Adopt } from './adopt.ts'
import { EnableMultiroot } from './enable-multiroot.ts'
import { IssueNew } from './issue-new.ts'
import type { IstioPhaseProps } from './props.ts'
import { Replace } from './replace.ts'
import { TrustBoth } from './trust-both.ts'
import { TrustNew } from './trust-new.ts'

type PhaseChart = new (scope: Construct, id: string, props: IstioPhaseProps) => Chart

/** The chart of each phase by its name, as src/systems/istio/phases.ts names them. */
export const istioCharts: Readonly<Record<string, PhaseChart>> = {
  adopt: Adopt,
  'enable-multiroot': EnableMultiroot,
  'trust-both': TrustBoth,
  'issue-new': IssueNew,
  'trust-new': TrustNew,
  replace: Replace,
}
