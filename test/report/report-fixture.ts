import { findStep, stepFolder, stepsOf } from '../../src/plan/steps.ts'
import { certificateNames } from '../../src/report/certificate-names.ts'
import { consumerCounts } from '../../src/report/consumer-counts.ts'
import type { ReportEvidence, ReportView } from '../../src/report/report-view.ts'
import { seenTrust, trustMatrix } from '../../src/report/trust-matrix.ts'
import type { Evidence } from '../../src/rotation.ts'
import { istioModel } from '../../src/systems/istio/model.ts'
import { group, seenOf } from '../safety/evidence.ts'
import { newRoot, oldRoot, runbookPlan } from './runbook.ts'
import { now, status } from './status-view.ts'

const [o, n] = [oldRoot.sha256, newRoot.sha256]
const plan = runbookPlan(['eu-1', 'us-1', 'ap-1'])
const name = certificateNames(plan.certificates, [])
const expires = { first: '2026-11-22T20:00:00Z', last: '2026-11-23T03:00:00Z' }

function look(site: string, phase: number, step: number, to: string, groups: Evidence['groups']): Evidence {
  return seenOf(site, groups, { phase, step, from: to, to })
}

const before = (owner: string, count: number) =>
  group({ owner, count, trusts: [o], presents: [o], leavesExpire: expires })
const both = (owner: string, count: number) =>
  group({ owner, count, trusts: [o, n].sort(), presents: [o], leavesExpire: expires })

/** What was committed of the phases before, and a look just now at `2-trust-both`, where two pods are behind. */
const looks: readonly { readonly evidence: Evidence; readonly live: boolean }[] = [
  { evidence: look('eu-1', 0, 1, '2026-11-20T09:00:00Z', [before('shop/Deployment/cart', 40)]), live: false },
  { evidence: look('us-1', 0, 1, '2026-11-20T09:05:00Z', [before('shop/Deployment/cart', 60)]), live: false },
  { evidence: look('eu-1', 1, 1, '2026-11-21T09:00:00Z', [before('shop/Deployment/cart', 40)]), live: false },
  {
    evidence: {
      ...look('eu-1', 2, 1, now, [
        both('shop/Deployment/cart', 38),
        before('shop/Deployment/cart', 2),
        group({ consumer: 'istiod', owner: 'istio-system/Deployment/istiod', count: 2, trusts: [o, n].sort() }),
        group({ consumer: 'configmap', owner: 'shop/ConfigMap/istio-ca-root-cert', count: 12, trusts: [o, n].sort() }),
      ]),
      exceptions: [
        {
          consumer: 'sidecar',
          name: 'shop/cart-6d4cf56db6-b2xkq',
          reason: 'stale-roots',
          detail: 'it trusts the old root alone',
          verdict: 'pending',
          ends: '2026-11-23T03:00:00Z',
        },
        {
          consumer: 'sidecar',
          name: 'shop/cart-6d4cf56db6-zv9wm',
          reason: 'unreadable',
          detail: 'port-forward was refused',
          verdict: 'unknown',
        },
      ],
    },
    live: true,
  },
]

function evidenceOf({ evidence, live }: (typeof looks)[number]): ReportEvidence {
  const { site, phase, step, from, to, observation, complete, cluster, exceptions, groups } = evidence
  const { kind, object, ready, revision, message } = evidence.delivery
  const at = findStep(plan, phase, step)
  return {
    site,
    label: at === null ? '' : stepFolder(at),
    file: live ? null : `rotations/mesh-2026/evidence/${phase}-${at?.phase.name}.yaml`,
    from,
    to,
    observation,
    authorship: live ? 'seen just now' : 'unsigned',
    counts: true,
    complete,
    cluster: cluster.uid,
    delivery: { kind, object, ready, revision, message },
    gates: status.gates
      .filter(gate => live || gate.verdict === 'holds')
      .map(({ id, claim, verdict, because, hint }) => ({
        id,
        claim,
        verdict,
        because,
        hint,
        counted: { of: 40, conform: verdict === 'holds' ? 40 : 38 },
      })),
    groups: groups.map(each => ({
      consumer: each.consumer,
      owner: each.owner,
      seen: seenTrust(each, name),
      leavesExpire: each.leavesExpire,
    })),
    exceptions,
  }
}

/** A rotation of three sites in the middle of phase 2. */
export const report: ReportView = {
  status,
  system: 'Istio',
  commit: '0123456789abcdef0123456789abcdef01234567',
  base: 'main',
  plannedAt: plan.createdAt,
  steps: stepsOf(plan)
    .filter(at => at.phase.name !== 'close')
    .map(at => ({
      phase: at.phase.number,
      label: stepFolder(at),
      title: at.phase.title,
      what: at.step.what,
      mark: at.phase.number < 2 ? 'done' : at.phase.number === 2 && at.step.number === 1 ? 'now' : 'ahead',
      matrix: trustMatrix(
        { plan, model: istioModel, name },
        at,
        looks.map(each => each.evidence).filter(each => each.phase === at.phase.number && each.step === at.step.number),
      ),
    })),
  moves: [
    ['eu-1', '0-adopt/1-adopt', '2026-11-20T08:00:00Z'],
    ['us-1', '0-adopt/1-adopt', '2026-11-20T08:00:00Z'],
    ['eu-1', '1-enable-multiroot/1-data', '2026-11-20T16:00:00Z'],
    ['us-1', '1-enable-multiroot/1-data', '2026-11-20T16:30:00Z'],
    ['eu-1', '2-trust-both/1-data', '2026-11-21T15:00:00Z'],
    ['us-1', '2-trust-both/1-data', '2026-11-21T15:00:00Z'],
  ].map(([site = '', label = '', at = '']) => ({ site, label, variant: 'step', at, commit: 'a1'.repeat(20) })),
  consumers: looks.map(({ evidence, live }) => {
    const at = findStep(plan, evidence.phase, evidence.step)
    return consumerCounts(evidence, name, { label: at === null ? '' : stepFolder(at), live })
  }),
  evidence: looks.map(evidenceOf),
  certificates: [
    { ...name(n), key: newRoot.key, notAfter: '2026-12-10T00:00:00Z', daysLeft: 17, file: 'certificates/new-root.pem' },
    { ...name(o), key: oldRoot.key, notAfter: oldRoot.notAfter, daysLeft: 3132, file: 'certificates/old-root.pem' },
    { ...name('f'.repeat(64)), key: 'RSA 2048', notAfter: '2026-11-01T00:00:00Z', daysLeft: -22, file: null },
  ],
  behind: looks.flatMap(({ evidence, live }) =>
    live
      ? evidence.exceptions.map(({ consumer, name: who, detail, verdict, ends }) => ({
          site: evidence.site,
          consumer,
          name: who,
          why: detail,
          verdict,
          ends: ends ?? null,
        }))
      : [],
  ),
}

/** Fields that others choose, or that quote what others chose. */
const free: ReadonlySet<string> = new Set(
  'rotation name subject title what claim because hint file authorship owner detail why site sites path url gate wiring party message object base cluster names'.split(
    ' ',
  ),
)

/** The same with `text` behind every word that is not ours. */
export function spoiled<T>(value: T, text: string, field = ''): T {
  if (typeof value === 'string') return (free.has(field) ? `${value}${text}` : value) as T
  if (Array.isArray(value)) return value.map(each => spoiled(each, text, field)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, spoiled(each, text, key)])) as T
}
