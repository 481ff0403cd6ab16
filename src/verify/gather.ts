import { type Cluster, ClusterError, credentialsRefused } from '../cluster/cluster.ts'
import { type DeliveredRepository, observeDelivery } from '../delivery/delivery.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { Variant } from '../plan/steps.ts'
import type {
  ClusterChoice,
  DeliveryChoice,
  Evidence,
  EvidenceException,
  Instant,
  Plan,
  SystemPart,
} from '../rotation.ts'
import type { Progress } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import { causeText, sortedExceptions } from './exceptions.ts'
import { observationDigest } from './observation.ts'
import type { PatienceSettings } from './patience.ts'
import { plannedAt } from './planned.ts'
import { instantOf } from './values.ts'

export interface GatherOptions {
  readonly cluster: Cluster
  readonly plan: Plan
  readonly site: string
  readonly phase: number
  readonly step: number
  /** Which tree of the step stands in the folder. @default 'step' */
  readonly variant?: Variant
  readonly delivery: DeliveryChoice
  readonly declared: SystemPart
  readonly repository: DeliveredRepository
  /** The commit on the base branch that merged the step. @default null, any commit with the step's tree will do */
  readonly merged?: string | null
  /** The observation before this one, of the same step; it may agree. */
  readonly previous: Evidence | null
  /** This machine's clock: leaf dates are held to it. Times in the evidence are the API server's. */
  readonly now: Date
  readonly onProgress?: (progress: Progress) => void
  /** Port-forwards at work at a time. @default 16 */
  readonly concurrency?: number
  /** For proxies that give no answer. @default as long as the cluster's time-out for each of the first 32, then 2 s, and 6 min for all of those */
  readonly patience?: PatienceSettings
  /** For what lies in another cluster than the site's. @default none can be opened */
  readonly openCluster?: (name: string, choice: ClusterChoice) => Promise<Cluster>
}

/**
 * Looks at one site, once. What cannot be seen becomes an exception with verdict `unknown`.
 * Throws ReanchorError (exit 4, evidence is missing) where the cluster does not even tell who it is, and (2) where the step is not planned.
 */
export async function gatherEvidence(options: GatherOptions): Promise<Evidence> {
  const { cluster, plan, site, phase, step, previous, now } = options
  const place = plannedAt(plan, site, phase, step, options.variant ?? 'step')
  if (place === null) {
    throw new ReanchorError({
      what: `phase ${phase} step ${step} is not planned for site ${site}`,
      where: { field: 'phases' },
      todo: 'run `reanchor status` for the steps of this rotation',
    })
  }
  const path = plan.sites.find(planned => planned.name === site)?.path ?? ''
  const first = await identify(cluster, site, systemOf(plan.system).role)
  const delivery = await observeDelivery({
    cluster,
    delivery: options.delivery,
    path,
    repository: options.repository,
    merged: options.merged ?? null,
    now: new Date(first.now),
  })
  const seen = await systemOf(plan.system).observe({
    cluster,
    plan,
    site,
    place,
    declared: options.declared,
    now,
    concurrency: options.concurrency ?? 16,
    ...(options.patience === undefined ? {} : { patience: options.patience }),
    onProgress: options.onProgress ?? (() => {}),
    ...(options.openCluster === undefined ? {} : { openCluster: options.openCluster }),
  })
  const last = await identify(cluster, site, systemOf(plan.system).role)
  const exceptions = sortedExceptions([...seen.exceptions, ...changedCluster(first.uid, last.uid)])
  const looked = {
    cluster: { uid: first.uid },
    delivery,
    objects: seen.objects,
    groups: seen.groups,
    exceptions,
    complete: seen.complete,
  }
  const observation = observationDigest(looked)
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: plan.metadata.name,
    site,
    phase,
    step,
    treeDigest: place.tree.digest,
    from: first.now,
    to: last.now,
    observation,
    agreesWith: agreeing(previous, { site, phase, step, treeDigest: place.tree.digest, uid: first.uid, observation }),
    lastChange: seen.lastChange,
    certificates: seen.certificates,
    ...looked,
  }
}

/** That nothing was seen of a site: no cluster, no consumer, and this machine's clock for want of the API server's. It is `unknown` in everything. */
export function unseenEvidence(
  of: Pick<GatherOptions, 'plan' | 'site' | 'phase' | 'step' | 'variant' | 'delivery'>,
  why: string,
  now: Date,
): Evidence {
  const { plan, site, phase, step, delivery } = of
  const exception = {
    consumer: 'object',
    name: 'cluster',
    reason: 'unreadable',
    detail: why,
    verdict: 'unknown',
  } as const
  const looked = {
    cluster: { uid: '' },
    delivery: {
      kind: delivery.kind,
      object: '',
      suspended: false,
      observed: false,
      ready: false,
      revision: null,
      treeDigest: null,
      inventory: [],
      message: '',
      nextDue: null,
      hurry: null,
    },
    objects: [],
    groups: [],
    exceptions: [exception],
    complete: false,
  }
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: plan.metadata.name,
    site,
    phase,
    step,
    treeDigest: plannedAt(plan, site, phase, step, of.variant ?? 'step')?.tree.digest ?? '0'.repeat(64),
    from: instantOf(now),
    to: instantOf(now),
    observation: observationDigest(looked),
    agreesWith: null,
    lastChange: null,
    certificates: [],
    ...looked,
  }
}

async function identify(
  cluster: Cluster,
  site: string,
  role: string,
): Promise<{ readonly uid: string; readonly now: Instant }> {
  try {
    const { uid, now } = await cluster.identity()
    return { uid, now: instantOf(new Date(now)) }
  } catch (cause) {
    const forbidden = cause instanceof ClusterError && cause.failure === 'forbidden'
    const refused = cause instanceof ClusterError && cause.message.includes(credentialsRefused)
    throw new ReanchorError({
      what: forbidden ? 'the cluster refuses to be read' : 'the cluster does not answer',
      where: { object: `site ${site}` },
      found: causeText(cause),
      todo: refused
        ? "give the site's kubeconfig new credentials: its token has ended, or is not of this cluster; for the verifier: kubectl --namespace reanchor create token reanchor-verifier"
        : forbidden
          ? `apply ${role} in the cluster and use its ServiceAccount, or a user who may read as much`
          : "see that its API server can be reached from here and is well (kubectl get --raw '/readyz?verbose'), and check the site's `cluster` in rotation.yaml",
      exit: exitCodes.violated,
      cause,
    })
  }
}

function changedCluster(first: string, last: string): readonly EvidenceException[] {
  if (first === last) return []
  const detail = `answers came from two clusters: ${first} first, ${last} at the end`
  return [{ consumer: 'object', name: 'cluster', reason: 'other-cluster', detail, verdict: 'unknown' }]
}

interface Present {
  readonly site: string
  readonly phase: number
  readonly step: number
  readonly treeDigest: string
  readonly uid: string
  readonly observation: string
}

/**
 * The earliest observation that this one agrees with: where the one before agreed with an earlier one, that one, so that the time between
 * the two can grow to what a gate asks for.
 */
function agreeing(previous: Evidence | null, present: Present): Evidence['agreesWith'] {
  if (previous === null || previous.observation !== present.observation || previous.cluster.uid !== present.uid)
    return null
  if (previous.site !== present.site || previous.phase !== present.phase || previous.step !== present.step) return null
  if (previous.treeDigest !== present.treeDigest) return null
  return previous.agreesWith ?? { at: previous.from, observation: previous.observation }
}
