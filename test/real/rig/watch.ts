import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { isRolledOut } from './istio.ts'
import type { FleetRepository } from './repository.ts'
import type { RotationRecord } from './rotation.ts'
import { until } from './server.ts'
import { type TrafficFailure, trafficText } from './traffic.ts'
import type { MeshCluster } from './world.ts'

export interface StepTraffic {
  /** The step that was under way: from its merge to the next one's. */
  readonly step: string
  readonly sent: number
  readonly failed: number
  /** Of a new pod, before its proxy was there: not counted as failed. */
  readonly early: number
  readonly failures: readonly TrafficFailure[]
}

/** Waits until every Deployment is rolled out. */
export async function ready(
  cluster: Pick<MeshCluster, 'plane'>,
  namespace: string,
  names: readonly string[],
): Promise<void> {
  for (const name of names) {
    await until(
      `Deployment ${namespace}/${name} is rolled out`,
      () => isRolledOut(cluster.plane, namespace, name),
      180_000,
      300,
    )
  }
}

/** `kubectl rollout restart`, by whom it belongs to. */
export async function restart(cluster: Pick<MeshCluster, 'plane'>, namespace: string, name: string): Promise<void> {
  const restartedAt = new Date().toISOString()
  await cluster.plane.objects.merge(
    { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name },
    { spec: { template: { metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': restartedAt } } } } },
  )
}

/** Waits until every pair of workloads has answered within the last seconds, and none of them failed. */
export async function flowing(clusters: readonly Pick<MeshCluster, 'traffic'>[], pairs: number): Promise<void> {
  let last = ''
  await until(
    'requests flow between all pairs',
    async () => {
      const answered = new Set<string>()
      let failed = 0
      for (const { traffic } of clusters) {
        const read = await traffic.read(Date.now() - 8000)
        last = trafficText(read)
        failed += read.failed
        for (const pair of read.pairs) if (pair.sent > pair.failed) answered.add(`${pair.from} ${pair.to}`)
      }
      return failed === 0 && answered.size >= pairs
    },
    120_000,
    1000,
  ).catch(cause => {
    throw new Error(`${String(cause)}\n${last}`)
  })
}

/** What was sent and what failed between each merge and the next. */
export async function byStep(
  clusters: readonly Pick<MeshCluster, 'traffic'>[],
  record: RotationRecord,
  since: number,
): Promise<readonly StepTraffic[]> {
  const starts = record.steps.map((step, index) => (index === 0 ? since : Date.parse(step.mergedAt)))
  const steps: StepTraffic[] = []
  for (const [index, { step }] of record.steps.entries()) {
    const from = starts[index] ?? since
    const to = (starts[index + 1] ?? Date.now() + 1) - 1
    let [sent, failed, early] = [0, 0, 0]
    const failures: TrafficFailure[] = []
    for (const { traffic } of clusters) {
      const read = await traffic.read(from, to)
      sent += read.sent
      failed += read.failed
      early += read.early
      failures.push(...read.failures)
    }
    steps.push({ step, sent, failed, early, failures })
  }
  return steps
}

/** A rotation as one entry of the report: what each step took, saw and carried. */
export function recordOf(
  what: string,
  record: RotationRecord,
  traffic: readonly StepTraffic[],
): Readonly<Record<string, unknown>> {
  const sum = (key: 'sent' | 'failed' | 'early'): number => traffic.reduce((total, step) => total + step[key], 0)
  const steps = record.steps.map((step, index) => {
    const { sent = 0, failed = 0, early = 0, failures = [] } = traffic[index] ?? {}
    return { ...step, sent, failed, early, failures: failures.slice(0, 20) }
  })
  return { what, ...record, sent: sum('sent'), failed: sum('failed'), early: sum('early'), steps }
}

/** Every failure on one line, for a test that expects none; those before a new pod's first answer among them. */
export function failuresText(traffic: readonly StepTraffic[]): readonly string[] {
  return traffic.flatMap(({ step, failures, early }) => [
    ...failures.map(({ at, from, to, error }) => `${step}: ${at} ${from} → ${to}: ${error}`),
    ...(early > 0 ? [`${step}: ${early} of new pods before their first answer`] : []),
  ])
}

/**
 * What the proxies of a namespace hold, read past the product, on every entry of their dumps: how many proxies there are, which roots they
 * trust and who signed their leaves.
 */
export async function held(
  cluster: MeshCluster,
  namespace: string,
): Promise<{ readonly proxies: number; readonly roots: readonly string[]; readonly issuers: readonly string[] }> {
  const present = [...(await cluster.traffic.present(namespace)).values()]
  const roots = new Set(present.flatMap(proxy => proxy.roots.flat()))
  const issuers = new Set(present.flatMap(proxy => proxy.leaves.map(leaf => leaf.issuer ?? 'nobody')))
  return { proxies: present.length, roots: [...roots].sort(), issuers: [...issuers].sort() }
}

/** What every proxy must hold in the end, from the plan on main alone; `issuers` has one issuing CA for each site. */
export async function plannedTrust(
  repository: FleetRepository,
  rotation: string,
): Promise<{ readonly roots: readonly string[]; readonly issuers: readonly string[] }> {
  await repository.pull()
  const text = await readFile(join(repository.clone, 'rotations', rotation, 'plan.yaml'), 'utf8')
  const { certificates } = parse(text) as {
    readonly certificates: readonly { readonly role: string; readonly sha256: string }[]
  }
  const of = (role: string): readonly string[] =>
    certificates.filter(each => each.role === role).map(each => each.sha256)
  // Where only the issuer is replaced, no root is new.
  const roots = of('new-root').length > 0 ? of('new-root') : of('old-root')
  return { roots: [...roots].sort(), issuers: [...of('new-issuing')].sort() }
}
