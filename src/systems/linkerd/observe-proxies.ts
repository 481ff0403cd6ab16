import { ClusterError } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { ConsumerClass, Fingerprint, Instant } from '../../rotation.ts'
import { unreadable } from '../../verify/exceptions.ts'
import { readPages } from '../../verify/looking.ts'
import { inCommon, inTurns, isGone, lookAtAll, nameOf, type UnreadPod, unreadPod } from '../../verify/looks.ts'
import type { Patience } from '../../verify/patience.ts'
import { inPool } from '../../verify/pool.ts'
import { freshToken, rootsByToken } from './expected.ts'
import type { Looking } from './observe.ts'
import { loadedRoots, type PublishedAnchors, type StartedContainer } from './observe-loaded.ts'
import { type LinkerdPod, linkerdPod, meshLabel } from './observe-pods.ts'
import { observeWebhooks } from './observe-webhook.ts'

/** Port of identity's own metrics. */
const identityAdmin = 9990

/** Looks at every pod with a proxy: its anchors, and the leaf that it presents. The control plane's first, as they are few and say how long a look takes here. */
export async function observeProxies(looking: Looking, published: PublishedAnchors | null): Promise<void> {
  const pods = await listPods(looking)
  await observeWebhooks(looking, pods)
  const known = new Set(pods.map(nameOf))
  const first = inTurns(pods.filter(pod => pod.consumer === 'control-plane'))
  const others = inTurns(pods.filter(pod => pod.consumer !== 'control-plane'))
  const look = async (pod: LinkerdPod) => await observePod(looking, pod, published, looking.patience)
  const { left, gone } = await lookAtAll(looking, [...first, ...others], look, { labelSelector: meshLabel })
  for (const { pod, detail } of left) addUnread(looking, pod, published, detail)
  if (gone.length > 0) await observeSuccessors(looking, published, known)
}

// --------------------------------------------------------------------------------------------------------- list

async function listPods(looking: Looking): Promise<readonly LinkerdPod[]> {
  const { options, linkerd } = looking
  const pods: LinkerdPod[] = []
  const share = sharing()
  let seen = 0
  const whole = await readPages(looking, 'list pods', resources.pods, { labelSelector: meshLabel }, object => {
    seen += 1
    const found = linkerdPod(object, linkerd)
    if (found !== null) pods.push(share(found))
    if (seen % 500 !== 0) return
    looking.relieve()
    options.onProgress({ stage: 'list pods', done: seen, of: null })
  })
  options.onProgress({ stage: 'list pods', done: seen, of: seen })
  if (whole && !pods.some(pod => pod.identity !== null)) {
    const detail = `no pod of linkerd-identity in ${linkerd.namespace}`
    looking.exceptions.push({
      consumer: 'identity',
      name: linkerd.namespace,
      reason: 'missing',
      detail,
      verdict: 'unknown',
    })
  }
  for (const time of births(pods)) looking.changedAt(time)
  return pods
}

/** What the pods of one owner have in common is kept once: anchors above all, of which 10,000 copies would take 30 MB. */
function sharing(): (pod: LinkerdPod) => LinkerdPod {
  const texts = new Map<string, string>()
  const kept = (text: string): string => {
    const before = texts.get(text)
    if (before !== undefined) return before
    texts.set(text, text)
    return text
  }
  return pod => ({
    ...pod,
    namespace: kept(pod.namespace),
    owner: kept(pod.owner),
    localName: kept(pod.localName),
    anchors: pod.anchors === null ? null : kept(pod.anchors),
    restart: pod.restart === null ? null : kept(pod.restart),
  })
}

/** Since when each owner has pods of one make: a pod more of it is no change of trust, and in a large mesh one comes every second. */
function births(pods: readonly LinkerdPod[]): Iterable<Instant> {
  const first = new Map<string, Instant>()
  for (const { owner, anchors, restart, made, stuck } of pods) {
    if (made === null || stuck !== null) continue
    const key = [owner, restart, anchors].join('\n')
    const before = first.get(key)
    if (before === undefined || Date.parse(made) < Date.parse(before)) first.set(key, made)
  }
  return first.values()
}

