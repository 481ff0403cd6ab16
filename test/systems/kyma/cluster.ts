import {
  type Cluster,
  ClusterError,
  type ClusterFailure,
  type KubernetesObject,
  type ResourceType,
} from '../../../src/cluster/cluster.ts'

export interface FakeCluster {
  readonly uid?: string
  readonly now: string
  /** By `plural/namespace/name`, the namespace empty for what has none. */
  readonly objects: Readonly<Record<string, KubernetesObject>>
  /** Answers of Envoy's admin by `pod path`, the query left out. */
  readonly answers?: Readonly<Record<string, string>>
  /** What is refused, by the same names, `list plural`, `forward`, or `identity`. */
  readonly failures?: Readonly<Record<string, ClusterFailure>>
}

/** A cluster that holds what it is given and nothing else. */
export function fakeCluster({ uid = 'central', now, objects, answers = {}, failures = {} }: FakeCluster): Cluster {
  const refuse = (asked: string): void => {
    const failure = failures[asked]
    if (failure !== undefined) throw new ClusterError(failure, asked, 'not today')
  }
  const find = (type: ResourceType, namespace: string | null, name: string): KubernetesObject | null => {
    const id = `${type.plural}/${namespace ?? ''}/${name}`
    refuse(id)
    return objects[id] ?? null
  }
  return {
    async identity() {
      refuse('identity')
      return { uid, now }
    },
    get: async (type, namespace, name) => find(type, namespace, name),
    async metadata(type, namespace, name) {
      const found = find(type, namespace, name)
      return found === null ? null : { metadata: found.metadata }
    },
    async *list(type, options = {}) {
      refuse(`list ${type.plural}`)
      const prefix = `${type.plural}/${options.namespace ?? ''}`
      yield Object.entries(objects).flatMap(([id, object]) => (id.startsWith(prefix) ? [object] : []))
    },
    async httpGet({ name }, _port, path) {
      refuse('forward')
      const answer = answers[`${name} ${path.replace(/\?.*/, '')}`]
      if (answer === undefined) throw new ClusterError('malformed', `http ${path}`, 'status 404')
      return answer
    },
    async servedTls() {
      throw new Error('nobody asks for it')
    },
    async close() {},
  }
}
