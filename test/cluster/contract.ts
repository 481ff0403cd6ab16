import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Cluster, KubernetesObject, ListOptions, ResourceType } from '../../src/cluster/cluster.ts'
import { resources } from '../../src/cluster/resources.ts'
import { startedWith, subjectList } from '../../src/systems/istio/observe-authorities.ts'

/** A cluster that holds at least: namespace kube-system; `shop/podCount` pods; a Secret with data; a pod to talk to. */
export interface ContractSubject {
  readonly cluster: Cluster
  readonly namespace: string
  /** Pods in that namespace; more than one page of them is best. */
  readonly podCount: number
  /** A Secret of the namespace that holds data. */
  readonly secret: { readonly namespace: string; readonly name: string }
  /** A running istiod, which serves 15012. */
  readonly istiod: { readonly namespace: string; readonly name: string }
  /** Subject of the one root that it started with. */
  readonly istiodRoot: string
  /** A running pod with an Envoy, which serves /config_dump on 15000. */
  readonly proxy: { readonly namespace: string; readonly name: string }
  /** ConfigMaps of this name exist in several namespaces. */
  readonly everywhere: string
  close(): Promise<void>
}

/** What every implementation of `Cluster` answers alike. */
export function clusterContract(name: string, open: () => Promise<ContractSubject>): void {
  describe(`${name} as a cluster`, () => {
    let subject: ContractSubject
    beforeEach(async () => {
      subject = await open()
    })
    afterEach(async () => {
      await subject.cluster.close()
      await subject.close()
    })

    it('names itself by the same uid every time, and tells its own time', async () => {
      const first = await subject.cluster.identity()
      const second = await subject.cluster.identity()
      expect(first.uid).toMatch(/.+/)
      expect(second.uid).toBe(first.uid)
      expect(first.now).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/)
    })

    it('gives null for an object that does not exist, and for a resource type that does not', async () => {
      const unknown: ResourceType = { group: 'none.example', version: 'v1', plural: 'things', namespaced: true }
      expect(await subject.cluster.get(resources.pods, subject.namespace, 'no-such-pod')).toBeNull()
      expect(await subject.cluster.metadata(resources.secrets, subject.namespace, 'no-such-secret')).toBeNull()
      expect(await subject.cluster.get(unknown, subject.namespace, 'thing')).toBeNull()
      expect(await all(subject.cluster, unknown)).toEqual([])
    })

    it('lists every object once, over however many pages', async () => {
      const pods = await all(subject.cluster, resources.pods, { namespace: subject.namespace })
      const names = new Set(pods.map(pod => pod.metadata.name))
      expect(pods.length).toBe(subject.podCount)
      expect(names.size).toBe(subject.podCount)
      expect(new Set(pods.map(pod => pod.metadata.namespace))).toEqual(new Set([subject.namespace]))
    })

    it('chooses by name over all namespaces, and by label', async () => {
      const maps = await all(subject.cluster, resources.configMaps, {
        fieldSelector: `metadata.name=${subject.everywhere}`,
      })
      expect(maps.length).toBeGreaterThan(1)
      expect(new Set(maps.map(map => map.metadata.name))).toEqual(new Set([subject.everywhere]))
      const deployments = await all(subject.cluster, resources.deployments, {
        namespace: subject.istiod.namespace,
        labelSelector: 'app=istiod',
      })
      expect(deployments.length).toBeGreaterThan(0)
      for (const deployment of deployments) expect(deployment.metadata.labels?.app).toBe('istiod')
    })

    it('gives metadata without a byte of data', async () => {
      const { namespace, name: secretName } = subject.secret
      const found = await subject.cluster.metadata(resources.secrets, namespace, secretName)
      expect(found?.metadata.name).toBe(secretName)
      expect(found?.metadata.managedFields?.length).toBeGreaterThan(0)
      expect(found).not.toHaveProperty('data')
      expect(found).not.toHaveProperty('stringData')
      const listed = await all(subject.cluster, resources.secrets, { namespace, metadataOnly: true })
      expect(listed.map(({ metadata }) => metadata.name)).toContain(secretName)
      for (const each of listed) expect(each).not.toHaveProperty('data')
    })

    it('reads a pod over its loopback', async () => {
      const answer: unknown = JSON.parse(
        await subject.cluster.httpGet(subject.proxy, 15000, '/config_dump?mask=dynamic_active_secrets'),
      )
      expect(answer).toBeTypeOf('object')
    })

    it('gives the chain that istiod serves, leaf first', async () => {
      const { X509Certificate } = await import('node:crypto')
      const { chain, authorities } = await subject.cluster.servedTls(
        subject.istiod,
        15012,
        `istiod.${subject.istiod.namespace}.svc`,
      )
      const [leaf, issuer] = chain.map(der => new X509Certificate(der))
      expect(leaf?.ca).toBe(false)
      expect(issuer === undefined || leaf?.verify(issuer.publicKey)).toBe(true)
      // It takes certificates of its own CA, and names that one to whoever asks.
      expect(startedWith(authorities)).toBe(subjectList([subject.istiodRoot]))
    })

    it('throws ClusterError for a port that nothing listens on', async () => {
      await expect(
        subject.cluster.httpGet({ namespace: subject.namespace, name: 'no-such-pod' }, 15000, '/'),
      ).rejects.toMatchObject({
        name: 'ClusterError',
      })
    })
  })
}

async function all(
  cluster: Cluster,
  type: ResourceType,
  options: ListOptions = {},
): Promise<readonly KubernetesObject[]> {
  const found: KubernetesObject[] = []
  for await (const page of cluster.list(type, options)) found.push(...page)
  return found
}
