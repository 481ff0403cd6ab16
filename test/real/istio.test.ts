import { X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import { startedWith, subjectList } from '../../src/systems/istio/observe-authorities.ts'
import { envoySecretsPath, readEnvoySecrets } from '../../src/systems/istio/observe-envoy.ts'
import { readSync, syncPath } from '../../src/systems/istio/observe-sync.ts'
import { type MeshCa, makeCa, namesOf, ownCa, planOf, putCacerts, stateOf } from './rig/authority.ts'
import { istioNamespace } from './rig/istio.ts'
import { type IstioCluster, presents, startIstioCluster, trusts, untilFlowing, untilHeld } from './rig/istio-cluster.ts'
import { edgeName, gatewayName, type MeshWorkload, meshPort } from './rig/mesh.ts'
import type { Manifest } from './rig/objects.ts'
import { report } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { trafficText } from './rig/traffic.ts'
import { lookAndJudge, openGates } from './rig/verdicts.ts'

const namespace = 'mesh'
const subscribed = ['alpha', 'beta', 'gamma', 'delta']
const quiet = ['epsilon', 'zeta']
const workloads: readonly MeshWorkload[] = [
  ...subscribed.map(name => ({ name, xdsAgent: true })),
  ...quiet.map(name => ({ name })),
]
/** All pairs, and the client before the gateway. */
const pairs = workloads.length * (workloads.length - 1) + 1

let cluster: IstioCluster
let own: MeshCa

const isSubscribed = (pod: string): boolean => subscribed.some(name => pod.startsWith(`${name}-`))
const isQuiet = (pod: string): boolean => quiet.some(name => pod.startsWith(`${name}-`))
const isGateway = (pod: string): boolean => pod.startsWith(`${gatewayName}-`)
/** Gateways are injected without a word about the flag, as the quiet ones are. */
const waitsForRenewal = (pod: string): boolean => isQuiet(pod) || isGateway(pod)

beforeAll(async () => {
  cluster = await startIstioCluster({ name: 'istio', env: { ISTIO_MULTIROOT_MESH: 'true' } })
  own = await ownCa(cluster.plane)
  await cluster.addMesh({ namespace, workloads, gateway: { clusterIP: cluster.plane.network.clusterIP(0, 200) } })
})
afterAll(async () => await cluster?.stop())

async function pods(): Promise<readonly Manifest[]> {
  return await cluster.plane.objects.list('v1', 'Pod', { namespace })
}

interface ProxyContainer {
  readonly name: string
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value?: string }[]
}

function proxyOf(pod: Manifest): ProxyContainer | undefined {
  const { containers, initContainers = [] } = pod.spec as Record<'containers' | 'initContainers', ProxyContainer[]>
  return [...containers, ...initContainers].find(({ name }) => name === 'istio-proxy')
}

test('two istiods run by the chart, on a CA that istiod made itself', async () => {
  const { objects } = cluster.plane
  const istiods = await objects.list('v1', 'Pod', { namespace: istioNamespace, labels: 'app=istiod' })
  expect(istiods).toHaveLength(2)
  expect(await objects.get({ apiVersion: 'v1', kind: 'Secret', namespace: istioNamespace, name: 'cacerts' })).toBeNull()
  expect(own.root.subject).toBe('O=cluster.local')
  const istio = await until('Sail reports', async () => {
    const found = await objects.get({ apiVersion: 'sailoperator.io/v1', kind: 'Istio', name: 'default' })
    return (found?.status as { state?: string } | undefined)?.state === 'Healthy' ? found : null
  })
  expect(istio.status).toMatchObject({ observedGeneration: 1, activeRevisionName: 'default' })
})

test('the webhook of istiod injects sidecars and a gateway, some subscribed to pushed trust and some not', async () => {
  const seen = new Map<string, string>()
  for (const pod of await pods()) {
    const proxy = proxyOf(pod)
    const app = (pod.metadata.labels as Record<string, string>).app ?? ''
    const flag = proxy?.env.find(({ name }) => name === 'PROXY_CONFIG_XDS_AGENT')?.value
    seen.set(app, proxy === undefined ? 'no proxy' : `${proxy.args[1]} ${flag ?? 'unset'}`)
  }
  expect(Object.fromEntries(seen)).toEqual({
    ...Object.fromEntries(subscribed.map(name => [name, 'sidecar true'])),
    ...Object.fromEntries(quiet.map(name => [name, 'sidecar unset'])),
    [gatewayName]: 'router unset',
    [edgeName]: 'no proxy',
  })
})

