import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Verifiers trust both roots; holders present leaves of the old CA, then of the new one.
 *
 * `cacerts` holds the new issuing CA. Its bundle repeats the new root: trust stays what it was, but the bytes change, and that
 * makes every subscribed proxy renew its leaf now instead of at half its life.
 * Ways out: forward to trust-new, once no leaf chains to the old root alone; back to the old issuer, with one more repeat.
 */
export class IssueNew extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
