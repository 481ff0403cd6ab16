import type { KubernetesObject } from '../cluster/cluster.ts'
import type { Instant, ObjectEvidence } from '../rotation.ts'
import { at, instant, later, list, record, sortedSet, text } from './values.ts'

/** Keys of `data` and who owns them, as managedFields tell; keys null: the object carries no managedFields. */
export function dataOwnership(object: KubernetesObject): Pick<ObjectEvidence, 'keys' | 'managers'> {
  const fields = object.metadata.managedFields
  if (fields === undefined || fields.length === 0) return { keys: null, managers: {} }
  const owners = new Map<string, Set<string>>()
  for (const entry of fields) {
    for (const field of Object.keys(record(at(entry.fieldsV1, 'f:data')))) {
      if (!field.startsWith('f:')) continue
      const key = field.slice(2)
      const managers = owners.get(key) ?? new Set<string>()
      managers.add(entry.manager ?? '')
      owners.set(key, managers)
    }
  }
  const keys = [...owners.keys()].sort()
  return { keys, managers: Object.fromEntries(keys.map(key => [key, sortedSet(owners.get(key) ?? [])])) }
}

/**
 * Where managers share `data`: `[place among all entries of managedFields, manager]` of those that own a key of it, as JSON. It is what a JSON
 * patch that takes one of them out goes by.
 */
export function sharedEntries(object: KubernetesObject): Readonly<Record<string, string>> {
  const owning = (object.metadata.managedFields ?? []).flatMap((entry, place) =>
    Object.keys(record(at(entry.fieldsV1, 'f:data'))).length > 0 ? [[place, entry.manager ?? ''] as const] : [],
  )
  return new Set(owning.map(([, manager]) => manager)).size > 1 ? { entries: JSON.stringify(owning) } : {}
}

/** Field managers of the Sealed Secrets controller: the name of its binary, or of its image. */
export const sealedManagers: readonly string[] = ['controller', 'sealed-secrets-controller']

/** Field managers of External Secrets: one for each ExternalSecret (cc5bfbc, externalsecret_controller.go, fieldOwnerTemplate). */
export function isExternalManager(manager: string): boolean {
  return manager === 'external-secrets' || manager.startsWith('externalsecrets.external-secrets.io/')
}

/** Controllers that make a Secret of what Git has for it. */
export function isUnsealer(manager: string): boolean {
  return sealedManagers.includes(manager) || isExternalManager(manager)
}

/** When something other than its status was written last. */
export function lastWritten(object: KubernetesObject): Instant | null {
  let newest = instant(object.metadata.creationTimestamp)
  for (const entry of object.metadata.managedFields ?? []) {
    if (entry.subresource === 'status' || entry.subresource === 'scale') continue
    newest = later(newest, instant(entry.time))
  }
  return newest
}

/** When those who own one of these keys of `data` wrote something last: what others add to the object is no change of theirs. Null: not to be told. */
export function keysWritten(
  object: KubernetesObject,
  keys: readonly string[],
  by: (manager: string) => boolean = () => true,
): Instant | null {
  let newest: Instant | null = null
  for (const { fieldsV1, time, manager = '' } of object.metadata.managedFields ?? []) {
    if (!by(manager)) continue
    const owned = record(at(fieldsV1, 'f:data'))
    if (keys.some(key => Object.hasOwn(owned, `f:${key}`))) newest = later(newest, instant(time))
  }
  return newest
}

/** metadata.generation has been taken up by the controller. */
export function isObserved(object: KubernetesObject): boolean {
  const observed = at(object.status, 'observedGeneration')
  return typeof observed === 'number' && observed === object.metadata.generation
}

/** Why a workload's roll-out is not through, or null where it is: the API server's own account of it. */
export function rollOutDetail(kind: string, object: KubernetesObject): string | null {
  if (!isObserved(object)) return 'its controller has not taken up the newest template'
  const { spec, status } = object
  const count = (field: string): number => {
    const value = at(status, field)
    return typeof value === 'number' ? value : 0
  }
  if (kind === 'DaemonSet') {
    const desired = count('desiredNumberScheduled')
    if (count('updatedNumberScheduled') === desired && count('numberAvailable') === desired) return null
    return `${count('updatedNumberScheduled')} of ${desired} pods updated, ${count('numberAvailable')} available`
  }
  const asked = at(spec, 'replicas')
  const desired = typeof asked === 'number' ? asked : 1
  const updated = count('updatedReplicas')
  const available = kind === 'StatefulSet' ? count('readyReplicas') : count('availableReplicas')
  if (updated === desired && available === desired && count('replicas') === desired) return null
  const paused = at(spec, 'paused') === true ? '; it is paused' : ''
  return `${updated} of ${desired} replicas updated, ${available} available, ${count('replicas')} in all${paused}`
}

export interface Condition {
  readonly status: string
  readonly reason: string
  readonly message: string
  readonly observedGeneration: number | null
}

export function condition(object: KubernetesObject, type: string): Condition | null {
  const found = list(at(object.status, 'conditions')).find(candidate => record(candidate).type === type)
  if (found === undefined) return null
  const { status, reason, message, observedGeneration } = record(found)
  return {
    status: text(status) ?? '',
    reason: text(reason) ?? '',
    message: text(message) ?? '',
    observedGeneration: typeof observedGeneration === 'number' ? observedGeneration : null,
  }
}
