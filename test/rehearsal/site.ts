import type { Cluster, ResourceType } from '../../src/cluster/cluster.ts'
import { createClock, seededRandom, type VirtualClock } from '../../src/rehearsal/clock.ts'
import { noFaults } from '../../src/rehearsal/faults.ts'
import { Handshakes } from '../../src/rehearsal/handshakes.ts'
import { asRead, kindOf, ObjectStore, type StoredObject } from '../../src/rehearsal/objects.ts'
import type { Site } from '../../src/rehearsal/site.ts'

export const second = 1_000

/** A cluster with an API server alone, for one controller to work in. */
export function bareSite(): { readonly site: Site; readonly clock: VirtualClock; readonly store: ObjectStore } {
  const clock = createClock(new Date('2026-11-22T08:00:00Z'))
  let identities = 0
  const store = new ObjectStore(clock, () => `uid-${++identities}`)
  for (const name of ['argocd', 'mesh'])
    store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }, 'kubectl')
  const site: Site = {
    name: 'eu-1',
    clock,
    random: seededRandom('site'),
    store,
    faults: noFaults(),
    handshakes: new Handshakes(clock, { crossSite: false, roundLimit: 1 }),
    trustDomain: 'cluster.local',
    leafHours: 24,
    life: () => {
      throw new Error('nothing is issued here')
    },
    log: () => {},
  }
  return { site, clock, store }
}

/** The objects as the verifier reads them. */
export function objectsOf(store: ObjectStore): Cluster {
  const refuse = async (): Promise<never> => {
    throw new Error('not asked for')
  }
  const find = (type: ResourceType, namespace: string | null, name: string): StoredObject | null =>
    store.get(type.group, kindOf(type) ?? '', namespace, name)
  return {
    identity: refuse,
    get: async (type, namespace, name) => {
      const found = find(type, namespace, name)
      return found === null ? null : asRead(found)
    },
    metadata: async (type, namespace, name) => {
      const found = find(type, namespace, name)
      return found === null ? null : asRead(found)
    },
    async *list() {},
    httpGet: refuse,
    servedTls: refuse,
    close: async () => {},
  }
}
