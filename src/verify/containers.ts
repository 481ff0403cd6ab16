import { ClusterError, type KubernetesObject } from '../cluster/cluster.ts'
import { at, list, record, text } from './values.ts'

export interface PodContainers {
  readonly main: readonly Readonly<Record<string, unknown>>[]
  /** Those that start before them; a native sidecar is one. */
  readonly init: readonly Readonly<Record<string, unknown>>[]
}

/**
 * The containers that a pod declares. Every pod has at least one, and each has a name (core/v1 PodSpec): where that is not so the answer is not whole, and
 * a pod without a proxy must not be made of it. Throws then, so that the list counts as not read.
 */
export function containersOf(pod: KubernetesObject): PodContainers {
  const named = (field: 'containers' | 'initContainers'): PodContainers['main'] => {
    const value = at(pod.spec, field)
    const found = list(value).map(record)
    const whole = field === 'containers' ? found.length > 0 : value === undefined || Array.isArray(value)
    if (whole && found.every(({ name }) => (text(name) ?? '') !== '')) return found
    const { namespace = '', name } = pod.metadata
    throw new ClusterError('malformed', `pod ${namespace}/${name}`, `spec.${field} is no list of containers with names`)
  }
  return { main: named('containers'), init: named('initContainers') }
}