/** Pods that went away while we looked have successors that were not in the list: those are read too, once. */
async function observeSuccessors(
  looking: Looking,
  published: PublishedAnchors | null,
  known: ReadonlySet<string>,
): Promise<void> {
  const { cluster, concurrency } = looking.options
  const successors: LinkerdPod[] = []
  await readPages(looking, 'list pods again', resources.pods, { labelSelector: meshLabel }, object => {
    const pod = linkerdPod(object, looking.linkerd)
    if (pod !== null && !known.has(nameOf(pod))) successors.push(pod)
  })
  await inPool(successors, concurrency, async pod => {
    const failure = await observePod(looking, pod, published, null)
    if (failure === null) return
    const gone = await isGone(cluster, pod)
    addUnread(looking, pod, published, gone ? 'came and went while it was looked for' : (failure.detail ?? ''))
  })
}

// ---------------------------------------------------------------------------------------------------------- one

/** What could not be read is given back: whether the pod still exists is asked later, of all of them at once. */
async function observePod(
  looking: Looking,
  pod: LinkerdPod,
  published: PublishedAnchors | null,
  patience: Patience | null,
): Promise<UnreadPod<LinkerdPod> | null> {
  const { options, exceptions } = looking
  const name = nameOf(pod)
  if (pod.proxy.notRunning !== null) {
    notReady(looking, pod, pod.consumer, pod.proxy.notRunning, factsOfPod(pod))
    return null
  }
  const timeout = patience?.next() ?? undefined
  if (timeout === 0) return { pod, detail: null }
  const began = performance.now()
  let chain: readonly Buffer[]
  try {
    ;({ chain } = await options.cluster.servedTls(pod, pod.adminPort, pod.localName, timeout))
    patience?.answered(performance.now() - began)
  } catch (cause) {
    patience?.failed(performance.now() - began, cause instanceof ClusterError && cause.failure === 'timeout')
    return { pod, detail: inCommon(cause, pod) }
  }
  const trusts = trustsOf(looking, pod, published)
  const base = { consumer: pod.consumer, owner: pod.owner, name, trusts, bundleDigest: null } as const
  try {
    const leaf = looking.book.leafOfDer(chain)
    if (leaf.notAfter < options.now) {
      const detail = `presents a leaf that ended at ${leaf.notAfter.toISOString()}: it gets no new one`
      exceptions.push({ consumer: pod.consumer, name, reason: 'leaf-expired', detail, verdict: 'violated' })
    }
    looking.add({ ...base, presents: leaf.issuers, facts: factsOfPod(pod), leafExpires: leaf.notAfter })
  } catch (cause) {
    exceptions.push(unreadable(pod.consumer, name, cause))
    looking.add({ ...base, presents: null, facts: factsOfPod(pod), leafExpires: null })
  }
  if (pod.identity !== null) await observeIdentity(looking, pod, pod.identity, published)
  return null
}

function addUnread(looking: Looking, pod: LinkerdPod, published: PublishedAnchors | null, detail: string): void {
  const { consumer, terminating, owner } = pod
  const name = nameOf(pod)
  looking.exceptions.push(unreadPod(pod, consumer, detail))
  const facts: Readonly<Record<string, string>> = terminating
    ? { ...factsOfPod(pod), state: 'terminating' }
    : factsOfPod(pod)
  const trusts = trustsOf(looking, pod, published)
  looking.add({ consumer, owner, name, trusts, presents: null, bundleDigest: null, facts, leafExpires: null })
}

function notReady(
  looking: Looking,
  pod: LinkerdPod,
  consumer: ConsumerClass,
  detail: string,
  known: Readonly<Record<string, string>>,
): void {
  const name = nameOf(pod)
  looking.exceptions.push({ consumer, name, reason: 'not-ready', detail, verdict: 'pending' })
  const facts = { ...known, state: 'not-ready' }
  const { owner } = pod
  looking.add({ consumer, owner, name, trusts: null, presents: null, bundleDigest: null, facts, leafExpires: null })
}

function factsOfPod(pod: LinkerdPod): Readonly<Record<string, string>> {
  // A token of the data plane differs from batch to batch and says nothing that the environment does not.
  if (pod.consumer === 'control-plane') return pod.restart === null ? {} : { restart: pod.restart }
  return pod.stuck === null ? {} : { stuck: pod.stuck }
}

