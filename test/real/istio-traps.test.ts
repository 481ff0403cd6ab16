import { X509Certificate } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import { startedWith, subjectList } from '../../src/systems/istio/observe-authorities.ts'
import { readEnvoySecrets } from '../../src/systems/istio/observe-envoy.ts'
import { type MeshCa, makeCa, namesOf, planOf, putCacerts, stateOf } from './rig/authority.ts'
import { istioNamespace, rolledOut } from './rig/istio.ts'
import { type IstioCluster, presents, startIstioCluster, trusts, untilFlowing, untilHeld } from './rig/istio-cluster.ts'
import type { RunningPod } from './rig/kubelet.ts'
import { report } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { trafficText } from './rig/traffic.ts'
import { lookAndJudge, openGates, type Verdicts } from './rig/verdicts.ts'

const namespace = 'mesh'
const subscribed = ['alpha', 'beta', 'gamma']
const pairs = 12

let cluster: IstioCluster
let reader: Cluster
let a: MeshCa
let b: MeshCa
let c: MeshCa
let d: MeshCa
let e: MeshCa
/** Roots of root-cert.pem as the last test that changed them left it. */
let latest: readonly MeshCa[] = []

beforeAll(async () => {
  ;[a, b, c, d, e] = await Promise.all([makeCa('a'), makeCa('b'), makeCa('c'), makeCa('d'), makeCa('e')])
  cluster = await startIstioCluster({
    name: 'traps',
    env: { ISTIO_MULTIROOT_MESH: 'true' },
    watch: 40,
    before: plane => putCacerts(plane, a, [a]),
  })
  reader = await openKubernetesCluster({ kind: 'kubeconfig', file: cluster.verifier, context: null })
  await cluster.addMesh({
    namespace,
    workloads: [
      ...subscribed.map(name => ({ name, xdsAgent: true })),
      // Leaves of a minute: half of that is how long the others are ahead of it.
      { name: 'quiet', proxyMetadata: { SECRET_TTL: '60s' } },
    ],
  })
  await untilFlowing(cluster.traffic, pairs)
})
afterAll(async () => {
  await reader?.close()
  await cluster?.stop()
})

const isSubscribed = (pod: string): boolean => subscribed.some(name => pod.startsWith(`${name}-`))
const rootsOf = (...authorities: readonly MeshCa[]): readonly string[] => authorities.map(({ root }) => root.sha256)
const subjectsOf = (...authorities: readonly MeshCa[]): string =>
  subjectList(authorities.map(({ root }) => root.subject))

/** The roots that each replica of istiod says it started with. */
async function startRoots(): Promise<readonly (string | null)[]> {
  const replicas = cluster.kubelet.find(istioNamespace, 'istiod-')
  const server = `istiod.${istioNamespace}.svc`
  return await Promise.all(
    replicas.map(async replica => startedWith((await reader.servedTls(replica, 15012, server)).authorities)),
  )
}
const known = (): readonly MeshCa[] => [a, b, c, d, e]

/** What the verifier says of the cluster when the folder declares this. */
async function verdictOn(issuer: MeshCa, roots: readonly MeshCa[], looking: Cluster = reader): Promise<Verdicts> {
  return await lookAndJudge(looking, planOf(known(), [stateOf(issuer, roots)]), 0)
}

function verdict(verdicts: Verdicts, gate: string): string {
  const found = verdicts.gates.get(gate)
  if (found === undefined) throw new Error(`no gate ${gate}`)
  return found.verdict
}

/** Every gate holds on this state, or soon does. */
async function untilHolds(issuer: MeshCa, roots: readonly MeshCa[], patience = 60_000): Promise<number> {
  const began = Date.now()
  let last = ''
  await until(
    'every gate holds',
    async () => {
      last = openGates(await verdictOn(issuer, roots))
      return last === ''
    },
    patience,
    300,
  ).catch(cause => {
    throw new Error(`${String(cause)}\n${last}`)
  })
  return Date.now() - began
}

