import type { Cluster } from '../cluster/cluster.ts'
import type { DeliveryChoice, DeliveryEvidence, Digest } from '../rotation.ts'
import { causeText } from '../verify/exceptions.ts'
import { observeArgo } from './argocd.ts'
import { observeFlux } from './flux.ts'

/** What delivery needs to know of the repository. Both answer for the clone at hand, after a fetch. */
export interface DeliveredRepository {
  /** Digest of the folder's tree at a commit; null: this clone does not hold the commit, or the commit not the folder. */
  treeDigestAt(commit: string, path: string): Promise<Digest | null>
  /** Whether `commit` is `of` or comes after it. */
  isDescendant(commit: string, of: string): Promise<boolean>
}

export interface DeliveryQuestion {
  readonly cluster: Cluster
  readonly delivery: DeliveryChoice
  /** The site's folder. */
  readonly path: string
  readonly repository: DeliveredRepository
  /** The commit that merged the step: what is applied must contain it. Null: any commit whose folder has the step's tree will do. */
  readonly merged: string | null
  readonly now: Date
}

/** What the deliverer says it applied last, and which tree that is. Never throws for what the cluster says or refuses. */
export async function observeDelivery(question: DeliveryQuestion): Promise<DeliveryEvidence> {
  const { delivery } = question
  try {
    return delivery.kind === 'flux' ? await observeFlux(question, delivery) : await observeArgo(question, delivery)
  } catch (cause) {
    return { ...unseen(delivery), message: `could not be read: ${causeText(cause)}` }
  }
}

/** The tree of the site's folder at the applied commit, and what is wrong with that commit, if anything. */
export async function appliedTree(
  question: DeliveryQuestion,
  commit: string | null,
): Promise<{ readonly treeDigest: Digest | null; readonly problem: string }> {
  const { repository, merged, path } = question
  if (commit === null) return { treeDigest: null, problem: '' }
  const treeDigest = await repository.treeDigestAt(commit, path)
  if (treeDigest === null || merged === null || (await repository.isDescendant(commit, merged)))
    return { treeDigest, problem: '' }
  const problem = `applied commit ${commit} does not contain ${merged}`
  // The tree of before says by itself that the roll-out is not through. An equal one of an earlier time must not pass for the step.
  return { treeDigest: treeDigest === (await repository.treeDigestAt(merged, path)) ? null : treeDigest, problem }
}

function deliveryObject(delivery: DeliveryChoice): string {
  const kind = delivery.kind === 'flux' ? 'Kustomization' : 'Application'
  return `${kind}/${delivery.namespace}/${delivery.name}`
}

export function unseen(delivery: DeliveryChoice): DeliveryEvidence {
  return {
    kind: delivery.kind,
    object: deliveryObject(delivery),
    suspended: false,
    observed: false,
    ready: false,
    revision: null,
    treeDigest: null,
    inventory: [],
    message: '',
    nextDue: null,
    hurry: null,
  }
}

/** Hex of a commit out of a revision, or null where it names none. */
export function commitOf(revision: string | null): string | null {
  if (revision === null) return null
  // Flux: `main@sha1:…`, `refs/heads/main@sha1:…`, or `sha1:…` when detached; before 0.41 `main/…`. Argo CD: the bare id.
  const named = /(?:^|@)(?:sha1|sha256):([0-9a-f]{40}(?:[0-9a-f]{24})?)$/.exec(revision)
  if (named !== null) return named[1] ?? null
  return /^(?:.*\/)?([0-9a-f]{40}(?:[0-9a-f]{24})?)$/.exec(revision)?.[1] ?? null
}
