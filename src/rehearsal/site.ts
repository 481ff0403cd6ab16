import type { Instant } from '../rotation.ts'
import type { Life } from './certificates.ts'
import { instantOf, type SeededRandom, type VirtualClock } from './clock.ts'
import type { SiteFaults } from './faults.ts'
import type { Handshakes } from './handshakes.ts'
import type { ObjectStore, StoredObject } from './objects.ts'
import { textAt } from './objects.ts'
import type { Endpoint } from './workload-tls.ts'

/** What every part of one site's cluster works with. */
export interface Site {
  readonly name: string
  readonly clock: VirtualClock
  readonly random: SeededRandom
  readonly store: ObjectStore
  readonly faults: SiteFaults
  readonly handshakes: Handshakes
  readonly trustDomain: string
  /** Hours that a workload's leaf lives: istiod's default is 24. */
  readonly leafHours: number
  /** Dates for a certificate that is issued now. */
  life(hours: number): Life
  /** A line as the component would log it; kept for failures' sake. */
  log(component: string, line: string): void
}

/** One pod's main process, as far as trust is concerned: istiod, an agent with its Envoy, a Cassandra node. */
export interface PodProcess {
  /** Milliseconds that the program takes to come up in its sandbox, at least and at most. @default those of a proxy */
  readonly startLag?: readonly [least: number, most: number]
  /** Throws where the container would exit: it is then restarted with a back-off. */
  start(): Promise<void>
  /** A volume of the pod has new content. */
  filesChanged(volume: string): void
  /** The pod is being deleted: no new connections reach it. */
  drain(): void
  stop(): Promise<void>
  /** The pod is Ready: peers may connect. */
  joined?(): void
  /** What serves TLS on a port of the pod; null: nothing does. */
  endpointAt?(port: number): Endpoint | null
  /** What an HTTP request to a port of the pod answers: text as it is, anything else as JSON. Null: nobody listens, or no such path. */
  answer?(port: number, route: string): unknown
}

/** `namespace/name` */
export function podKey(pod: StoredObject): string {
  return `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`
}

/** `namespace/kind/name` of the workload that a pod belongs to, through its ReplicaSet; the pod itself where it has none. */
export function ownerOf(store: ObjectStore, pod: StoredObject): string {
  const namespace = pod.metadata.namespace ?? ''
  const owner = pod.metadata.ownerReferences?.find(reference => reference.controller)
  if (owner === undefined) return `${namespace}/Pod/${pod.metadata.name}`
  if (owner.kind !== 'ReplicaSet') return `${namespace}/${owner.kind}/${owner.name}`
  const set = store.get('apps', 'ReplicaSet', namespace, owner.name)
  const above = set?.metadata.ownerReferences?.find(reference => reference.controller)
  return above === undefined ? `${namespace}/ReplicaSet/${owner.name}` : `${namespace}/${above.kind}/${above.name}`
}

/** What the clock of a pod's node shows. Renewals keep the common time: OpenSSL, which judges dates, knows no other. */
export function instantAt({ clock, faults }: Pick<Site, 'clock' | 'faults'>, pod: StoredObject): Instant {
  return instantOf(clock.millis() + (faults.nodeSkew.get(nodeOf(pod)) ?? 0))
}

export function nodeOf(pod: StoredObject): string {
  return textAt(pod, 'spec', 'nodeName') ?? ''
}

// Go's strconv.ParseBool, which reads istiod's and the agent's environment.
export function goBool(text: string | undefined): boolean {
  return text !== undefined && ['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)
}
