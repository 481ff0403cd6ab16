import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Verifiers trust both roots, then the new one only; holders present leaves of the new CA.
 *
 * The bundle is the new root alone. A connection that is open keeps its certificates, so a mistake here shows on new connections.
 * Ways out: the closing pull request; back to issue-new, by putting the old root back first.
 */
export class TrustNew extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
