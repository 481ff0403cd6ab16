import type { Cluster, KubernetesObject, ListOptions, ResourceType } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { CertificateFacts, EvidenceException, Fingerprint, Instant, ObjectEvidence } from '../../rotation.ts'
import { type CertificateBook, certificateBook, factsOf } from '../../verify/certificates.ts'
import { causeText, oneLine, sortedExceptions, unreadable } from '../../verify/exceptions.ts'
import { groupCollector, type SeenConsumer } from '../../verify/groups.ts'
import { condition, dataOwnership, isObserved, lastWritten } from '../../verify/objects.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instant, later, objectId, sha256, text } from '../../verify/values.ts'
import { rollOutDetail } from '../istio/observe.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, type Expected, expectedOf, rootsByToken } from './expected.ts'
import { readAsGo } from './go-pem.ts'
import { issuerSecretName } from './issuer-secret.ts'
import { globalAnchors } from './linkerd-config.ts'
import { trustRootsName } from './material.ts'
import { type LinkerdPod, linkerdPod, meshLabel, rotationAnnotation, trustAnnotation } from './observe-pods.ts'
import { type LinkerdSettings, linkerdOf } from './settings.ts'

const canaryName = 'reanchor-canary'
/** Port of identity's own metrics. */
const identityAdmin = 9990

interface Looking {
  readonly options: ObserveOptions
  readonly linkerd: LinkerdSettings
  readonly expected: Expected
  readonly book: CertificateBook
  readonly objects: ObjectEvidence[]
  readonly exceptions: EvidenceException[]
  add(seen: SeenConsumer): void
  changedAt(time: Instant | null): void
  incomplete(what: string, cause: unknown): void
}

/**
 * Looks at one cluster: where anchors and issuer stand, the control plane, and every pod with a proxy. Changes nothing and judges nothing, but
 * names every consumer that differs from the state that the step declares.
 *
 * A proxy's anchors are read from its environment, and its leaf from a handshake with its admin port, which serves TLS with the leaf that it has
 * (linkerd2 cli/cmd/identity.go): no annotation, no event and no age stands for either. Secrets are read by metadata only, the canary aside.
 */
export async function observeLinkerd(options: ObserveOptions): Promise<Observation> {
  const collector = groupCollector()
  const exceptions: EvidenceException[] = []
  const objects: ObjectEvidence[] = []
  const expected = expectedOf(options.plan, options.place)
  let lastChange: Instant | null = null
  let complete = true
  const looking: Looking = {
    options,
    linkerd: linkerdOf(options.declared),
    expected,
    book: certificateBook(options.plan),
    objects,
    exceptions,
    add(seen) {
      collector.add(seen)
      for (const { reason, detail, verdict } of departures(seen, expected)) {
        // What was not seen, or does not run, has an exception already that says why.
        if (reason === 'unreadable' || reason === 'not-ready') continue
        exceptions.push({ consumer: seen.consumer, name: seen.name, reason, detail, verdict })
      }
    },
    changedAt(time) {
      lastChange = later(lastChange, time)
    },
    incomplete(what, cause) {
      complete = false
      exceptions.push(unreadable('object', what, cause))
    },
  }
  await observeAnchors(looking)
  await observeSecrets(looking)
  await observeEvents(looking)
  await observeControlPlane(looking)
  await observeWorkloads(looking)
  await observeExternal(looking)
  await observePods(looking)
  return {
    groups: collector.groups(),
    exceptions: sortedExceptions(exceptions),
    objects: [...objects].sort((one, other) => (one.id < other.id ? -1 : 1)),
    lastChange,
    certificates: await unplannedFacts(looking),
    complete,
  }
}

async function unplannedFacts(looking: Looking): Promise<readonly CertificateFacts[]> {
  const facts: CertificateFacts[] = []
  for (const { sha256: fingerprint, pem } of looking.book.unplanned()) {
    try {
      facts.push(...(await factsOf([pem])))
    } catch (cause) {
      looking.exceptions.push(unreadable('object', `certificate ${fingerprint}`, cause))
    }
  }
  return facts
}

