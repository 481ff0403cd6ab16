import { type Cluster, ClusterError } from '../cluster/cluster.ts'
import { type DeliveredRepository, observeDelivery } from '../delivery/delivery.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { Variant } from '../plan/steps.ts'
import type { DeliveryChoice, Evidence, EvidenceException, Instant, IstioSettings, Plan } from '../rotation.ts'
import { observeIstio, type Progress } from '../systems/istio/observe.ts'
import { causeText } from './exceptions.ts'
import { observationDigest } from './observation.ts'
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
  readonly istio: IstioSettings
  readonly repository: DeliveredRepository
  /** The commit on the base branch that merged the step. @default null, any commit with the step's tree will do */
  readonly merged?: string | null
  /** The observation before this one, of the same step; it may agree. */
  readonly previous: Evidence | null
  /** This machine's clock: leaf dates are held to it. Times in the evidence are the API server's. */
  readonly now: Date
  readonly onProgress?: (progress: Progress) => void
  /** Port-forwards at a time. @default 16 */
  readonly concurrency?: number
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
  const first = await identify(cluster, site)
  const delivery = await observeDelivery({
    cluster,
    delivery: options.delivery,
    path,
    repository: options.repository,
    merged: options.merged ?? null,
    now: new Date(first.now),
  })
  const seen = await observeIstio({
    cluster,
    plan,
    site,
    place,
    istio: options.istio,
    now,
    concurrency: options.concurrency ?? 16,
    onProgress: options.onProgress ?? (() => {}),
  })
  const last = await identify(cluster, site)
  const exceptions = [...seen.exceptions, ...changedCluster(first.uid, last.uid)]
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

async function identify(cluster: Cluster, site: string): Promise<{ readonly uid: string; readonly now: Instant }> {
  try {
    const { uid, now } = await cluster.identity()
    return { uid, now: instantOf(new Date(now)) }
  } catch (cause) {
    const forbidden = cause instanceof ClusterError && cause.failure === 'forbidden'
    throw new ReanchorError({
      what: forbidden ? 'the cluster refuses to be read' : 'the cluster does not answer',
      where: { object: `site ${site}` },
      found: causeText(cause),
      todo: forbidden
        ? 'apply roles/istio.yaml in the cluster and use its ServiceAccount, or a user who may read as much'
        : "check the site's `cluster` in rotation.yaml and that its API server can be reached from here",
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
