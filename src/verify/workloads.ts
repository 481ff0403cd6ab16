import type { KubernetesObject } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import { rotationAnnotation, trustAnnotation } from '../names.ts'
import { type Looking, readPages } from './looking.ts'
import { rollOutDetail } from './objects.ts'
import { at, text } from './values.ts'

const workloadTypes = [
  { kind: 'Deployment', type: resources.deployments },
  { kind: 'StatefulSet', type: resources.statefulSets },
  { kind: 'DaemonSet', type: resources.daemonSets },
] as const

export interface WiredWorkloads {
  readonly wired: number
  readonly rolled: number
  /** How many carry each restart token, as facts: `restart <token>`. */
  readonly restarts: Readonly<Record<string, string>>
}

export interface WiredOptions {
  /** Namespace whose workloads are looked at elsewhere. @default none */
  readonly apart?: string
  /** More of why one is not rolled out than the API server's own account; null: nothing. @default nothing */
  readonly why?: (object: KubernetesObject) => string | null
}

/** Workloads that a Component reached: how many, with which restart token, rolled or not; each that is not is an exception. */
export async function wiredWorkloads(looking: Looking, { apart, why }: WiredOptions = {}): Promise<WiredWorkloads> {
  const { metadata, follows } = looking.options.plan
  // Until its first own step, a rotation that follows another finds that one's name on what it will patch.
  const rotations = follows === undefined ? [metadata.name] : [metadata.name, follows]
  const tokens = new Map<string, number>()
  let wired = 0
  let rolled = 0
  for (const { kind, type } of workloadTypes) {
    await readPages(looking, `list ${kind}s`, type, {}, object => {
      if (apart !== undefined && object.metadata.namespace === apart) return
      if (!rotations.includes(object.metadata.annotations?.[rotationAnnotation] ?? '')) return
      wired += 1
      const token = text(at(object.spec, 'template', 'metadata', 'annotations', trustAnnotation)) ?? ''
      tokens.set(token, (tokens.get(token) ?? 0) + 1)
      const rolling = rollOutDetail(kind, object)
      if (rolling === null) {
        rolled += 1
        return
      }
      const name = `${object.metadata.namespace ?? ''}/${kind}/${object.metadata.name}`
      const detail = why?.(object) ?? rolling
      looking.exceptions.push({ consumer: 'object', name, reason: 'not-rolled', detail, verdict: 'pending' })
    })
  }
  const carried = [...tokens].filter(([token]) => token !== '').sort()
  return {
    wired,
    rolled,
    restarts: Object.fromEntries(carried.map(([token, count]) => [`restart ${token}`, String(count)])),
  }
}