async function observed(looking: Looking, id: string, look: () => Promise<ObjectEvidence>): Promise<void> {
  try {
    const found = await look()
    looking.objects.push(found)
    looking.changedAt(found.lastChange)
  } catch (cause) {
    looking.exceptions.push(unreadable('object', id, cause))
  }
}

function absent(id: string): ObjectEvidence {
  return { id, present: false, keys: null, managers: {}, facts: {}, lastChange: null }
}

function present(id: string, object: KubernetesObject, facts: Readonly<Record<string, string>> = {}): ObjectEvidence {
  const rotation = object.metadata.annotations?.[rotationAnnotation]
  const held = rotation === undefined ? facts : { ...facts, rotation }
  return { id, present: true, keys: null, managers: {}, facts: held, lastChange: lastWritten(object) }
}

async function readPages(
  looking: Looking,
  what: string,
  type: ResourceType,
  options: ListOptions,
  take: (object: KubernetesObject) => void,
): Promise<boolean> {
  try {
    for await (const page of looking.options.cluster.list(type, options)) for (const object of page) take(object)
    return true
  } catch (cause) {
    looking.incomplete(what, cause)
    return false
  }
}

// ---------------------------------------------------------------------------------------------- anchors, issuer

/** The ConfigMap that injector, identity and, from 2.11 on, the control plane's proxies read: read as strictly as they do. */
async function observeAnchors(looking: Looking): Promise<void> {
  const { namespace, flow } = looking.linkerd
  const name = flow === 'trust-roots' ? trustRootsName : 'linkerd-config'
  const id = objectId('ConfigMap', namespace, name)
  await observed(looking, id, async () => {
    const map = await looking.options.cluster.get(resources.configMaps, namespace, name)
    if (map === null) return absent(id)
    const value = text(at(map.data, flow === 'trust-roots' ? 'ca-bundle.crt' : 'global'))
    addAnchors(looking, `${namespace}/${name}`, value)
    return present(id, map)
  })
}

function addAnchors(looking: Looking, name: string, value: string | null): void {
  let anchors: string
  try {
    anchors = looking.linkerd.flow === 'trust-roots' ? (value ?? '') : globalAnchors(value ?? '')
  } catch (cause) {
    looking.exceptions.push({ ...unreadable('configmap', name, cause), reason: 'broken-bundle', verdict: 'violated' })
    return
  }
  const read = readAsGo(anchors)
  if (!read.ok) {
    const detail = `Linkerd could not start with these anchors: ${read.reason}`
    looking.exceptions.push({ consumer: 'configmap', name, reason: 'broken-bundle', detail, verdict: 'violated' })
  }
  looking.add({
    consumer: 'configmap',
    owner: `ConfigMap/${name}`,
    name,
    trusts: read.ok ? [...new Set(read.anchors)].sort() : [],
    presents: null,
    bundleDigest: sha256(anchors),
    facts: {},
    leafExpires: null,
  })
  try {
    looking.book.roots(anchors)
  } catch {
    // Said above.
  }
}

/** Field managers of the Sealed Secrets controller: the name of its binary, or of its image. */
const sealedManagers: readonly string[] = ['controller', 'sealed-secrets-controller']

async function observeSecrets(looking: Looking): Promise<void> {
  const { cluster } = looking.options
  const { namespace } = looking.linkerd
  const issuer = objectId('Secret', namespace, issuerSecretName)
  await observed(looking, issuer, async () => {
    const secret = await cluster.metadata(resources.secrets, namespace, issuerSecretName)
    return secret === null ? absent(issuer) : { ...present(issuer, secret), ...dataOwnership(secret) }
  })
  const canary = objectId('Secret', namespace, canaryName)
  await observed(looking, canary, async () => {
    const secret = await cluster.get(resources.secrets, namespace, canaryName)
    if (secret === null) return absent(canary)
    const encoded = text(at(secret.data, 'canary'))
    const facts = encoded === null ? {} : { sha256: sha256(Buffer.from(encoded, 'base64')) }
    return { ...present(canary, secret, facts), ...dataOwnership(secret) }
  })
  const unsealed = looking.objects.find(({ id }) => id === canary)
  if (!(unsealed?.managers.canary ?? []).some(manager => sealedManagers.includes(manager))) return
  for (const name of [canaryName, issuerSecretName]) {
    const id = objectId('SealedSecret', namespace, name)
    await observed(looking, id, async () => {
      const found = await cluster.get(resources.sealedSecrets, namespace, name)
      if (found === null) return absent(id)
      const synced = condition(found, 'Synced')
      return present(id, found, {
        observed: String(isObserved(found)),
        ...(synced === null ? {} : { synced: synced.status, message: synced.message }),
      })
    })
  }
}