test('all pairs talk over mutual TLS on fresh connections, and through the gateway', async () => {
  await untilFlowing(cluster.traffic, pairs)
  const [alpha] = cluster.kubelet.find(namespace, 'alpha-')
  if (alpha === undefined) throw new Error('no pod alpha')
  const count = async (statistic: string): Promise<number> => {
    const stats = await alpha.exec(['curl', '-s', `http://127.0.0.1:15000/stats?filter=_${meshPort}.ssl.${statistic}`])
    return Number(/: (\d+)/.exec(stats)?.[1])
  }
  const before = await count('handshake')
  // A report covers the second before it.
  const since = Date.now() + 1000
  await until('requests go on', async () => (await cluster.traffic.read(since)).sent > 200)
  const { failed, pairs: seen } = await cluster.traffic.read(since)
  const after = await count('handshake')
  expect(failed).toBe(0)
  expect(seen).toHaveLength(pairs)
  const toAlpha = seen.filter(({ to }) => to === 'alpha').reduce((sum, { sent }) => sum + sent, 0)
  expect(after - before).toBeGreaterThanOrEqual(toAlpha)
  // A resumed session would verify no certificate anew.
  expect(await count('session_reused')).toBe(0)
  for (const held of (await cluster.traffic.present(namespace)).values()) {
    expect(presents(held, own.issuing.sha256), `${held.pod} presents a leaf of istiod's own CA`).toBe(true)
    expect(trusts(held, [own.root.sha256]), `${held.pod} trusts istiod's own root`).toBe(true)
  }
})

test('a workload refuses plain text', async () => {
  const [beta] = cluster.kubelet.find(namespace, 'beta-')
  const [edge] = cluster.kubelet.find(namespace, `${edgeName}-`)
  if (beta === undefined || edge === undefined) throw new Error('no pod beta, or no edge')
  const ask = `
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3) as connection:
    connection.sendall(b"from edge\\n")
    try:
        print(repr(connection.recv(100)))
    except ConnectionResetError:
        print("reset")
`
  const plain = await edge.exec(['python3', '-c', ask, beta.address, String(meshPort)])
  expect(['reset', "b''"]).toContain(plain.trim())
})

test('the verifier reads every proxy and every istiod through the API server, with its own Role', async () => {
  const reader = await openKubernetesCluster({ kind: 'kubeconfig', file: cluster.verifier, context: null })
  try {
    const entries = new Set<string>()
    for (const pod of await pods()) {
      if (proxyOf(pod) === undefined) continue
      const at = { namespace, name: pod.metadata.name }
      const { chains, bundles } = readEnvoySecrets(await reader.httpGet(at, 15000, envoySecretsPath))
      expect(chains.length, pod.metadata.name).toBeGreaterThan(0)
      expect(bundles.length, pod.metadata.name).toBeGreaterThan(0)
      entries.add(`${chains.length} and ${bundles.length}`)
    }
    await report({ suite: 'istio', what: 'entries of default and ROOTCA', of: [...entries] })
    const connected = new Map<string, boolean | null>()
    for (const { namespace: of, name } of cluster.kubelet.find(istioNamespace, 'istiod-')) {
      const istiod = { namespace: of, name }
      // On its own CA istiod serves the leaf alone.
      const { chain, authorities } = await reader.servedTls(istiod, 15012, `istiod.${istioNamespace}.svc`)
      const [leaf, ...above] = chain
      expect(above).toEqual([])
      expect(startedWith(authorities)).toBe(subjectList([own.root.subject]))
      const signer = new X509Certificate(own.issuing.pem)
      expect(leaf !== undefined && new X509Certificate(leaf).verify(signer.publicKey)).toBe(true)
      for (const proxy of readSync(await reader.httpGet(istiod, 15014, syncPath))) {
        connected.set(proxy.name.replace(/-[a-z0-9]+-[a-z0-9]+$/, ''), proxy.subscribed)
      }
    }
    // What the verifier makes of it: those that cannot be reached by a push are named, one by one.
    const flagged = stateOf(own, [own], {
      source: 'own',
      settings: { ISTIO_MULTIROOT_MESH: 'true', PROXY_CONFIG_XDS_AGENT: 'true' },
    })
    const verdicts = await lookAndJudge(reader, planOf([own], [flagged]), 0)
    expect(verdicts.gates.get('istio/proxies-subscribed')?.verdict).toBe('pending')
    const unsubscribed = verdicts.exceptions.filter(({ reason }) => reason === 'setting-missing')
    expect(unsubscribed.map(({ name }) => name.replace(/-[a-z0-9]+-[a-z0-9]+$/, '')).sort()).toEqual(
      [...quiet, gatewayName].map(name => `${namespace}/${name}`).sort(),
    )
    for (const gate of ['istio/secret', 'istio/istiod-serves', 'istio/roots-trusted', 'istio/leaves-issued']) {
      expect(verdicts.gates.get(gate)?.verdict, openGates(verdicts)).toBe('holds')
    }
    expect(Object.fromEntries(connected)).toEqual({
      ...Object.fromEntries(subscribed.map(name => [`${namespace}/${name}`, true])),
      ...Object.fromEntries([...quiet, gatewayName].map(name => [`${namespace}/${name}`, false])),
    })
  } finally {
    await reader.close()
  }
})

