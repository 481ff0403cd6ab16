import { type Cluster, ClusterError, type KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { EvidenceException, Instant } from '../../rotation.ts'
import { oneLine, unreadable } from '../../verify/exceptions.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { type Looking as CommonLooking, lookAround, readPages } from '../../verify/looking.ts'
import { inCommon, inTurns, isGone, lookAtAll, nameOf, type UnreadPod, unreadPod } from '../../verify/looks.ts'
import { memoryRelief } from '../../verify/memory.ts'
import { lastWritten } from '../../verify/objects.ts'
import { defaultPatience, type Patience, patienceOf } from '../../verify/patience.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instant, list, sha256, text } from '../../verify/values.ts'
import { wiredWorkloads } from '../../verify/workloads.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, type Expected, expectedOf } from './expected.ts'
import { startedWith } from './observe-authorities.ts'
import { envoySecretsPath, readEnvoySecrets } from './observe-envoy.ts'
import { observeObjects } from './observe-objects.ts'
import { type MeshPod, meshPod } from './observe-pods.ts'
import { type ConnectedProxy, debugPorts, readSync, readWatchers, syncPath, watchesPath } from './observe-sync.ts'
import { readZtunnelCertificates, ztunnelDumpPath } from './observe-ztunnel.ts'
import type { IstioSettings } from './settings.ts'

export interface IstioObserveOptions extends Omit<ObserveOptions, 'declared'> {
  readonly istio: IstioSettings
}

/** What is collected while looking. */
export interface Looking extends CommonLooking<IstioObserveOptions> {
  readonly expected: Expected
  readonly patience: Patience
  /** To be called now and then while many consumers are looked at. */
  relieve(): void
}

/**
 * Looks at everything in one cluster that verifies or presents a certificate of the mesh. Changes nothing and judges nothing, but names every
 * consumer that differs from the state that the step declares: groups hold only digests of names.
 */
export async function observeIstio(options: IstioObserveOptions): Promise<Observation> {
  const expected = expectedOf(options.plan, options.place)
  // What was not seen has an exception already that says why.
  const departed = (seen: SeenConsumer) =>
    expected.full
      ? departures(seen, expected).filter(({ reason }) => reason !== 'unreadable' && reason !== 'not-ready')
      : []
  return await lookAround(options, departed, async common => {
    const patience = patienceOf(options.patience ?? defaultPatience)
    const looking: Looking = { ...common, expected, patience, relieve: memoryRelief() }
    await observeObjects(looking)
    const pods = await listMeshPods(looking)
    const istiods = pods.filter(pod => pod.consumer === 'istiod')
    const proxies = pods.filter(pod => pod.consumer !== 'istiod')
    await observeRootConfigMaps(looking, new Set(proxies.map(pod => pod.namespace)))
    await observeWebhooks(looking)
    await observeMachines(looking)
    await observeWorkloads(looking)
    await observeProxies(looking, proxies, await observeIstiods(looking, istiods))
  })
}

// ------------------------------------------------------------------------------------------------- pods

const listingPods = 'list pods'

async function listMeshPods(looking: Looking): Promise<readonly MeshPod[]> {
  const { options } = looking
  const pods: MeshPod[] = []
  const share = sharing()
  let seen = 0
  await readPages(looking, listingPods, resources.pods, {}, pod => {
    seen += 1
    const found = meshPod(pod, options.istio.namespace)
    if (found !== null) pods.push(share(found))
    if (seen % 500 !== 0) return
    looking.relieve()
    options.onProgress({ stage: 'list pods', done: seen, of: null })
  })
  options.onProgress({ stage: 'list pods', done: seen, of: seen })
  for (const time of birthsOfTemplates(pods)) looking.changedAt(time)
  return pods
}

/** Pods of one template have equal owners and facts: kept once, 100,000 pods take little room. */
function sharing(): (pod: MeshPod) => MeshPod {
  const kept = new Map<string, Pick<MeshPod, 'namespace' | 'owner' | 'template' | 'facts'>>()
  return pod => {
    const { namespace, owner, template, facts } = pod
    const key = `${owner} ${template} ${Object.entries(facts).join(' ')}`
    const shared = kept.get(key) ?? { namespace, owner, template, facts }
    kept.set(key, shared)
    return { ...pod, ...shared }
  }
}

/**
 * Since when each template has pods. A roll-out changes the template; a pod more of the same template is no change of trust, and in a large
 * mesh one comes every second. Pods of Jobs come and go by themselves.
 */
function birthsOfTemplates(pods: readonly MeshPod[]): Iterable<Instant> {
  const births = new Map<string, Instant>()
  for (const { owner, template, transient, started } of pods) {
    if (transient || started === null) continue
    const key = `${owner} ${template}`
    const before = births.get(key)
    if (before === undefined || Date.parse(started) < Date.parse(before)) births.set(key, started)
  }
  return births.values()
}

// ------------------------------------------------------------------------- root bundles, webhooks, machines

const rootConfigMap = 'istio-ca-root-cert'

async function observeRootConfigMaps(looking: Looking, meshNamespaces: ReadonlySet<string>): Promise<void> {
  const seen = new Set<string>()
  const whole = await readPages(
    looking,
    `list ConfigMaps ${rootConfigMap}`,
    resources.configMaps,
    { fieldSelector: `metadata.name=${rootConfigMap}` },
    object => {
      // A cluster that does not know the selector gives all ConfigMaps.
      if (object.metadata.name !== rootConfigMap) return
      const namespace = object.metadata.namespace ?? ''
      seen.add(namespace)
      looking.changedAt(lastWritten(object))
      observeRootConfigMap(looking, object, namespace)
    },
  )
  if (!whole) return
  for (const namespace of meshNamespaces) {
    if (seen.has(namespace)) continue
    const detail = `namespace ${namespace} has proxies and no ConfigMap ${rootConfigMap}`
    looking.exceptions.push({ consumer: 'configmap', name: namespace, reason: 'missing', detail, verdict: 'pending' })
  }
}

function observeRootConfigMap(looking: Looking, object: KubernetesObject, namespace: string): void {
  const bundle = text(at(object.data, 'root-cert.pem')) ?? ''
  let trusts: readonly string[] | null = null
  try {
    trusts = looking.book.roots(bundle)
  } catch (cause) {
    looking.exceptions.push({
      ...unreadable('configmap', namespace, cause),
      verdict: 'violated',
      reason: 'broken-bundle',
    })
  }
  looking.add({
    consumer: 'configmap',
    owner: `ConfigMap/${rootConfigMap}`,
    name: namespace,
    trusts,
    presents: null,
    bundleDigest: sha256(bundle),
    facts: {},
    leafExpires: null,
  })
}

const webhookTypes = [
  { kind: 'MutatingWebhookConfiguration', type: resources.mutatingWebhooks },
  { kind: 'ValidatingWebhookConfiguration', type: resources.validatingWebhooks },
] as const

/** Names that istiod keeps the caBundle of (istio pilot/pkg/bootstrap/webhook.go, tag and revision charts). */
const webhookNames = /^(istio-sidecar-injector|istio-revision-tag|istio-validator|istiod-default-validator)/

async function observeWebhooks(looking: Looking): Promise<void> {
  for (const { kind, type } of webhookTypes) {
    let found = 0
    const whole = await readPages(looking, `list ${kind}s`, type, {}, object => {
      if (!webhookNames.test(object.metadata.name) || !isOurs(object, looking.options.istio.namespace)) return
      found += 1
      looking.changedAt(lastWritten(object))
      observeWebhook(looking, kind, object)
    })
    if (!whole || found > 0 || kind !== 'MutatingWebhookConfiguration') continue
    const detail = 'no istio-sidecar-injector webhook was found, though sidecars cannot be injected without one'
    looking.exceptions.push({ consumer: 'webhook', name: kind, reason: 'missing', detail, verdict: 'unknown' })
  }
}

/** Two control planes may share a cluster; a webhook is ours when it calls a service of our namespace. */
function isOurs(object: KubernetesObject, istioNamespace: string): boolean {
  const namespaces = list(object.webhooks).map(webhook => text(at(webhook, 'clientConfig', 'service', 'namespace')))
  return namespaces.some(namespace => namespace === istioNamespace) || namespaces.every(namespace => namespace === null)
}

function observeWebhook(looking: Looking, kind: string, object: KubernetesObject): void {
  const bundles = list(object.webhooks).map(webhook => text(at(webhook, 'clientConfig', 'caBundle')) ?? '')
  const name = `${kind}/${object.metadata.name}`
  let roots: Pick<Look, 'trusts' | 'facts'> = { trusts: null, facts: {} }
  try {
    const sets = bundles.map(bundle =>
      bundle === '' ? [] : looking.book.roots(Buffer.from(bundle, 'base64').toString('latin1')),
    )
    roots = sets.length === 0 ? { trusts: [], facts: {} } : agreedRoots(sets)
  } catch (cause) {
    looking.exceptions.push(unreadable('webhook', name, cause))
  }
  looking.add({
    consumer: 'webhook',
    owner: name,
    name,
    trusts: roots.trusts,
    presents: null,
    bundleDigest: null,
    facts: roots.facts,
    leafExpires: null,
  })
}

function intersection(sets: readonly (readonly string[])[]): readonly string[] {
  const [first, ...rest] = sets
  return (first ?? []).filter(member => rest.every(set => set.includes(member)))
}

async function observeMachines(looking: Looking): Promise<void> {
  const machines = new Set<string>()
  for (const type of [resources.workloadEntries, resources.workloadEntriesV1]) {
    await readPages(looking, 'list WorkloadEntries', type, {}, entry => {
      machines.add(`${entry.metadata.namespace ?? ''}/${entry.metadata.name}`)
    })
  }
  for (const name of [...machines].sort()) {
    const detail = 'a machine outside the cluster (WorkloadEntry): no API shows which roots it trusts'
    looking.exceptions.push({ consumer: 'vm', name, reason: 'needs-attestation', detail, verdict: 'unknown' })
  }
}

// ------------------------------------------------------------------------------------- wired workloads

async function observeWorkloads(looking: Looking): Promise<void> {
  const { wired, rolled, restarts } = await wiredWorkloads(looking)
  const facts = { wired: String(wired), rolled: String(rolled), ...restarts }
  looking.objects.push({ id: 'Workloads', present: wired > 0, keys: null, managers: {}, facts, lastChange: null })
}

// ----------------------------------------------------------------------------------------------- istiod

interface Connections {
  readonly proxies: ReadonlyMap<string, ConnectedProxy>
  /** Every replica showed its connections: only then does absence mean something. */
  readonly whole: boolean
}

async function observeIstiods(looking: Looking, pods: readonly MeshPod[]): Promise<Connections> {
  const { options, exceptions } = looking
  const proxies = new Map<string, ConnectedProxy>()
  let whole = true
  let shown = 0
  if (pods.length === 0) {
    const listed = !exceptions.some(({ name }) => name === listingPods)
    const detail = listed
      ? `no pod with app=istiod in ${options.istio.namespace}`
      : 'whether it runs is not known, as pods could not be listed'
    exceptions.push({
      consumer: 'istiod',
      name: options.istio.namespace,
      reason: 'missing',
      detail,
      verdict: 'unknown',
    })
  }
  await inPool(pods, options.concurrency, async pod => {
    const name = `${pod.namespace}/${pod.name}`
    if (pod.notRunning !== null) {
      // A replica that does not run serves nobody and holds no connections.
      notReady(looking, pod, name)
      return
    }
    await observeServedIssuer(looking, pod, name)
    try {
      for (const proxy of await connectionsOf(options.cluster, pod)) {
        const before = proxies.get(proxy.name)
        // A proxy that moved between replicas while we looked stands with both; one subscription is enough.
        proxies.set(proxy.name, before?.subscribed === true ? before : proxy)
      }
      shown += 1
    } catch (cause) {
      whole = false
      exceptions.push({ ...unreadable('istiod', name, cause), reason: 'connections-unreadable' })
    }
  })
  // Where no replica runs, that no proxy is connected says nothing about the proxies.
  return { proxies, whole: whole && shown > 0 }
}

async function observeServedIssuer(looking: Looking, pod: MeshPod, name: string): Promise<void> {
  const { options, book, exceptions } = looking
  const base = {
    consumer: pod.consumer,
    owner: pod.owner,
    name,
    trusts: null,
    bundleDigest: null,
    facts: pod.facts,
  } as const
  try {
    const began = performance.now()
    const served = await options.cluster.servedTls(pod, 15012, `istiod.${options.istio.namespace}.svc`)
    // How long a port-forward takes here: the proxies are not expected to be much quicker.
    looking.patience.answered(performance.now() - began)
    const leaf = book.leafOfDer(served.chain)
    expiredLeaf(looking, pod, name, leaf.notAfter)
    const roots = startedWith(served.authorities)
    const facts = roots === null ? pod.facts : { ...pod.facts, startedWith: roots }
    looking.add({ ...base, facts, presents: leaf.issuers, leafExpires: leaf.notAfter })
  } catch (cause) {
    exceptions.push(unreadable('istiod', name, cause))
    looking.add({ ...base, presents: null, leafExpires: null })
  }
}

async function connectionsOf(cluster: Cluster, pod: MeshPod): Promise<readonly ConnectedProxy[]> {
  let failure: unknown = null
  for (const port of debugPorts) {
    try {
      const proxies = readSync(await cluster.httpGet(pod, port, syncPath))
      if (proxies.every(proxy => proxy.subscribed !== null)) return proxies
      const watchers = readWatchers(await cluster.httpGet(pod, port, watchesPath))
      return proxies.map(proxy => ({ ...proxy, subscribed: proxy.subscribed ?? watchers.has(proxy.name) }))
    } catch (cause) {
      failure ??= cause
    }
  }
  throw failure
}

// ---------------------------------------------------------------------------------------------- proxies

async function observeProxies(looking: Looking, pods: readonly MeshPod[], connections: Connections): Promise<void> {
  const known = new Set(pods.map(nameOf))
  const { left, gone } = await lookAtAll(looking, inTurns(pods), async pod => {
    return await observeProxy(looking, pod, connections, looking.patience)
  })
  for (const { pod, detail } of left) observeUnread(looking, pod, detail, connections)
  if (gone.length > 0)
    await observeSuccessors(looking, new Set(gone.map(({ namespace }) => namespace)), known, connections)
  await observeStrangers(looking, known, connections)
}

/** Pods that went away while we looked have successors that were not in the list: those are read too, once. */
async function observeSuccessors(
  looking: Looking,
  namespaces: ReadonlySet<string>,
  known: Set<string>,
  connections: Connections,
): Promise<void> {
  const { options } = looking
  const successors: MeshPod[] = []
  for (const namespace of namespaces) {
    await readPages(looking, `list pods in ${namespace}`, resources.pods, { namespace }, object => {
      const pod = meshPod(object, options.istio.namespace)
      if (pod === null || pod.consumer === 'istiod' || known.has(nameOf(pod))) return
      known.add(nameOf(pod))
      successors.push(pod)
    })
  }
  await inPool(successors, options.concurrency, async pod => {
    // It may have connected after the replicas were asked, so its absence there means nothing.
    if (await observeNow(looking, pod, { ...connections, whole: false })) return
    const detail = 'came and went while it was looked for'
    looking.exceptions.push({
      consumer: pod.consumer,
      name: nameOf(pod),
      reason: 'unreadable',
      detail,
      verdict: 'unknown',
    })
  })
}

/** One proxy by itself. False where the pod is gone, and then it is no consumer any more. */
async function observeNow(looking: Looking, pod: MeshPod, connections: Connections): Promise<boolean> {
  const failure = await observeProxy(looking, pod, connections, null)
  if (failure === null) return true
  if (await isGone(looking.options.cluster, pod)) return false
  observeUnread(looking, pod, failure.detail ?? '', connections)
  return true
}

interface Look {
  readonly trusts: readonly string[] | null
  readonly presents: readonly string[] | null
  readonly facts: Readonly<Record<string, string>>
  readonly leafExpires: Date | null
}

/** What could not be read is given back: whether the pod still exists is asked later, of all of them at once. */
async function observeProxy(
  looking: Looking,
  pod: MeshPod,
  connections: Connections,
  patience: Patience | null,
): Promise<UnreadPod<MeshPod> | null> {
  const name = nameOf(pod)
  if (pod.notRunning !== null) {
    notReady(looking, pod, name)
    return null
  }
  const timeout = patience?.next() ?? undefined
  if (timeout === 0) return { pod, detail: null }
  const began = performance.now()
  try {
    const look =
      pod.consumer === 'ztunnel'
        ? await lookAtZtunnel(looking, pod, name, timeout)
        : await lookAtEnvoy(looking, pod, name, timeout)
    patience?.answered(performance.now() - began)
    addProxy(looking, pod, name, look, connections)
    return null
  } catch (cause) {
    const inSilence = cause instanceof ClusterError && cause.failure === 'timeout'
    patience?.failed(performance.now() - began, inSilence)
    return { pod, detail: inCommon(cause, pod) }
  }
}

function observeUnread(looking: Looking, pod: MeshPod, detail: string, connections: Connections): void {
  const { consumer, terminating } = pod
  looking.exceptions.push(unreadPod(pod, consumer, detail))
  const facts: Readonly<Record<string, string>> = terminating ? { state: 'terminating' } : {}
  addProxy(looking, pod, nameOf(pod), { trusts: null, presents: null, facts, leafExpires: null }, connections)
}

function addProxy(looking: Looking, pod: MeshPod, name: string, look: Look, connections: Connections): void {
  if (pod.ownTrustSource !== null) ownTrustSource(looking, pod, name, pod.ownTrustSource)
  looking.add({
    consumer: pod.consumer,
    owner: pod.owner,
    name,
    trusts: look.trusts,
    presents: look.presents,
    bundleDigest: null,
    facts: { ...pod.facts, ...look.facts, ...subscription(looking, pod, name, connections) },
    leafExpires: look.leafExpires,
  })
}

function subscription(
  looking: Looking,
  pod: MeshPod,
  name: string,
  connections: Connections,
): Readonly<Record<string, string>> {
  if (pod.consumer === 'ztunnel') return {}
  const connected = connections.proxies.get(name)
  if (connected !== undefined) return { subscribed: String(connected.subscribed === true) }
  if (!connections.whole) return {}
  const detail = 'runs a proxy, but no replica of istiod has a connection from it'
  looking.exceptions.push({ consumer: pod.consumer, name, reason: 'not-connected', detail, verdict: 'unknown' })
  return {}
}

async function lookAtEnvoy(looking: Looking, pod: MeshPod, name: string, timeout?: number): Promise<Look> {
  const { options, book, exceptions } = looking
  const secrets = readEnvoySecrets(await options.cluster.httpGet(pod, 15000, envoySecretsPath, timeout))
  const found = (reason: string, detail: string, verdict: EvidenceException['verdict']): void => {
    exceptions.push({ consumer: pod.consumer, name, reason, detail, verdict })
  }
  if (secrets.ownTrustSource) ownTrustSource(looking, pod, name, 'a SPIFFE validator with bundles of its own')
  for (const warming of new Set(secrets.warming)) {
    found('warming', `${warming} was asked for and has not arrived`, 'pending')
  }
  if (secrets.crl !== null) {
    found(
      'revocation-list',
      `checks the revocation list ${secrets.crl}; a CA that has none there is refused`,
      'violated',
    )
  }
  const absent = [secrets.bundles.length === 0 ? 'ROOTCA' : '', secrets.chains.length === 0 ? 'default' : ''].filter(
    entry => entry !== '',
  )
  // Where one of the two is on its way, the other has not been asked for yet: a proxy that starts.
  const starting = absent.length > 0 && secrets.warming.length > 0
  for (const entry of absent) {
    if (starting || (entry === 'ROOTCA' && secrets.ownTrustSource)) continue
    found('no-secret', `holds no active ${entry}: its proxy uses no mutual TLS, or has not got it yet`, 'unknown')
  }
  const updated = instant(secrets.rootsUpdated)
  if (isLiveChange(pod, updated)) looking.changedAt(updated)
  const roots = agreedRoots(secrets.bundles.map(bundle => book.roots(bundle)))
  const leaves = secrets.chains.map(chain => book.leaf(chain))
  for (const leaf of leaves) expiredLeaf(looking, pod, name, leaf.notAfter)
  const agreed = agreedLeaf(leaves)
  const facts = { ...roots.facts, ...agreed.facts }
  return { ...agreed, trusts: roots.trusts, facts: starting ? { ...facts, state: 'warming' } : facts }
}

/**
 * The entries of one name may differ, and not only for a moment: an agent that hands out ROOTCA twice may leave one of the two behind until
 * the next leaf (istio security/pkg/nodeagent/cache/secretcache.go, GenerateSecret). What counts as trusted is what every entry trusts, but
 * what a single one still trusts is not gone.
 */
function agreedRoots(sets: readonly (readonly string[])[]): Pick<Look, 'trusts' | 'facts'> {
  const [first] = sets
  if (first === undefined) return { trusts: null, facts: {} }
  const agree = sets.every(set => set.join() === first.join())
  return { trusts: intersection(sets), facts: agree ? {} : { roots: 'differ' } }
}

function agreedLeaf(
  leaves: readonly { readonly issuers: readonly string[]; readonly notAfter: Date }[],
): Pick<Look, 'presents' | 'facts' | 'leafExpires'> {
  const [first] = leaves
  if (first === undefined) return { presents: null, facts: {}, leafExpires: null }
  const ends = leaves.map(({ notAfter }) => notAfter.getTime())
  const agree = leaves.every(leaf => leaf.issuers[0] === first.issuers[0])
  // Of leaves of several CAs the one that ends last may be the old one, and as long as it lives the proxy may present it.
  const leafExpires = new Date(agree ? Math.min(...ends) : Math.max(...ends))
  return { presents: first.issuers, facts: agree ? {} : { entries: 'differ' }, leafExpires }
}

/** An update soon after the start is the start itself, which counts with its template. */
const startUp = 120_000

function isLiveChange(pod: MeshPod, updated: Instant | null): boolean {
  if (updated === null || pod.transient) return false
  return pod.started === null || Date.parse(updated) - Date.parse(pod.started) > startUp
}

async function lookAtZtunnel(looking: Looking, pod: MeshPod, name: string, timeout?: number): Promise<Look> {
  const { options, book, exceptions } = looking
  const certificates = readZtunnelCertificates(await options.cluster.httpGet(pod, 15000, ztunnelDumpPath, timeout))
  const usable = certificates.filter(certificate => certificate.state === 'Available')
  for (const { identity, state } of certificates) {
    if (state === 'Available') continue
    const detail = oneLine(`${identity}: ${state === '' ? 'no state' : state}`)
    exceptions.push({ consumer: 'ztunnel', name, reason: 'warming', detail, verdict: 'pending' })
  }
  // A node without workloads of the mesh: it trusts and presents nothing, and gets both with the first one.
  if (certificates.length === 0)
    return { trusts: null, presents: null, facts: { state: 'no-identities' }, leafExpires: null }
  const roots = agreedRoots(usable.map(certificate => book.roots(certificate.roots)))
  const leaves = usable.map(certificate => book.leaf(certificate.chain))
  for (const leaf of leaves) expiredLeaf(looking, pod, name, leaf.notAfter)
  const agreed = agreedLeaf(leaves)
  const facts = { ...roots.facts, ...agreed.facts }
  return { ...agreed, trusts: roots.trusts, facts: usable.length === 0 ? { ...facts, state: 'warming' } : facts }
}

function expiredLeaf(looking: Looking, pod: MeshPod, name: string, notAfter: Date): void {
  if (notAfter >= looking.options.now) return
  const detail = `presents a leaf that ended at ${notAfter.toISOString()}`
  looking.exceptions.push({ consumer: pod.consumer, name, reason: 'leaf-expired', detail, verdict: 'violated' })
}

function ownTrustSource(looking: Looking, pod: MeshPod, name: string, source: string): void {
  const detail = `takes its trust from ${source}: this rotation does not reach it`
  looking.exceptions.push({ consumer: pod.consumer, name, reason: 'own-trust-source', detail, verdict: 'unknown' })
}

function notReady(looking: Looking, pod: MeshPod, name: string): void {
  const detail = pod.notRunning ?? ''
  looking.exceptions.push({ consumer: pod.consumer, name, reason: 'not-ready', detail, verdict: 'pending' })
  const { consumer, owner } = pod
  const facts = { ...pod.facts, state: 'not-ready' }
  looking.add({ consumer, owner, name, trusts: null, presents: null, bundleDigest: null, facts, leafExpires: null })
}

/** Proxies that istiod knows and the pod list does not: a pod that was made meanwhile, or one that is no pod of this cluster. */
async function observeStrangers(looking: Looking, known: ReadonlySet<string>, connections: Connections): Promise<void> {
  const { options } = looking
  const strangers = [...connections.proxies.values()].filter(proxy => !known.has(proxy.name))
  await inPool(strangers, options.concurrency, async proxy => {
    if (await observeLateComer(looking, proxy, connections)) return
    const place = proxy.cluster === '' ? '' : ` from cluster ${oneLine(proxy.cluster)}`
    const detail = `is connected to istiod${place}, but is no pod with a proxy here`
    looking.exceptions.push({
      consumer: 'sidecar',
      name: oneLine(proxy.name),
      reason: 'unknown-proxy',
      detail,
      verdict: 'unknown',
    })
  })
}

async function observeLateComer(looking: Looking, proxy: ConnectedProxy, connections: Connections): Promise<boolean> {
  const { cluster, istio } = looking.options
  const slash = proxy.name.indexOf('/')
  try {
    const object = await cluster.get(resources.pods, proxy.name.slice(0, slash), proxy.name.slice(slash + 1))
    const pod = object === null ? null : meshPod(object, istio.namespace)
    return pod !== null && (await observeNow(looking, pod, connections))
  } catch {
    // Not to be asked for: it stays a stranger, and that is said.
    return false
  }
}