/** What `cacerts` holds. */
let holding: { readonly issuer: MeshCa; readonly roots: readonly MeshCa[] } | null = null

async function put(issuer: MeshCa, roots: readonly MeshCa[]): Promise<void> {
  await putCacerts(cluster.plane, issuer, roots)
  holding = { issuer, roots }
}

/** From whatever the test before left, by the steps of a rotation where it takes any: so that each test also runs alone. */
async function moveTo(issuer: MeshCa, roots: readonly MeshCa[]): Promise<void> {
  const { issuer: from, roots: trusted } = holding ?? { issuer: a, roots: [a] }
  if (!trusted.some(root => roots.includes(root))) {
    const both = [...trusted, ...roots]
    await put(from, both)
    await untilHolds(from, both, 90_000)
    await put(issuer, [...both, ...roots])
    await untilHolds(issuer, [...both, ...roots], 90_000)
  }
  await put(issuer, roots)
  await untilHolds(issuer, roots, 90_000)
}

async function noFailureSince(since: number): Promise<void> {
  const traffic = await cluster.traffic.read(since)
  expect(traffic.failed, trafficText(traffic, namesOf(...known()))).toBe(0)
  expect(traffic.sent).toBeGreaterThan(0)
}

test('every gate holds on a mesh at rest', async () => {
  await untilHolds(a, [a])
})

test('a proxy that is not subscribed takes a new root only with its next leaf, and the gate names it until then', async () => {
  const since = Date.now()
  await put(a, [a, b])
  await untilHeld(cluster, 'subscribed proxies trust both', namespace, isSubscribed, held =>
    trusts(held, rootsOf(a, b)),
  )
  const behind = await verdictOn(a, [a, b])
  expect(verdict(behind, 'istio/roots-trusted'), openGates(behind)).toBe('pending')
  expect(verdict(behind, 'istio/leaves-issued'), openGates(behind)).toBe('holds')
  const stale = behind.exceptions.filter(({ reason }) => reason === 'stale-roots')
  expect(stale.map(({ consumer, name }) => `${consumer} ${name}`)).toEqual([
    expect.stringMatching(/^sidecar mesh\/quiet-/),
  ])
  const roots = await untilHolds(a, [a, b], 90_000)

  await put(b, [a, b, b])
  await untilHeld(cluster, 'subscribed proxies present leaves of b', namespace, isSubscribed, held =>
    presents(held, b.issuing.sha256),
  )
  const old = await verdictOn(b, [a, b, b])
  expect(verdict(old, 'istio/leaves-issued'), openGates(old)).toBe('pending')
  expect(old.exceptions.filter(({ reason }) => reason === 'old-issuer')).toHaveLength(1)
  const leaf = await untilHolds(b, [a, b, b], 90_000)
  await report({ suite: 'traps', what: 'not subscribed, leaves of 60 s', roots, leaf })
  await noFailureSince(since)
})

