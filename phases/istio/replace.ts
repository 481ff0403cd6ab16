import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Emergency. Verifiers trust the old root, then the new one only; holders present leaves of the old CA, then of the new one.
 *
 * The old key is compromised, so no overlap is wanted: proxies that have restarted and those that have not refuse one another
 * until the roll-out is through. The plan names these pairs and is made only with an outage accepted.
 * Ways out: forward only.
 */
export class Replace extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
