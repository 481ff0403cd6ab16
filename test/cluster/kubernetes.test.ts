import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { type KubernetesOptions, openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import { resources } from '../../src/cluster/resources.ts'
import { createCertificate, keyIdOf, subjectKey } from '../../src/pki/authority.ts'
import { issuing, leaf, newKey, root } from '../pki/family.ts'
import { clusterContract } from './contract.ts'
import { type FakeApi, startFakeApi } from './fake-api.ts'

const quick: KubernetesOptions = { requestTimeout: 5000, forwardTimeout: 5000, pageSize: 3 }
const somePod = { namespace: 'shop', name: 'cart-1' }

function fill(api: FakeApi): void {
  const pods = Array.from({ length: 8 }, (_, index) => ({
    metadata: { name: `cart-${index}`, namespace: 'shop', uid: `u${index}` },
  }))
  api.objects.set('/namespaces', [{ metadata: { name: 'kube-system', uid: 'cluster-1' } }])
  api.objects.set('/pods', pods)
  api.objects.set('/secrets', [
    {
      metadata: { name: 'cacerts', namespace: 'istio-system', managedFields: [{ manager: 'kustomize-controller' }] },
      data: { 'ca-key.pem': 'c2VjcmV0' },
    },
  ])
  api.objects.set(
    '/configmaps',
    ['shop', 'edge'].flatMap(namespace =>
      ['istio-ca-root-cert', 'other'].map(name => ({ metadata: { name, namespace } })),
    ),
  )
  api.objects.set('apps/deployments', [
    { metadata: { name: 'istiod', namespace: 'istio-system', labels: { app: 'istiod' } } },
    { metadata: { name: 'other', namespace: 'istio-system', labels: { app: 'other' } } },
  ])
}

async function selfSigned(): Promise<{ readonly cert: string; readonly key: string }> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { pem } = await createCertificate({
    subject: 'CN=node',
    issuer: 'CN=node',
    publicKey: privateKey,
    signingKey: privateKey,
    serial: '42',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    extensions: [subjectKey(keyIdOf(privateKey))],
  })
  return { cert: pem, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
}

async function connected(api: FakeApi, options = quick): Promise<Cluster> {
  return await openKubernetesCluster({ kind: 'kubeconfig', file: api.kubeconfig, context: null }, options)
}

clusterContract('an API server', async () => {
  const api = await startFakeApi()
  fill(api)
  const cluster = await connected(api)
  const unreachablePod = cluster.httpGet.bind(cluster)
  return {
    // The stand-in forwards whatever pod is named, so a missing pod is one whose forward reports an error.
    cluster: {
      ...cluster,
      async httpGet(pod, port, path) {
        api.forwardError = pod.name === 'no-such-pod' ? 'no such pod' : ''
        return await unreachablePod(pod, port, path)
      },
    },
    namespace: 'shop',
    podCount: 8,
    secret: { namespace: 'istio-system', name: 'cacerts' },
    istiod: { namespace: 'istio-system', name: 'istiod-1' },
    istiodRoot: 'CN=fake API',
    proxy: somePod,
    everywhere: 'istio-ca-root-cert',
    close: () => api.close(),
  }
})

describe('a real connection', () => {
  let api: FakeApi
  let cluster: Cluster
  beforeEach(async () => {
    api = await startFakeApi()
    fill(api)
    cluster = await connected(api)
  })
  afterEach(async () => {
    await cluster.close()
    await api.close()
  })

  async function names(plural: 'pods' | 'statefulSets' = 'pods'): Promise<readonly string[]> {
    const found: string[] = []
    for await (const page of cluster.list(resources[plural])) found.push(...page.map(({ metadata }) => metadata.name))
    return found
  }

  it("takes the time from the API server's Date, not from this machine (F27)", async () => {
    expect(await cluster.identity()).toEqual({ uid: 'cluster-1', now: '2026-11-22T12:00:00Z' })
    api.date = null
    await expect(cluster.identity()).rejects.toMatchObject({ failure: 'malformed' })
  })

  it('asks for metadata alone where a Secret holds a private key', async () => {
    await cluster.metadata(resources.secrets, 'istio-system', 'cacerts')
    expect(api.accepted).toEqual(['application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'])
    for await (const _page of cluster.list(resources.secrets, { metadataOnly: true })) break
    expect(api.accepted[1]).toBe('application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1')
  })

  it('reads an expired list once more from the start, and gives no object twice', async () => {
    api.expire = 1
    const found = await names()
    expect(found.length).toBe(8)
    expect(new Set(found).size).toBe(8)
  })

  it('gives a list up as partial that expires again and again, or stops half way', async () => {
    api.expire = 5
    await expect(names()).rejects.toMatchObject({ failure: 'partial' })
    api.expire = 0
    api.stopHalfWay = 500
    await expect(names()).rejects.toMatchObject({ failure: 'partial' })
  })

  it('does not take half a body for a whole one', async () => {
    api.breakOff = true
    await expect(names()).rejects.toMatchObject({ failure: 'partial' })
  })

  it('names verb and resource that the role lacks', async () => {
    api.forbidden.add('list /pods').add('get /secrets').add('get /pods/portforward')
    await expect(names()).rejects.toThrow(
      'the role lacks verb list on pods (API group core); the file of its system in roles/ grants it',
    )
    await expect(cluster.metadata(resources.secrets, 'istio-system', 'cacerts')).rejects.toMatchObject({
      failure: 'forbidden',
    })
    await expect(cluster.httpGet(somePod, 15000, '/')).rejects.toThrow(
      /the port-forwards of its system in roles\/ grant both/,
    )
  })

  it('says malformed for what is not JSON', async () => {
    api.notJson = true
    await expect(names()).rejects.toMatchObject({ failure: 'malformed' })
  })

  it('reads a large answer whole through a port-forward', async () => {
    const answer = JSON.parse(await cluster.httpGet(somePod, 15000, '/config_dump?mask=x')) as {
      path: string
      filling: string
    }
    expect(answer.path).toBe('/config_dump?mask=x')
    expect(answer.filling.length).toBe(200_000)
  })

  it('throws for an answer that is not 2xx', async () => {
    await expect(cluster.httpGet(somePod, 15014, '/refused')).rejects.toMatchObject({ failure: 'forbidden' })
    await expect(cluster.httpGet(somePod, 15014, '/broken')).rejects.toMatchObject({ failure: 'malformed' })
  })

  it('waits a tenth as long after a request without an answer, until one has one: a look is a dozen of them', async () => {
    const waiting = await connected(api, { ...quick, requestTimeout: 1000 })
    const asked = (): Promise<unknown> => waiting.identity().catch((cause: Error) => cause.message)
    api.stalled = true
    expect(await asked()).toContain('no answer within 1 s')
    expect(await asked()).toContain('no answer within 0.1 s')
    api.stalled = false
    await expect.poll(asked, { timeout: 5000 }).toMatchObject({ uid: 'cluster-1' })
    api.stalled = true
    expect(await asked()).toContain('no answer within 1 s')
  })

  it('gives a port-forward up that never answers', async () => {
    await cluster.close()
    cluster = await connected(api, { ...quick, forwardTimeout: 150 })
    api.silent = true
    await expect(cluster.httpGet(somePod, 15000, '/')).rejects.toMatchObject({ failure: 'timeout' })
    await expect(cluster.servedTls(somePod, 15012, 'istiod.istio-system.svc')).rejects.toMatchObject({
      failure: 'timeout',
    })
  })

  it('tells what the port-forward reports', async () => {
    api.forwardError = 'connection refused by 15000'
    await expect(cluster.httpGet(somePod, 15000, '/')).rejects.toThrow(/connection refused by 15000/)
  })

  it('sees the certificate that is served', async () => {
    const { chain } = await cluster.servedTls(somePod, 15012, 'istiod.istio-system.svc')
    expect(
      createHash('sha256')
        .update(chain[0] ?? '')
        .digest('hex'),
    ).toBe(api.servedLeaf)
  })

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'links what is served by issuer, in whatever order, and leaves out what links to nothing: %s',
    async version => {
      const top = await root('CN=top')
      const issuer = await issuing('CN=issuer', top)
      const key = await newKey()
      const served = await leaf(issuer, { key, dns: ['localhost'] })
      const other = await root('CN=other')
      const [own, ...sent] = [served, top.certificate, other.certificate, issuer.certificate, top.certificate]
      const server = createTlsServer({
        cert: [own, ...sent].map(({ pem }) => pem).join(''),
        key: key.export({ type: 'pkcs8', format: 'pem' }),
        minVersion: version,
        maxVersion: version,
      })
      await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
      onTestFinished(() => void server.close())
      const { port } = server.address() as AddressInfo
      api.forwardError = `connection refused by ${port}`
      const { chain } = await cluster.servedTls({ ...somePod, address: '127.0.0.1' }, port, 'localhost')
      const names = chain.map(der => new X509Certificate(der).subject)
      expect(names).toEqual([new X509Certificate(own.pem).subject, 'CN=issuer', 'CN=top'])
    },
  )

  it('dials the address of a pod that listens nowhere else, and only where nothing answers on its loopback', async () => {
    const served = await selfSigned()
    const server = createTlsServer(served, socket => socket.end())
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const pod = { ...somePod, address: '127.0.0.1' }
    const own = new X509Certificate(served.cert).raw
    // Forwarded, it is the loopback that answers.
    const [forwarded] = (await cluster.servedTls(pod, 15012, 'localhost')).chain
    expect(forwarded?.equals(own)).toBe(false)
    api.forwardError = `connection refused by ${port}`
    const [leaf] = (await cluster.servedTls(pod, port, 'localhost')).chain
    expect(leaf?.equals(own)).toBe(true)
    await expect(cluster.servedTls(somePod, port, 'localhost')).rejects.toThrow(/connection refused by/)
    // Not every API server passes a refusal on.
    api.forwardError = ''
    api.silent = true
    expect((await cluster.servedTls(pod, port, 'localhost')).chain[0]?.equals(own)).toBe(true)
    server.close()
    await expect(cluster.servedTls(pod, port, 'localhost')).rejects.toThrow(/at 127\.0\.0\.1, as nothing answers/)
    // What the role withholds is not taken another way.
    api.forbidden.add('get /pods/portforward')
    await expect(cluster.servedTls(pod, port, 'localhost')).rejects.toMatchObject({ failure: 'forbidden' })
  })

  it('answers many port-forwards at once', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => cluster.httpGet(somePod, 15000, '/')))
    expect(answers.every(answer => answer.length > 200_000)).toBe(true)
  })

  it('says unreachable where nobody listens', async () => {
    await api.close()
    await expect(cluster.identity()).rejects.toMatchObject({ failure: 'unreachable' })
    await expect(cluster.httpGet(somePod, 15000, '/')).rejects.toMatchObject({ failure: 'unreachable' })
    api = await startFakeApi()
  })

  it('names the contexts that there are where the one asked for is none of them', async () => {
    await expect(
      openKubernetesCluster({ kind: 'kubeconfig', file: api.kubeconfig, context: 'eu-1' }),
    ).rejects.toMatchObject({
      expected: 'one of fake',
      found: 'eu-1',
      exit: 2,
    })
  })

  it('says which file it could not read', async () => {
    await expect(
      openKubernetesCluster({ kind: 'kubeconfig', file: 'no/such/file', context: null }),
    ).rejects.toMatchObject({
      where: { file: 'no/such/file' },
      exit: 2,
    })
  })
})
