import type { Cluster, ListOptions } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import type { ConsumerClass, EvidenceException } from '../rotation.ts'
import type { ObserveOptions } from '../systems/system.ts'
import { causeText } from './exceptions.ts'
import { defaultPatience, type Patience } from './patience.ts'
import { inPool, inWaitingPool } from './pool.ts'

/** What looks at many pods one by one have in common, whatever is looked for in each. */

export interface LookedPod {
  readonly namespace: string
  readonly name: string
  readonly owner: string
}

/** What a look at many pods needs of the one that it belongs to. */
interface PatientLooking {
  readonly options: Pick<ObserveOptions, 'cluster' | 'concurrency' | 'patience' | 'onProgress'>
  readonly patience: Patience
  /** Called now and then, as so many answers are much to hold. */
  relieve(): void
}

/** Milliseconds of silence after which the next pod is asked beside one that has not answered. */
const brisk = 250

export function nameOf(pod: Pick<LookedPod, 'namespace' | 'name'>): string {
  return `${pod.namespace}/${pod.name}`
}

/** The first pod of every owner before the second of any: where not all can be asked, something is known of each owner. */
export function inTurns<Pod extends LookedPod>(pods: readonly Pod[]): readonly Pod[] {
  const counts = new Map<string, number>()
  const turns: Pod[][] = []
  for (const pod of pods) {
    const turn = counts.get(pod.owner) ?? 0
    counts.set(pod.owner, turn + 1)
    const mates = turns[turn]
    if (mates === undefined) turns[turn] = [pod]
    else mates.push(pod)
  }
  return turns.flat()
}

/**
 * A pod that could not be read, and why; null: it was not asked, as too many before it were silent. The words and not the error: an
 * error's stack keeps the whole conversation in memory, sockets included.
 */
export interface UnreadPod<Pod extends LookedPod> {
  readonly pod: Pod
  readonly detail: string | null
}

/** Names of the pod, of its sandbox and its network namespace, in a kubelet's words. */
const identifiers = /\b(cni-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{12,64}\b/g

/** Why a pod could not be read, without what is about this pod alone, so that what many have in common can be said once. */
export function inCommon(cause: unknown, { namespace, name }: Pick<LookedPod, 'namespace' | 'name'>): string {
  return causeText(cause)
    .replace(`pod ${namespace}/${name}:`, 'its port ')
    .replaceAll(`${namespace}/${name}`, '…')
    .replaceAll(`${name}/${namespace}`, '…')
    .replaceAll(name, '…')
    .replace(identifiers, '…')
}

export interface AllLooked<Pod extends LookedPod> {
  /** Those that could not be read and still exist, and why. */
  readonly left: readonly { readonly pod: Pod; readonly detail: string }[]
  /** Those that could not be read because they went away meanwhile: what took their place was not in the list. */
  readonly gone: readonly Pod[]
}

/**
 * Looks at every pod in the given order, for a bounded time: silence is waited for beside the others, and after much of it the rest is not asked.
 * `look` gives back what could not be read; whether it still exists is asked at the end, of all of them at once, `again` being a list that
 * would hold every one of them.
 */
export async function lookAtAll<Pod extends LookedPod>(
  { options, patience, relieve }: PatientLooking,
  pods: readonly Pod[],
  look: (pod: Pod) => Promise<UnreadPod<Pod> | null>,
  again: ListOptions = {},
): Promise<AllLooked<Pod>> {
  const settings = options.patience ?? defaultPatience
  const bounds = { busy: options.concurrency, open: Math.max(options.concurrency, settings.open), brisk }
  const unread: UnreadPod<Pod>[] = []
  let done = 0
  await inWaitingPool(pods, bounds, async pod => {
    const failure = await look(pod)
    if (failure !== null) unread.push(failure)
    done += 1
    if (done % 500 === 0) relieve()
    if (done % 100 === 0 || done === pods.length) options.onProgress({ stage: 'read proxies', done, of: pods.length })
  })
  const missed = unread.map(({ pod }) => pod)
  const names = await goneAmong(options.cluster, missed, options.concurrency, again)
  const left = unread.filter(({ pod }) => !names.has(nameOf(pod)))
  const unasked = left.filter(({ detail }) => detail === null).length
  const waited = `${patience.silent} proxies before it gave no answer, and waiting for those may take ${settings.all / 1000} s in all`
  return {
    left: left.map(({ pod, detail }) => ({ pod, detail: detail ?? `not asked, one of ${unasked}: ${waited}` })),
    gone: missed.filter(pod => names.has(nameOf(pod))),
  }
}

/** What is said of a pod that could not be read: one that is going away need not answer any more. */
export function unreadPod(
  pod: LookedPod & { readonly terminating: boolean },
  consumer: ConsumerClass,
  detail: string,
): EvidenceException {
  const name = nameOf(pod)
  return pod.terminating
    ? { consumer, name, reason: 'terminating', detail: `is going away: ${detail}`, verdict: 'pending' }
    : { consumer, name, reason: 'unreadable', detail, verdict: 'unknown' }
}

/** Up to so many pods are asked for one by one, and beyond that all are listed once more. */
const askedSingly = 32

/** Names of those among some pods that do not exist any more. Not knowing is not being gone. */
async function goneAmong(
  cluster: Cluster,
  pods: readonly LookedPod[],
  concurrency: number,
  options: ListOptions,
): Promise<ReadonlySet<string>> {
  const gone = new Set<string>()
  if (pods.length <= askedSingly) {
    await inPool(pods, concurrency, async pod => {
      if (await isGone(cluster, pod)) gone.add(nameOf(pod))
    })
    return gone
  }
  for (const pod of pods) gone.add(nameOf(pod))
  try {
    for await (const page of cluster.list(resources.pods, options)) {
      for (const { metadata } of page) gone.delete(`${metadata.namespace ?? ''}/${metadata.name}`)
    }
    return gone
  } catch {
    return new Set()
  }
}

export async function isGone(cluster: Cluster, pod: Pick<LookedPod, 'namespace' | 'name'>): Promise<boolean> {
  try {
    return (await cluster.get(resources.pods, pod.namespace, pod.name)) === null
  } catch {
    // Not knowing is not being gone.
    return false
  }
}