test('the entries of one name may differ, for a moment or for long, and no gate holds on a proxy that is seen so', async () => {
  // With a metrics port of its own, Envoy asks for each secret twice: once for its bootstrap, once for what istiod pushes.
  const twice = ['one', 'two', 'three', 'four']
  await cluster.addMesh({
    namespace: 'twice',
    workloads: twice.map(name => ({
      name,
      xdsAgent: true,
      proxyMetadata: { ENVOY_SECURE_METRICS_PORT: '15091' },
    })),
  })
  const pods = twice.flatMap(name => cluster.kubelet.find('twice', `${name}-`))
  await untilHeld(
    cluster,
    'each secret stands twice',
    'twice',
    () => true,
    held => held.leaves.length === 2 && held.roots.length === 2,
  )
  interface Dump {
    readonly at: string
    readonly text: string
  }
  const names = namesOf(...known())
  const wider = [a, [a, b, c]] as const
  const narrower = [b, [a, b, b]] as const
  const pushes = 6
  const lasted: { readonly of: string; readonly milliseconds: number | null }[] = []
  const since = Date.now()
  const settled = new Map<string, Dump[]>(pods.map(({ name }) => [name, []]))
  // Issuer and roots change together, to and fro; everyone trusts a and b all the time.
  for (let push = 1; push <= pushes; push += 1) {
    const [issuer, roots] = push % 2 === 1 ? wider : narrower
    await put(issuer, roots)
    await untilHeld(
      cluster,
      'proxies present leaves of the other CA',
      'twice',
      () => true,
      held => presents(held, issuer.issuing.sha256),
    )
    await sleep(1500)
    for (const [pod, dumps] of settled) {
      const last = (await cluster.traffic.dumps(pod)).at(-1)
      if (last !== undefined) dumps.push(last)
    }
  }
  // How long entries were really seen to differ; the look itself, every 40 ms, may miss it.
  for (const { name } of pods) {
    const dumps = (await cluster.traffic.dumps(name)).filter(({ at }) => Date.parse(at) >= since)
    for (const [index, { at, text }] of dumps.entries()) {
      const { chains, bundles } = readEnvoySecrets(text)
      const next = dumps[index + 1]
      const milliseconds = next === undefined ? null : Date.parse(next.at) - Date.parse(at)
      if (new Set(chains).size > 1) lasted.push({ of: 'leaves', milliseconds })
      if (new Set(bundles).size > 1) lasted.push({ of: 'roots', milliseconds })
    }
  }
  await report({ suite: 'traps', what: 'entries that differ', pushes, proxies: twice.length, lasted })

  // The same moments, made of what one proxy held before a push and after it: one entry of the name has moved, the other has not.
  const [pod] = pods
  const [before, after] = settled.get(pod?.name ?? '')?.slice(-2) ?? []
  if (pod === undefined || before === undefined || after === undefined) throw new Error('no proxy was read')
  for (const name of ['default', 'ROOTCA'] as const) {
    const text = halfMoved(before.text, after.text, name)
    // The cluster as it is, but for the one proxy.
    const then: Cluster = {
      ...reader,
      httpGet: (asked, port, path) =>
        asked.name === pod.name && port === 15000 ? Promise.resolve(text) : reader.httpGet(asked, port, path),
    }
    for (const [issuer, roots] of [wider, narrower]) {
      const verdicts = await verdictOn(issuer, roots, then)
      const gate = verdicts.gates.get(name === 'default' ? 'istio/leaves-issued' : 'istio/roots-trusted')
      const state = `${name} half moved, when ${names.get(issuer.issuing.sha256)} issues and ${roots.length} roots are trusted`
      expect(gate?.verdict, state).toBe('pending')
      expect(gate?.because.join('\n'), state).toContain(pod.name)
    }
  }
  for (const name of twice) {
    await cluster.plane.objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', namespace: 'twice', name })
  }
  await until('they are gone', () => cluster.kubelet.find('twice', '').length === 0, 60_000)
})

interface DumpedSecrets {
  readonly configs: readonly { readonly name: string }[]
}

/** The secrets of `after`, with the first of the entries called so as it was `before`. */
function halfMoved(before: string, after: string, name: string): string {
  const old = (JSON.parse(before) as DumpedSecrets).configs.find(config => config.name === name)
  const { configs, ...rest } = JSON.parse(after) as DumpedSecrets
  const first = configs.findIndex(config => config.name === name)
  return JSON.stringify({ ...rest, configs: configs.map((config, place) => (place === first ? old : config)) })
}

