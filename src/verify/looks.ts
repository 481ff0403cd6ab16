import type { Cluster, ListOptions } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import { causeText } from './exceptions.ts'
import type { Patience, PatienceSettings } from './patience.ts'
import { inPool } from './pool.ts'

/** What looks at many pods one by one have in common, whatever is looked for in each. */

export interface LookedPod {
  readonly namespace: string
  readonly name: string
  readonly owner: string
}

/** Milliseconds of silence after which the next pod is asked beside one that has not answered. */
export const brisk = 250

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

/** What is said of those that were not asked. */
export function waitingText(
  unread: readonly { readonly detail: string | null }[],
  patience: Pick<Patience, 'silent'>,
  settings: PatienceSettings,
): string {
  const unasked = unread.filter(({ detail }) => detail === null).length
  const seconds = settings.all / 1000
  return `not asked, one of ${unasked}: ${patience.silent} proxies before it gave no answer, and waiting for those may take ${seconds} s in all`
}

/** Up to so many pods are asked for one by one, and beyond that all are listed once more. */
const askedSingly = 32

/** Names of those among some pods that do not exist any more. Not knowing is not being gone. `options`: a list that would hold every one of them. */
export async function goneAmong(
  cluster: Cluster,
  pods: readonly LookedPod[],
  concurrency: number,
  options: ListOptions = {},
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
