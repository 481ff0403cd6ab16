import { connect, createSecureContext, type DetailedPeerCertificate } from 'node:tls'
import {
  type Cluster,
  ClusterError,
  type KubernetesObject,
  type ListOptions,
  type ResourceType,
} from '../cluster/cluster.ts'
import { labelMatcher } from '../gitops/selector.ts'
import { instantOf } from './clock.ts'
import { asRead, groupOf, kindOf, type StoredObject, textAt } from './objects.ts'
import type { Workloads } from './rollout.ts'
import type { Site } from './site.ts'
import type { Endpoint, LoadedMaterial } from './workload-tls.ts'

const pageSize = 25

/** A site's rehearsal cluster as the verifier reads it: the same questions, answers and failures as with a real API server. */
export function readableCluster(site: Site, workloads: Workloads): Cluster {
  async function asking(asked: string): Promise<void> {
    // Answers of an API server never come in the same turn.
    await Promise.resolve()
    const fault = site.faults.api.find(
      entry => entry.asked.test(asked) && (entry.times === undefined || entry.times > 0),
    )
    if (fault === undefined) return
    if (fault.times !== undefined) fault.times -= 1
    throw new ClusterError(fault.failure, asked, fault.detail ?? faultTexts[fault.failure])
  }

  function objects(type: ResourceType, namespace: string | undefined): StoredObject[] {
    const kind = kindOf(type)
    if (kind === null) return []
    const stale = site.faults.staleReads
    if (stale === null) return site.store.list(type.group, kind, namespace)
    return stale.filter(
      object =>
        object.kind === kind &&
        groupOf(object.apiVersion) === type.group &&
        (namespace === undefined || object.metadata.namespace === namespace),
    )
  }

  function find(type: ResourceType, namespace: string | null, name: string): StoredObject | null {
    return (
      objects(type, namespace ?? undefined).find(
        object => object.metadata.name === name && (object.metadata.namespace ?? null) === namespace,
      ) ?? null
    )
  }

  function runningPod(pod: { readonly namespace: string; readonly name: string }, asked: string): StoredObject {
    const found = site.store.get('', 'Pod', pod.namespace, pod.name)
    if (found === null) throw new ClusterError('unreachable', asked, `pods "${pod.name}" not found`)
    if (textAt(found, 'status', 'phase') !== 'Running')
      throw new ClusterError('unreachable', asked, 'the pod is not running')
    return found
  }

  /** What OpenSSL sends of one material, which does not change: it is asked for at every look. */
  const served = new WeakMap<LoadedMaterial, Buffer[]>()

  return {
    async identity() {
      await asking('identity')
      const namespace = site.store.get('', 'Namespace', null, 'kube-system')
      if (namespace === null) throw new ClusterError('malformed', 'identity', 'there is no namespace kube-system')
      return { uid: namespace.metadata.uid, now: instantOf(site.clock.millis() + site.faults.clockSkew) }
    },
    async get(type, namespace, name) {
      await asking(`get ${type.plural} ${namespace === null ? '' : `${namespace}/`}${name}`)
      const found = find(type, namespace, name)
      return found === null ? null : asRead(found)
    },
    async metadata(type, namespace, name) {
      await asking(`get ${type.plural} ${namespace === null ? '' : `${namespace}/`}${name}`)
      const found = find(type, namespace, name)
      if (found === null) return null
      return metadataOf(asRead(found))
    },
    async *list(type, options = {}) {
      const asked = `list ${type.plural}${options.namespace === undefined ? '' : ` in ${options.namespace}`}`
      const partial = site.faults.api.find(
        entry =>
          entry.failure === 'partial' && entry.asked.test(asked) && (entry.times === undefined || entry.times > 0),
      )
      if (partial === undefined) await asking(asked)
      const found = objects(type, options.namespace).filter(matcher(options))
      // A list is one moment's: pages of it do not change while they are read.
      const pages: KubernetesObject[][] = []
      for (let start = 0; start < found.length; start += pageSize)
        pages.push(
          found
            .slice(start, start + pageSize)
            .map(object => (options.metadataOnly === true ? metadataOf(asRead(object)) : asRead(object))),
        )
      if (partial !== undefined) {
        if (partial.times !== undefined) partial.times -= 1
        if (pages[0] !== undefined) yield pages[0].slice(0, Math.ceil(pages[0].length / 2))
        throw new ClusterError('partial', asked, partial.detail ?? faultTexts.partial)
      }
      for (const page of pages) yield page
    },
    async httpGet(pod, port, path) {
      const asked = `http ${pod.namespace}/${pod.name}:${port}${path}`
      await asking(asked)
      const process = workloads.process(runningPod(pod, asked))
      const [route = ''] = path.split('?')
      const answer = process?.answer?.(port, route) ?? null
      if (answer === null) throw new ClusterError('unreachable', asked, 'connection refused')
      return typeof answer === 'string' ? answer : JSON.stringify(answer)
    },
    async servedTls(pod, port, serverName) {
      const asked = `handshake with ${pod.namespace}/${pod.name}:${port}`
      await asking(asked)
      const process = workloads.process(runningPod(pod, asked))
      const endpoint = process?.endpointAt?.(port) ?? null
      if (endpoint === null) throw new ClusterError('unreachable', asked, 'connection refused')
      const { material } = endpoint
      const known = served.get(material)
      if (known !== undefined) return { chain: known, authorities: endpoint.authorities }
      const chain = await chainServed(endpoint, serverName, asked)
      if (endpoint.material === material) served.set(material, chain)
      return { chain, authorities: endpoint.authorities }
    },
    async close() {},
  }
}

const faultTexts = {
  unreachable: 'connect ECONNREFUSED',
  forbidden: 'forbidden: the service account cannot do this (403)',
  partial: 'the server could not return the rest of the list',
  timeout: 'no answer in time',
  malformed: 'the answer is no JSON',
} as const

function matcher(options: ListOptions): (object: StoredObject) => boolean {
  const labels = labelMatcher(options.labelSelector ?? '')
  const fields = (options.fieldSelector ?? '').split(',').filter(part => part !== '')
  return object => labels(object.metadata.labels ?? {}) && fields.every(field => fieldHolds(object, field))
}

function fieldHolds(object: StoredObject, selector: string): boolean {
  const parts = /^([^!=]+)(!=|==|=)(.*)$/.exec(selector)
  if (parts === null) return false
  const value = textAt(object, ...parts[1]!.split('.')) ?? ''
  return parts[2] === '!=' ? value !== parts[3] : value === parts[3]
}

function chainServed(endpoint: Endpoint, serverName: string, asked: string): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: '127.0.0.1',
      port: endpoint.port,
      servername: serverName,
      rejectUnauthorized: false,
      // No root of its own, so that nothing but what the server sends comes back.
      secureContext: createSecureContext({ ca: [], minVersion: 'TLSv1.3' }),
      ALPNProtocols: ['h2', 'istio'],
    })
    const fail = (error: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(new ClusterError('unreachable', asked, error.message, error))
    }
    const timer = setTimeout(() => fail(new Error('no answer within 10 s')), 10_000)
    socket.once('error', fail)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      const chain: Buffer[] = []
      let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
      while (next?.raw !== undefined && !chain.some(raw => raw.equals(next!.raw))) {
        chain.push(next.raw)
        next = next.issuerCertificate
      }
      socket.off('error', fail)
      socket.on('error', () => {})
      socket.destroy()
      resolve(chain)
    })
  })
}

function metadataOf({ metadata }: KubernetesObject): KubernetesObject {
  return { apiVersion: 'meta.k8s.io/v1', kind: 'PartialObjectMetadata', metadata }
}