/** What identity tells of its issuer. Events live for an hour and one of three replicas makes each: hints, and never evidence. */
const issuerEvents = ['IssuerUpdated', 'IssuerUpdateSkipped', 'IssuerValidationFailed'] as const

const events: ResourceType = { group: '', version: 'v1', plural: 'events', namespaced: true }

async function observeEvents(looking: Looking): Promise<void> {
  const { namespace } = looking.linkerd
  const facts: Record<string, string> = {}
  try {
    const pages = looking.options.cluster.list(events, { namespace })
    for await (const page of pages) {
      for (const event of page) {
        const reason = issuerEvents.find(each => each === event.reason)
        if (reason === undefined || text(at(event.involvedObject, 'name')) !== 'linkerd-identity') continue
        const time =
          instant(event.lastTimestamp) ?? instant(event.eventTime) ?? instant(event.metadata.creationTimestamp)
        const known = facts[reason]
        if (time === null || (known !== undefined && Date.parse(known) >= Date.parse(time))) continue
        facts[reason] = time
        facts[`${reason} message`] = oneLine(text(event.message) ?? '')
      }
    }
  } catch {
    // A hint that is not to be had: nothing depends on it.
    return
  }
  looking.objects.push({ id: 'Events', present: true, keys: null, managers: {}, facts, lastChange: null })
}

// ----------------------------------------------------------------------------------- control plane, workloads

async function observeControlPlane(looking: Looking): Promise<void> {
  const { namespace } = looking.linkerd
  await readPages(looking, `list Deployments in ${namespace}`, resources.deployments, { namespace }, object => {
    // The label stands on the pods too; what has a proxy in its template belongs to the control plane.
    if (!hasProxy(object)) return
    const facts: Record<string, string> = {}
    const token = text(at(object.spec, 'template', 'metadata', 'annotations', trustAnnotation))
    if (token !== null) facts.restart = token
    const rolling = rollOutDetail('Deployment', object)
    facts.rolled = String(rolling === null)
    if (rolling !== null) facts.rolling = rolling
    const found = present(objectId('Deployment', namespace, object.metadata.name), object, facts)
    looking.objects.push(found)
    looking.changedAt(found.lastChange)
  })
}

function hasProxy(object: KubernetesObject): boolean {
  const spec = at(object.spec, 'template', 'spec')
  return ['containers', 'initContainers'].some(field => {
    const containers = at(spec, field)
    return Array.isArray(containers) && containers.some(container => text(at(container, 'name')) === 'linkerd-proxy')
  })
}

const workloadTypes = [
  { kind: 'Deployment', type: resources.deployments },
  { kind: 'StatefulSet', type: resources.statefulSets },
  { kind: 'DaemonSet', type: resources.daemonSets },
] as const

