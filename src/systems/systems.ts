import type { SystemName } from '../rotation.ts'
import { cassandra } from './cassandra/system.ts'
import { istio } from './istio/system.ts'
import { kyma } from './kyma/system.ts'
import { linkerd } from './linkerd/system.ts'
import type { System } from './system.ts'

/** The one place where systems are chosen. */
const systems: Readonly<Record<SystemName, System>> = { istio, linkerd, kyma, cassandra }

export const systemNames = Object.keys(systems) as readonly SystemName[]

export function isSystemName(text: string): text is SystemName {
  return Object.hasOwn(systems, text)
}

export function systemOf(name: SystemName): System {
  return systems[name]
}