test('a restart of istiod does not replace the repeated root: leaves stay where they are until the bundle changes', async () => {
  const since = Date.now()
  await put(a, [a, b])
  await untilHeld(
    cluster,
    'subscribed proxies are back at a',
    namespace,
    isSubscribed,
    held => presents(held, a.issuing.sha256) && trusts(held, rootsOf(a, b)),
  )
  await untilHolds(a, [a, b], 90_000)

  // The issuer changes, and not one byte of the bundle.
  await put(b, [a, b])
  await cluster.restartIstiod('same-bundle')
  const reconnected = await until(
    'every proxy is connected to one of the new replicas',
    async () => {
      const verdicts = await verdictOn(b, [a, b])
      const apart = verdicts.exceptions.filter(({ reason }) => reason === 'not-connected')
      return apart.length === 0 && verdict(verdicts, 'istio/istiod-serves') === 'holds' ? verdicts : null
    },
    60_000,
    500,
  )
  expect(verdict(reconnected, 'istio/leaves-issued'), openGates(reconnected)).toBe('pending')
  await sleep(15_000)
  for (const held of (await cluster.traffic.present(namespace)).values()) {
    if (isSubscribed(held.pod)) expect(presents(held, a.issuing.sha256), held.pod).toBe(true)
  }
  const still = await verdictOn(b, [a, b])
  expect(verdict(still, 'istio/leaves-issued'), openGates(still)).toBe('pending')
  expect(verdict(still, 'istio/root-configmaps'), openGates(still)).toBe('holds')

  await put(b, [a, b, b])
  const moved = await untilHeld(cluster, 'the repeat moves the leaves', namespace, isSubscribed, held =>
    presents(held, b.issuing.sha256),
  )
  await report({ suite: 'traps', what: 'leaves after the repeat', milliseconds: moved })
  await untilHolds(b, [a, b, b], 90_000)
  await noFailureSince(since)
})

test('an istiod whose files are another CA than it runs keeps the old one, and no gate of the new state opens', async () => {
  const since = Date.now()
  await moveTo(b, [b])

  // Neither set of roots holds the other, so istiod refuses it.
  await put(c, [c])
  await until('both replicas have refused the files', async () => {
    const istiods = cluster.kubelet.find(istioNamespace, 'istiod-')
    const logs = await Promise.all(istiods.map(pod => pod.exec(['cat', pod.log('discovery')])))
    return logs.length === 2 && logs.every(log => log.includes('Updating new ROOT-CA not supported'))
  })
  const asked = await verdictOn(c, [c])
  for (const gate of ['istio/istiod-serves', 'istio/root-configmaps', 'istio/roots-trusted', 'istio/leaves-issued']) {
    expect(verdict(asked, gate), openGates(asked)).not.toBe('holds')
  }
  // Asked about what still runs, all is well: files are not read, and the deliverer answers for what lies in them.
  const before = await verdictOn(b, [b])
  expect(openGates(before)).toBe('')

  // One replica starts again by itself, and comes up with what the files say.
  const [first] = cluster.kubelet.find(istioNamespace, 'istiod-')
  if (first === undefined) throw new Error('no istiod')
  await cluster.kubelet.kill(first, 'discovery')
  const split = await until(
    'one replica runs the CA of the files',
    async () => {
      const verdicts = await verdictOn(b, [b])
      return verdicts.exceptions.some(({ consumer, reason }) => consumer === 'istiod' && reason === 'old-issuer')
        ? verdicts
        : null
    },
    60_000,
    300,
  )
  expect(verdict(split, 'istio/istiod-serves'), openGates(split)).not.toBe('holds')
  expect(split.gates.get('istio/istiod-serves')?.because.join()).toContain(first.name)
  const other = await verdictOn(c, [c])
  expect(verdict(other, 'istio/istiod-serves'), openGates(other)).not.toBe('holds')

  await put(b, [b])
  await cluster.restartIstiod('back')
  await untilHolds(b, [b], 120_000)
  await noFailureSince(since)
})

