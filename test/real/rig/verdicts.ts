import type { Cluster } from '../../../src/cluster/cluster.ts'
import type { EvidenceException, GateResult, Plan } from '../../../src/rotation.ts'
import type { IstioSettings } from '../../../src/systems/istio/settings.ts'
import { gatesFor } from '../../../src/verify/gate.ts'
import { gatherEvidence } from '../../../src/verify/gather.ts'
import { handSite } from './authority.ts'
import { istioNamespace } from './istio.ts'

/** What reanchor's verifier says of a state that no deliverer brought: of every gate but the deliverer's own. */
export interface Verdicts {
  readonly gates: ReadonlyMap<string, GateResult>
  readonly exceptions: readonly EvidenceException[]
}

const settings: IstioSettings = {
  install: 'sail',
  namespace: istioNamespace,
  trustDomain: 'cluster.local',
  controlPlane: { [handSite]: { file: 'istio.yaml', name: 'default', path: '.' } },
  ambient: false,
  leafHours: 24,
}

/** Gates that ask about what a GitOps tool and custody did, of which there is none here. */
const delivered: ReadonlySet<string> = new Set(['delivery/applied', 'istio/canary', 'istio/wiring'])

export async function lookAndJudge(cluster: Cluster, plan: Plan, phase: number): Promise<Verdicts> {
  const now = new Date()
  const evidence = await gatherEvidence({
    cluster,
    plan,
    site: handSite,
    phase,
    step: 1,
    delivery: {
      kind: 'flux',
      namespace: 'flux-system',
      name: 'trust',
      file: null,
      source: { namespace: 'flux-system', name: 'flux-system' },
      decryptionSecret: '',
    },
    declared: { system: 'istio', istio: settings },
    // Which commit was applied is asked of a deliverer, and its answer is not judged here.
    repository: { treeDigestAt: async () => null, isDescendant: async () => false },
    previous: null,
    now,
  })
  const gates = gatesFor(plan, phase, 1).filter(({ id }) => !delivered.has(id))
  const judged = gates.map(gate => gate.judge(evidence, { plan, now, attestations: [] }))
  return { gates: new Map(judged.map(result => [result.id, result])), exceptions: evidence.exceptions }
}

/** The gates that do not hold, one line each, for a message. */
export function openGates({ gates }: Verdicts): string {
  return [...gates.values()]
    .filter(({ verdict }) => verdict !== 'holds')
    .map(({ id, verdict, because }) => `${id} ${verdict}: ${because.join('; ')}`)
    .join('\n')
}