/** Workloads that a Component reached, in one object: how many, with which restart token, rolled or not. */
async function observeWorkloads(looking: Looking): Promise<void> {
  const { plan } = looking.options
  const { namespace } = looking.linkerd
  // Until its first own step, a rotation that follows another finds that one's name on what it will patch.
  const rotations = plan.follows === undefined ? [plan.metadata.name] : [plan.metadata.name, plan.follows]
  const tokens = new Map<string, number>()
  let wired = 0
  for (const { kind, type } of workloadTypes) {
    await readPages(looking, `list ${kind}s`, type, {}, object => {
      if (object.metadata.namespace === namespace) return
      if (!rotations.includes(object.metadata.annotations?.[rotationAnnotation] ?? '')) return
      wired += 1
      const token = text(at(object.spec, 'template', 'metadata', 'annotations', trustAnnotation)) ?? ''
      tokens.set(token, (tokens.get(token) ?? 0) + 1)
      const rolling = rollOutDetail(kind, object)
      const stuck = neverRolls(kind, object)
      if (rolling === null && stuck === null) return
      const name = `${object.metadata.namespace ?? ''}/${kind}/${object.metadata.name}`
      const detail = stuck ?? rolling ?? ''
      looking.exceptions.push({ consumer: 'object', name, reason: 'not-rolled', detail, verdict: 'pending' })
    })
  }
  const carried = [...tokens].filter(([token]) => token !== '').sort()
  const facts = Object.fromEntries(carried.map(([token, count]) => [`restart ${token}`, String(count)]))
  looking.objects.push({
    id: 'Workloads',
    present: wired > 0,
    keys: null,
    managers: {},
    facts: { wired: String(wired), ...facts },
    lastChange: null,
  })
}

/** OnDelete sets and paused Deployments take a new template and make no pod of it. */
function neverRolls(kind: string, object: KubernetesObject): string | null {
  if (rollOutDetail(kind, object) === null) return null
  if (text(at(object.spec, 'updateStrategy', 'type')) === 'OnDelete')
    return 'its update strategy is OnDelete: its owner has to delete the pods'
  return at(object.spec, 'paused') === true ? 'it is paused: its owner has to resume it' : null
}

const externalWorkloads: ResourceType = {
  group: 'workload.linkerd.io',
  version: 'v1beta1',
  plural: 'externalworkloads',
  namespaced: true,
}

/** Machines outside the cluster have their anchors in a file or a variable of their own, which no API shows. */
async function observeExternal(looking: Looking): Promise<void> {
  const names = new Set<string>()
  await readPages(looking, 'list ExternalWorkloads', externalWorkloads, {}, ({ metadata }) => {
    names.add(`${metadata.namespace ?? ''}/${metadata.name}`)
  })
  for (const name of [...names].sort()) {
    const detail = 'a machine outside the cluster (ExternalWorkload): no API shows which roots it trusts'
    looking.exceptions.push({ consumer: 'external', name, reason: 'needs-attestation', detail, verdict: 'unknown' })
  }
}

// --------------------------------------------------------------------------------------------------------- pods

