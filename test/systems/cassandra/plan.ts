import { type Certificate, certificateFacts } from '../../../src/pki/certificate.ts'
import type { Evidence, Plan, PlannedPhase } from '../../../src/rotation.ts'
import type { CaSecret, NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { type CassandraCa, partiesOf } from '../../../src/systems/cassandra/model.ts'
import { cassandraPhases } from '../../../src/systems/cassandra/phases.ts'
import type { Observation } from '../../../src/systems/system.ts'
import { observationDigest } from '../../../src/verify/observation.ts'
import { type PlannedPlace, plannedAt } from '../../../src/verify/planned.ts'
import { delivered } from '../../safety/evidence.ts'

export interface PlanParts {
  readonly secret: CaSecret
  readonly old: Certificate
  readonly next: NewCa
  readonly sites?: readonly string[]
  readonly attest?: readonly string[]
  readonly ca?: CassandraCa
  /** What every state says beside the Secret, as `plan` reads it from the CassandraCluster. */
  readonly settings?: Readonly<Record<string, string>>
  readonly strategy?: 'graceful' | 'emergency'
}

/** A plan as `plan` makes it, with digests that only tell phases apart: `1`×64, its undo `1`×64 and `u`. */
export function planOf(parts: PlanParts): Plan {
  const { secret, next, sites = ['eu-1'], ca = 'server', strategy = 'graceful' } = parts
  const drafts = cassandraPhases(strategy, { secret, next, restarts: {}, settings: parts.settings ?? {} })
  const phases: PlannedPhase[] = drafts.map(({ name, title, steps }, number) => ({
    number,
    name,
    title,
    steps: steps.map(({ state, undo, what }) => {
      const digest = String(number).repeat(64)
      const tree = { digest, state, undo: undo === null ? null : { digest: `${digest}u`, state: undo }, nudge: null }
      return { number: 1, name: 'data', what, sites: Object.fromEntries(sites.map(site => [site, tree])) }
    }),
  }))
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'db-2026' },
    createdAt: '2026-11-22T08:00:00Z',
    system: 'cassandra',
    strategy,
    base: 'main',
    inputs: { declaration: '', material: '', next: '' },
    certificates: [parts.old, next.certificate].map((certificate, index) => ({
      ...certificateFacts(certificate),
      role: index === 0 ? ('old-root' as const) : ('new-root' as const),
      sites: [],
      file: `certificates/${index}.pem`,
    })),
    sites: sites.map(name => ({ name, path: `trust/${name}` })),
    batches: sites.map(site => [site]),
    phases,
    wiring: [],
    canaries: {},
    gates: {
      hold: 0,
      fresh: 3_600_000,
      settle: 0,
      attest: (parts.attest ?? []).map(name => ({ name, why: 'no API shows them' })),
    },
    leafHours: 0,
    parties: partiesOf(ca),
    formerDigests: {},
  }
}

export function placeIn(plan: Plan, phase: number, variant: 'step' | 'undo' = 'step'): PlannedPlace {
  const found = plannedAt(plan, plan.sites[0]?.name ?? '', phase, 1, variant)
  if (found === null) throw new Error(`no phase ${phase}`)
  return found
}

/** What a look makes of an observation; delivery is as it should be, and has tests of its own. */
export function evidenceOf(seen: Observation, place: PlannedPlace, at: string): Evidence {
  const looked = {
    cluster: { uid: 'uid' },
    delivery: delivered,
    objects: seen.objects,
    groups: seen.groups,
    exceptions: seen.exceptions,
    complete: seen.complete,
  }
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: 'db-2026',
    site: 'eu-1',
    phase: place.phase,
    step: place.step,
    treeDigest: place.tree.digest,
    from: at,
    to: at,
    observation: observationDigest(looked),
    agreesWith: null,
    lastChange: seen.lastChange,
    certificates: seen.certificates,
    ...looked,
  }
}
