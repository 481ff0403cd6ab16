import { Chart } from 'cdk8s'
import type { Construct } from 'constructs'
import { CaCerts } from './cacerts.ts'
import { Canary } from './canary.ts'
import { ControlPlane } from './control-plane.ts'
import type { IstioPhaseProps } from './props.ts'
import { Workloads } from './workloads.ts'

/**
 * Verifiers trust the old root, then old and new; holders present leaves of the old CA.
 *
 * `cacerts` holds the old certificate, key and chain with both roots, the old one first. From self-signed, istiod must be
 * restarted to plug it in: it is the same CA, so nothing that it has signed or will sign changes.
 * Ways out: forward to issue-new; back: `cacerts` stays with the old root alone, it is never removed.
 */
export class TrustBoth extends Chart {
  constructor(scope: Construct, id: string, props: IstioPhaseProps) {
    super(scope, id)
    new Canary(this, 'canary', props)
    new CaCerts(this, 'cacerts', props)
    new ControlPlane(this, 'control-plane', props)
    new Workloads(this, 'workloads', props)
  }
}