async function observePods(looking: Looking): Promise<void> {
  const { options, linkerd } = looking
  const pods: LinkerdPod[] = []
  let seen = 0
  const whole = await readPages(looking, 'list pods', resources.pods, { labelSelector: meshLabel }, object => {
    seen += 1
    const found = linkerdPod(object, linkerd.namespace)
    if (found !== null) pods.push(found)
  })
  options.onProgress({ stage: 'list pods', done: seen, of: seen })
  if (whole && !pods.some(pod => pod.identity)) {
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
  let done = 0
  await inPool(pods, options.concurrency, async pod => {
    await observePod(looking, pod)
    done += 1
    if (done % 100 === 0 || done === pods.length) options.onProgress({ stage: 'read proxies', done, of: pods.length })
  })
}

/** Since when each owner has pods of one make: a pod more of it is no change of trust, and in a large mesh one comes every second. */
function births(pods: readonly LinkerdPod[]): Iterable<Instant> {
  const first = new Map<string, Instant>()
  for (const { owner, anchors, restart, started, stuck } of pods) {
    if (started === null || stuck !== null) continue
    const key = [owner, restart, anchors].join('\n')
    const before = first.get(key)
    if (before === undefined || Date.parse(started) < Date.parse(before)) first.set(key, started)
  }
  return first.values()
}

async function observePod(looking: Looking, pod: LinkerdPod): Promise<void> {
  const { options, exceptions } = looking
  const name = `${pod.namespace}/${pod.name}`
  const facts = factsOfPod(pod)
  const base = { consumer: pod.consumer, owner: pod.owner, name, bundleDigest: null } as const
  if (pod.notRunning !== null) {
    const reason = {
      consumer: pod.consumer,
      name,
      reason: 'not-ready',
      detail: pod.notRunning,
      verdict: 'pending',
    } as const
    exceptions.push(reason)
    looking.add({ ...base, trusts: null, presents: null, facts: { ...facts, state: 'not-ready' }, leafExpires: null })
    return
  }
  const trusts = trustsOf(looking, pod, name)
  try {
    const chain = await options.cluster.servedChain(pod, pod.adminPort, pod.localName)
    const leaf = looking.book.leafOfDer(chain)
    if (leaf.notAfter < options.now) {
      const detail = `presents a leaf that ended at ${leaf.notAfter.toISOString()}: it gets no new one`
      exceptions.push({ consumer: pod.consumer, name, reason: 'leaf-expired', detail, verdict: 'violated' })
    }
    looking.add({ ...base, trusts, presents: leaf.issuers, facts, leafExpires: leaf.notAfter })
  } catch (cause) {
    if (await isGone(options.cluster, pod)) return
    const gone = { consumer: pod.consumer, name, reason: 'terminating', verdict: 'pending' } as const
    exceptions.push(
      pod.terminating
        ? { ...gone, detail: `is going away: ${causeText(cause)}` }
        : unreadable(pod.consumer, name, cause),
    )
    const state: Readonly<Record<string, string>> = pod.terminating ? { state: 'terminating' } : {}
    looking.add({ ...base, trusts, presents: null, facts: { ...facts, ...state }, leafExpires: null })
  }
  if (pod.identity) await observeIdentity(looking, pod, name)
}

function factsOfPod(pod: LinkerdPod): Readonly<Record<string, string>> {
  // A token of the data plane differs from batch to batch and says nothing that the environment does not.
  if (pod.consumer === 'control-plane') return pod.restart === null ? {} : { restart: pod.restart }
  return pod.stuck === null ? {} : { stuck: pod.stuck }
}

function trustsOf(looking: Looking, pod: LinkerdPod, name: string): readonly Fingerprint[] | null {
  const { plan, site } = looking.options
  if (pod.anchors === null) {
    const known = pod.consumer === 'control-plane' ? rootsByToken(plan, site, pod.restart ?? undefined) : null
    if (known !== null) return known
    const detail =
      pod.consumer === 'control-plane'
        ? 'was started with a restart token that is of no step'
        : 'has no trust anchors in its environment: they come from elsewhere'
    looking.exceptions.push({ consumer: pod.consumer, name, reason: 'unreadable', detail, verdict: 'unknown' })
    return null
  }
  try {
    return looking.book.roots(pod.anchors)
  } catch (cause) {
    looking.exceptions.push(unreadable(pod.consumer, name, cause))
    return null
  }
}

/**
 * Which issuer a replica of identity holds in its memory: a replica that missed the change of its Secret goes on issuing leaves of the old CA
 * (linkerd2#15109), and that none has been seen yet proves nothing. Its metric tells the seconds that are left, from edge-25.2.1 on.
 */
async function observeIdentity(looking: Looking, pod: LinkerdPod, name: string): Promise<void> {
  let left: number | null = null
  try {
    const metrics = await looking.options.cluster.httpGet(pod, identityAdmin, '/metrics')
    const found = /^issuer_cert_ttl_seconds(?:\{[^}]*\})? (\S+)$/m.exec(metrics)
    left = found === null ? null : Number(found[1])
  } catch {
    // Versions before it serve no such metric, and the leaves are looked at in any case.
  }
  if (left === null || !Number.isFinite(left)) return
  const end = looking.options.now.getTime() + left * 1000
  const issuer = nearest(looking, end)
  looking.add({
    consumer: 'identity',
    owner: pod.owner,
    name,
    trusts: null,
    presents: issuer === null ? [] : [issuer],
    bundleDigest: null,
    facts: {},
    leafExpires: null,
  })
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

async function isGone(cluster: Cluster, pod: LinkerdPod): Promise<boolean> {
  try {
    return (await cluster.get(resources.pods, pod.namespace, pod.name)) === null
  } catch {
    // Not knowing is not being gone.
    return false
  }
}