function trustsOf(
  looking: Looking,
  pod: LinkerdPod,
  published: PublishedAnchors | null,
): readonly Fingerprint[] | null {
  if (pod.anchors === null && pod.consumer === 'control-plane')
    return loadedBy(looking, pod, pod.proxy, published, pod.consumer)
  if (pod.anchors === null) {
    const detail = 'has no trust anchors in its environment: they come from elsewhere'
    looking.exceptions.push({
      consumer: pod.consumer,
      name: nameOf(pod),
      reason: 'unreadable',
      detail,
      verdict: 'unknown',
    })
    return null
  }
  try {
    return looking.book.roots(pod.anchors)
  } catch (cause) {
    looking.exceptions.push(unreadable(pod.consumer, nameOf(pod), cause))
    return null
  }
}

/** What a container of the control plane holds that read its anchors from the ConfigMap when it started. */
function loadedBy(
  looking: Looking,
  pod: LinkerdPod,
  container: StartedContainer,
  published: PublishedAnchors | null,
  consumer: ConsumerClass,
): readonly Fingerprint[] | null {
  const { plan, site, place } = looking.options
  const token = pod.restart ?? undefined
  const roots = rootsByToken(plan, site, token)
  const fresh = token === undefined ? roots === null : token === freshToken(plan, site, place)
  const loaded = loadedRoots(container, published, { roots, fresh })
  if (loaded.roots !== null) return loaded.roots
  const name = nameOf(pod)
  looking.exceptions.push({ consumer, name, reason: 'unreadable', detail: loaded.why, verdict: 'unknown' })
  return null
}

// ----------------------------------------------------------------------------------------------------- identity

/**
 * What a replica of identity holds in its memory: the anchors of its start, and its issuer. A replica that missed the change of its Secret goes on
 * issuing leaves of the old CA (linkerd2#15109), and that none has been seen yet proves nothing. Its metric tells the seconds that the issuer
 * has left, from edge-25.2.1 on.
 */
async function observeIdentity(
  looking: Looking,
  pod: LinkerdPod,
  container: NonNullable<LinkerdPod['identity']>,
  published: PublishedAnchors | null,
): Promise<void> {
  const restart: Readonly<Record<string, string>> = pod.restart === null ? {} : { restart: pod.restart }
  if (container.notRunning !== null) {
    notReady(looking, pod, 'identity', container.notRunning, restart)
    return
  }
  const left = await issuerSecondsLeft(looking, pod)
  const issuer = left === null ? null : nearest(looking, looking.options.now.getTime() + left * 1000)
  looking.add({
    consumer: 'identity',
    owner: pod.owner,
    name: nameOf(pod),
    trusts: loadedBy(looking, pod, container, published, 'identity'),
    presents: left === null ? null : issuer === null ? [] : [issuer],
    bundleDigest: null,
    facts: left === null ? { ...restart, issuer: 'not-shown' } : restart,
    leafExpires: null,
  })
}

async function issuerSecondsLeft(looking: Looking, pod: LinkerdPod): Promise<number | null> {
  try {
    const metrics = await looking.options.cluster.httpGet(pod, identityAdmin, '/metrics')
    const found = /^issuer_cert_ttl_seconds(?:\{[^}]*\})? (\S+)$/m.exec(metrics)
    const left = found === null ? Number.NaN : Number(found[1])
    return Number.isFinite(left) ? left : null
  } catch {
    // Versions before it serve no such metric, and the leaves are looked at in any case.
    return null
  }
}

/** Minutes by which clocks, and the age of a metric, may be apart. */
const closeEnough = 10 * 60_000

function nearest(looking: Looking, end: number): Fingerprint | null {
  const { plan, place } = looking.options
  const wanted = place.tree.state.issuer
  const near = plan.certificates.filter(({ notAfter }) => Math.abs(Date.parse(notAfter) - end) < closeEnough)
  // Two CAs that end together are not told apart by when they end: then the metric says nothing against the planned one.
  return near.find(({ sha256: fingerprint }) => fingerprint === wanted)?.sha256 ?? near[0]?.sha256 ?? null
}