test('a key of cacerts that someone else wrote is named, though every proxy is as it should be', async () => {
  const secret = { apiVersion: 'v1', kind: 'Secret', namespace: istioNamespace, name: 'cacerts' }
  const found = await cluster.plane.objects.get(secret)
  const data = found?.data as Readonly<Record<string, string>>
  await cluster.plane.objects.apply(
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'cacerts', namespace: istioNamespace }, data },
    'someone-else',
  )
  const verdicts = await verdictOn(b, [b])
  expect(verdict(verdicts, 'istio/secret'), openGates(verdicts)).toBe('violated')
  expect(verdict(verdicts, 'istio/leaves-issued'), openGates(verdicts)).toBe('holds')
  await cluster.plane.objects.delete(secret)
  await put(b, [b])
  await untilHolds(b, [b], 90_000)
})

test('a proxy whose root file is stale cannot come back after istiod restarts, and the gate waits for it', async () => {
  const since = Date.now()
  const isAlpha = (pod: string): boolean => pod.startsWith('alpha-')
  cluster.kubelet.holdProjection(pod => pod.namespace === namespace && isAlpha(pod.name))
  try {
    await put(b, [b, d])
    // Roots are pushed over a stream that is open, so nothing shows that its files lag behind.
    await untilHolds(b, [b, d], 120_000)
    // What it has reloaded it hands out; whose certificates it takes is as it was at its start.
    expect(await startRoots()).toEqual([subjectsOf(b), subjectsOf(b)])

    await put(d, [b, d, d])
    await cluster.restartIstiod('stale')
    await untilHeld(
      cluster,
      'the others present leaves of d',
      namespace,
      pod => isSubscribed(pod) && !isAlpha(pod),
      held => presents(held, d.issuing.sha256),
    )
    const apart = await until(
      'alpha alone is not connected',
      async () => {
        const verdicts = await verdictOn(d, [b, d, d])
        const names = verdicts.exceptions.filter(({ reason }) => reason === 'not-connected').map(({ name }) => name)
        return names.length === 1 && names[0]?.startsWith(`${namespace}/alpha-`) === true ? verdicts : null
      },
      60_000,
      500,
    )
    expect(verdict(apart, 'istio/consumers-seen'), openGates(apart)).toBe('unknown')
    await sleep(10_000)
    const still = await verdictOn(d, [b, d, d])
    expect(verdict(still, 'istio/consumers-seen'), openGates(still)).toBe('unknown')
    const alpha = [...(await cluster.traffic.present(namespace)).values()].find(({ pod }) => isAlpha(pod))
    const names = namesOf(...known())
    const leaf = alpha?.leaves.map(({ issuer }) => names.get(issuer ?? '')).join()
    cluster.kubelet.holdProjection(null)
    const back = await untilHolds(d, [b, d, d], 180_000)
    expect(await startRoots()).toEqual([subjectsOf(b, d), subjectsOf(b, d)])
    await report({ suite: 'traps', what: 'stale root file', leafWhileApart: leaf, backAfter: back })
  } finally {
    cluster.kubelet.holdProjection(null)
  }
  await noFailureSince(since)
})

