import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Phase 0. Verifiers trust the old root; holders present leaves of the old CA.
 *
 * The repository is wired, the deliverer owns the folder, and a sealed canary shows that the cluster unseals. From istiod's
 * self-signed CA there is no `cacerts` yet: an istiod that restarted for another reason would plug it in too early.
 * Ways out: forward to enable-multiroot (or trust-both, where both flags are set); abandon leaves everything as it was.
 */
export class Adopt extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    if (props.state.source === 'plugged') new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
