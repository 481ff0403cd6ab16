import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Verifiers trust the old root; holders present leaves of the old CA.
 *
 * istiod learns to take a second root while it runs, and every proxy is made anew once, because the agent's flag is an
 * environment variable written at injection. Without it a proxy learns new roots only when its own leaf is renewed.
 * Ways out: forward to trust-both; back to adopt.
 */
export class EnableMultiroot extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    if (props.state.source === 'plugged') new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
