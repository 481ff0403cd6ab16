import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { labelMatcher } from '../../gitops/selector.ts'
import type { VirtualClock } from '../clock.ts'
import { namespaceOf } from '../manifests.ts'
import { asRead, kindOf, ObjectStore } from '../objects.ts'

/** The cluster of one runtime: a store, and what the verifier can read of it. No pod of it is simulated. */
export interface RuntimeCluster {
  readonly store: ObjectStore
  readonly cluster: Cluster
}

export function runtimeCluster(name: string, clock: VirtualClock): RuntimeCluster {
  let identities = 0
  const store = new ObjectStore(clock, () => {
    identities += 1
    return `${name}-${identities}`
  })
  store.put(namespaceOf('kube-system'), 'kube-apiserver')
  const cluster: Cluster = {
    async identity() {
      return { uid: store.get('', 'Namespace', null, 'kube-system')?.metadata.uid ?? '', now: clock.instant() }
    },
    async get(type, namespace, object) {
      const kind = kindOf(type)
      const found = kind === null ? null : store.get(type.group, kind, namespace, object)
      return found === null ? null : asRead(found)
    },
    async metadata(type, namespace, object) {
      const kind = kindOf(type)
      const found = kind === null ? null : store.get(type.group, kind, namespace, object)
      if (found === null) return null
      return { apiVersion: 'meta.k8s.io/v1', kind: 'PartialObjectMetadata', metadata: asRead(found).metadata }
    },
    async *list(type, options = {}) {
      const kind = kindOf(type)
      const matches = labelMatcher(options.labelSelector ?? '')
      const found: KubernetesObject[] =
        kind === null
          ? []
          : store
              .list(type.group, kind, options.namespace)
              .filter(object => matches(object.metadata.labels ?? {}))
              .map(asRead)
      yield found
    },
    async httpGet() {
      throw new Error('no pod of a runtime is simulated')
    },
    async servedTls() {
      throw new Error('no pod of a runtime is simulated')
    },
    async close() {},
  }
  return { store, cluster }
}