let second: MeshCa

test('from its own CA to a new root step by step: no request fails', async () => {
  second = await makeCa('second')
  const { plane } = cluster
  const since = Date.now()
  const lags: Record<string, number> = {}
  const restartQuiet = async (token: string): Promise<void> => {
    for (const name of [...quiet, gatewayName]) await cluster.restartWorkload(namespace, name, token)
  }
  const roots = (...authorities: readonly MeshCa[]) => authorities.map(({ root }) => root.sha256)

  // Files that appear under a running istiod of its own CA are not read.
  await putCacerts(plane, own, [own, second])
  await cluster.restartIstiod('both')
  lags['both roots, after the roll-out'] = await untilHeld(
    cluster,
    'subscribed proxies trust both roots',
    namespace,
    isSubscribed,
    held => trusts(held, roots(own, second)),
  )
  for (const held of (await cluster.traffic.present(namespace)).values()) {
    if (waitsForRenewal(held.pod)) expect(trusts(held, roots(own)), held.pod).toBe(true)
  }
  await restartQuiet('both')
  await untilHeld(
    cluster,
    'all trust both roots',
    namespace,
    () => true,
    held => trusts(held, roots(own, second)),
  )

  // A running istiod takes it up by itself.
  await putCacerts(plane, second, [own, second, second])
  lags['new leaves, after the Secret'] = await untilHeld(
    cluster,
    'subscribed proxies present leaves of the new CA',
    namespace,
    isSubscribed,
    held => presents(held, second.issuing.sha256),
  )
  await cluster.restartIstiod('issue')
  for (const held of (await cluster.traffic.present(namespace)).values()) {
    if (waitsForRenewal(held.pod)) expect(presents(held, own.issuing.sha256), held.pod).toBe(true)
  }
  await restartQuiet('issue')
  await untilHeld(
    cluster,
    'all present leaves of the new CA',
    namespace,
    () => true,
    held => presents(held, second.issuing.sha256),
  )

  await putCacerts(plane, second, [second])
  lags['old root gone, after the Secret'] = await untilHeld(
    cluster,
    'subscribed proxies trust the new root alone',
    namespace,
    isSubscribed,
    held => trusts(held, roots(second)),
  )
  await cluster.restartIstiod('only')
  await restartQuiet('only')
  await untilHeld(
    cluster,
    'all trust the new root alone',
    namespace,
    () => true,
    held => trusts(held, roots(second)),
  )
  await untilFlowing(cluster.traffic, pairs)

  const traffic = await cluster.traffic.read(since)
  await report({ suite: 'istio', what: 'by hand, step by step', sent: traffic.sent, failed: traffic.failed, lags })
  expect(traffic.failed, trafficText(traffic, namesOf(own, second))).toBe(0)
  expect(traffic.sent).toBeGreaterThan(1000)
})

test('control: the naive swap in one step fails requests, and each is told with its time, its pair and the certificates of both ends', async () => {
  const third = await makeCa('third')
  const since = Date.now()
  await putCacerts(cluster.plane, third, [third])
  await cluster.restartIstiod('swap')
  const traffic = await until(
    'requests fail between who moved and who did not',
    async () => {
      const read = await cluster.traffic.read(since)
      return read.failed > 50 ? read : null
    },
    60_000,
    500,
  )
  await report({ suite: 'istio', what: 'naive swap', sent: traffic.sent, failed: traffic.failed })
  const told = trafficText(traffic, namesOf(own, second, third))
  for (const { at, client, server, from } of traffic.failures) {
    expect(Date.parse(at), told).toBeGreaterThanOrEqual(since)
    if (from !== edgeName) expect(client?.leaves.length, told).toBeGreaterThan(0)
    expect(server.length, told).toBeGreaterThan(0)
  }
  // The reason of a failure can be read from what both ends held.
  const explained = traffic.failures.filter(({ client, server }) => {
    const rootOf = (issuer: string | null | undefined): string | undefined =>
      [second, third].find(({ issuing }) => issuing.sha256 === issuer)?.root.sha256
    const [far] = server
    const sees = (sets: readonly (readonly string[])[] | undefined, root: string | undefined): boolean =>
      root !== undefined && (sets ?? []).every(set => set.includes(root))
    return !sees(far?.roots, rootOf(client?.leaves[0]?.issuer)) || !sees(client?.roots, rootOf(far?.leaves[0]?.issuer))
  })
  expect(explained.length, told).toBeGreaterThan(0)
})