test('a proxy whose request for a leaf reaches a replica that lags keeps the old issuer: no restart of istiod helps it, the nudge does', async () => {
  const since = Date.now()
  let repeats = 1
  /** Root d, root e and repeats of e: every attempt is another bundle of the same trust. */
  const bundle = (): readonly MeshCa[] => [d, ...Array<MeshCa>(repeats).fill(e)]
  await moveTo(d, [d])
  await put(d, bundle())
  await untilHolds(d, bundle(), 90_000)

  const servedBy = async (replica: RunningPod): Promise<string | undefined> => {
    const { chain } = await reader.servedTls(replica, 15012, `istiod.${istioNamespace}.svc`)
    const [leaf] = chain
    if (leaf === undefined) return undefined
    const presented = new X509Certificate(leaf)
    return [d, e].find(({ issuing }) => presented.verify(new X509Certificate(issuing.pem).publicKey))?.name
  }
  const heldBack = async (): Promise<readonly string[]> =>
    [...(await cluster.traffic.present(namespace)).values()]
      .filter(held => isSubscribed(held.pod) && !presents(held, e.issuing.sha256))
      .map(({ pod }) => pod)

  // Which replica a proxy's stream reaches and which its requests is chance: each attempt is another throw.
  let stuck: readonly string[] = []
  let attempts = 0
  while (stuck.length === 0 && attempts < 8) {
    const replicas = cluster.kubelet.find(istioNamespace, 'istiod-')
    const lagging = replicas[attempts % 2]
    const ahead = replicas[(attempts + 1) % 2]
    if (lagging === undefined || ahead === undefined) throw new Error('there are not two replicas')
    attempts += 1
    cluster.kubelet.holdProjection(pod => pod.uid === lagging.uid)
    try {
      repeats += 1
      await put(e, bundle())
      await until('one replica issues from e', async () => (await servedBy(ahead)) === 'e', 30_000)
      await sleep(3000)
      expect(await servedBy(lagging)).toBe('d')
    } finally {
      cluster.kubelet.holdProjection(null)
    }
    await until('both replicas issue from e', async () => (await servedBy(lagging)) === 'e', 30_000)
    await sleep(3000)
    stuck = await heldBack()
    if (stuck.length > 0) break
    repeats += 1
    await put(d, bundle())
    await untilHolds(d, bundle(), 90_000)
    for (const name of subscribed) await cluster.restartWorkload(namespace, name, `throw-${attempts}`)
  }
  await report({ suite: 'traps', what: 'a replica that lags', attempts, stuck: stuck.length })
  expect(stuck).not.toEqual([])

  await cluster.restartIstiod('lag')
  await until('every proxy is connected to one of the new replicas', async () => {
    const verdicts = await verdictOn(e, bundle())
    return verdicts.exceptions.every(({ reason }) => reason !== 'not-connected')
  })
  const waiting = await verdictOn(e, bundle())
  expect(verdict(waiting, 'istio/istiod-serves'), openGates(waiting)).toBe('holds')
  expect(verdict(waiting, 'istio/leaves-issued'), openGates(waiting)).toBe('pending')
  expect(waiting.gates.get('istio/leaves-issued')?.hint).toContain('--nudge')
  expect(await heldBack()).toEqual(stuck)
  const named = waiting.exceptions.filter(({ reason }) => reason === 'old-issuer').map(({ name }) => name)
  expect(named).toEqual(expect.arrayContaining(stuck.map(pod => `${namespace}/${pod}`)))

  repeats += 1
  latest = bundle()
  await put(e, latest)
  await untilHolds(e, latest, 90_000)
  await noFailureSince(since)
})

test('a port-forward that never answers is unknown within its time, and nothing else is', async () => {
  const [gamma] = cluster.kubelet.find(namespace, 'gamma-')
  if (gamma === undefined) throw new Error('no pod gamma')
  const forward = { apiVersion: 'kwok.x-k8s.io/v1alpha1', kind: 'PortForward', namespace, name: gamma.name }
  const impatient = await openKubernetesCluster(
    { kind: 'kubeconfig', file: cluster.verifier, context: null },
    { forwardTimeout: 2000 },
  )
  try {
    expect(await cluster.plane.objects.delete(forward)).toBe(true)
    const silent = await until('the forward is gone', async () => {
      const verdicts = await verdictOn(e, latest, impatient)
      return verdicts.exceptions.some(({ reason }) => reason === 'unreadable') ? verdicts : null
    })
    expect(silent.exceptions.map(({ name, verdict: of }) => `${name} ${of}`)).toEqual([
      `${namespace}/${gamma.name} unknown`,
    ])
    expect(verdict(silent, 'istio/consumers-seen'), openGates(silent)).toBe('unknown')
    expect(verdict(silent, 'istio/leaves-issued'), openGates(silent)).toBe('unknown')
  } finally {
    await impatient.close()
  }
  await cluster.restartWorkload(namespace, 'gamma', 'again')
  await rolledOut(cluster.plane, namespace, 'gamma')
  await untilHolds(e, latest, 90_000)
})
