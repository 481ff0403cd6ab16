import { type Cluster, ClusterError, type KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { EvidenceException, Fingerprint, Instant, ObjectEvidence } from '../../rotation.ts'
import { type CertificateBook, certificateBook, factsOf } from '../../verify/certificates.ts'
import { oneLine, sortedExceptions, unreadable } from '../../verify/exceptions.ts'
import { groupCollector, type SeenConsumer } from '../../verify/groups.ts'
import { dataOwnership, isObserved, lastWritten } from '../../verify/objects.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instant, later, list, objectId, sha256, text } from '../../verify/values.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, type Expected, expectedOf, rootsByToken } from './expected.ts'
import { gatewaySecretsPath, readGatewayTrust } from './gateway-envoy.ts'
import { clientSecret, connectionKinds, connectionResources, notRenewed, readConnection, renewsAt } from './runtime.ts'
import { type KymaRuntime, kymaOf, runtimesOf } from './settings.ts'
import { caOverrides } from './traps.ts'

const canaryName = 'reanchor-canary'
/** Pod-template annotation with the token of a restart. */
const trustAnnotation = 'reanchor.dev/trust'
/** Envoy's admin, on the loopback of every proxy. */
const adminPort = 15000
/** Where Kyma's installer takes overrides from. */
const overrides = { namespace: 'kyma-installer', labelSelector: 'installer=overrides' } as const

interface Looking {
  readonly options: ObserveOptions
  readonly expected: Expected
  readonly book: CertificateBook
  readonly objects: ObjectEvidence[]
  readonly exceptions: EvidenceException[]
  add(seen: SeenConsumer): void
  changedAt(time: Instant | null): void
  incomplete(what: string, cause: unknown): void
}

/**
 * Looks at one central cluster, and at each runtime in its own: both Secrets by their metadata, what each gateway pod trusts, and what each
 * runtime says of its certificate. Changes nothing and judges nothing, but names every consumer that differs from the state that the step declares.
 */
export async function observeKyma(options: ObserveOptions): Promise<Observation> {
  const collector = groupCollector()
  const exceptions: EvidenceException[] = []
  const objects: ObjectEvidence[] = []
  const expected = expectedOf(options.plan, options.place)
  let lastChange: Instant | null = null
  let complete = true
  const looking: Looking = {
    options,
    expected,
    book: certificateBook(options.plan),
    objects,
    exceptions,
    add(seen) {
      collector.add(seen)
      for (const { reason, detail, verdict } of departures(seen, expected))
        exceptions.push({ consumer: seen.consumer, name: seen.name, reason, detail, verdict })
    },
    changedAt(time) {
      lastChange = later(lastChange, time)
    },
    incomplete(what, cause) {
      complete = false
      exceptions.push(unreadable('object', what, cause))
    },
  }
  const { signer, gateway } = expected.places
  const signing = await observeSecret(looking, signer.namespace, signer.secret)
  const trusting = await observeSecret(looking, gateway.namespace, gateway.secret)
  await observed(looking, objectId('Secret', signer.namespace, canaryName), id => canary(looking, id))
  await observeOverrides(looking)
  await observeGateway(looking)
  const runtimes = runtimesOf(kymaOf(options.declared), options.site)
  const since = { signer: signing?.lastChange ?? null, gateway: trusting?.lastChange ?? null }
  await inPool(runtimes, options.concurrency, async runtime => await observeRuntime(looking, runtime, since))
  return {
    groups: collector.groups(),
    exceptions: sortedExceptions(exceptions),
    objects: [...objects].sort((one, other) => (one.id < other.id ? -1 : 1)),
    lastChange,
    certificates: await factsOf(looking.book.unplanned().map(({ pem }) => pem)),
    complete,
  }
}

async function observed(
  looking: Looking,
  id: string,
  look: (id: string) => Promise<ObjectEvidence>,
): Promise<ObjectEvidence | null> {
  try {
    const found = await look(id)
    looking.objects.push(found)
    looking.changedAt(found.lastChange)
    return found
  } catch (cause) {
    looking.exceptions.push(unreadable('object', id, cause))
    return null
  }
}

function absent(id: string): ObjectEvidence {
  return { id, present: false, keys: null, managers: {}, facts: {}, lastChange: null }
}

function present(id: string, object: KubernetesObject, facts: Readonly<Record<string, string>>): ObjectEvidence {
  return { id, present: true, keys: null, managers: {}, facts, lastChange: lastWritten(object) }
}

/** By its keys and their owners; its values stay where they are. */
async function observeSecret(looking: Looking, namespace: string, name: string): Promise<ObjectEvidence | null> {
  return await observed(looking, objectId('Secret', namespace, name), async id => {
    const found = await looking.options.cluster.metadata(resources.secrets, namespace, name)
    return found === null ? absent(id) : { ...present(id, found, {}), ...dataOwnership(found) }
  })
}

/** The one Secret whose value is read: it is random, guards nothing, and shows that custody was unsealed whole. */
async function canary(looking: Looking, id: string): Promise<ObjectEvidence> {
  const { namespace } = looking.expected.places.signer
  const secret = await looking.options.cluster.get(resources.secrets, namespace, canaryName)
  if (secret === null) return absent(id)
  const encoded = text(at(secret.data, 'canary'))
  const facts = encoded === null ? {} : { sha256: sha256(Buffer.from(encoded, 'base64')) }
  return { ...present(id, secret, facts), ...dataOwnership(secret) }
}

/** Overrides with a CA make the setup job write both Secrets anew at Kyma's next upgrade. Those that are Secrets are not opened. */
async function observeOverrides(looking: Looking): Promise<void> {
  const { cluster } = looking.options
  try {
    for await (const page of cluster.list(resources.configMaps, overrides))
      for (const object of page) {
        if (object.metadata.labels?.installer !== 'overrides') continue
        const data = (object.data ?? {}) as Readonly<Record<string, unknown>>
        const keys = caOverrides.map(name => `global.${name}`).filter(key => (text(data[key]) ?? '') !== '')
        if (keys.length === 0) continue
        const id = objectId('ConfigMap', object.metadata.namespace ?? '', object.metadata.name)
        looking.objects.push(present(id, object, { override: keys.join(' ') }))
      }
  } catch (cause) {
    // Kyma 2 has no installer, and a role need not reach it.
    if (cause instanceof ClusterError && cause.failure === 'forbidden') return
    looking.incomplete(`list configmaps with overrides in ${overrides.namespace}`, cause)
  }
}

// ----------------------------------------------------------------------------------------------- gateway

async function observeGateway(looking: Looking): Promise<void> {
  const { cluster } = looking.options
  const { namespace, deployment } = looking.expected.places.gateway
  let selector = ''
  const found = await observed(looking, objectId('Deployment', namespace, deployment), async id => {
    const object = await cluster.get(resources.deployments, namespace, deployment)
    if (object === null) return absent(id)
    const labels = (at(object.spec, 'selector', 'matchLabels') ?? {}) as Readonly<Record<string, string>>
    selector = Object.entries(labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(',')
    return present(id, object, deploymentFacts(object))
  })
  if (found === null || !found.present || selector === '') return
  const pods: KubernetesObject[] = []
  try {
    for await (const page of cluster.list(resources.pods, { namespace, labelSelector: selector })) pods.push(...page)
  } catch (cause) {
    looking.incomplete(`list pods of ${deployment} in ${namespace}`, cause)
    return
  }
  await inPool(pods, looking.options.concurrency, async pod => await observeGatewayPod(looking, pod))
}

function deploymentFacts(object: KubernetesObject): Readonly<Record<string, string>> {
  const status = (field: string): number => numberOf(at(object.status, field))
  const replicas = numberOf(at(object.spec, 'replicas'), 1)
  const rolled =
    isObserved(object) &&
    status('updatedReplicas') === replicas &&
    status('availableReplicas') === replicas &&
    status('replicas') === replicas
  const token = text(at(object.spec, 'template', 'metadata', 'annotations', trustAnnotation))
  return {
    rolled: String(rolled),
    rolling: `${status('updatedReplicas')} of ${replicas} of the newest template, ${status('availableReplicas')} available`,
    surge: surgeOf(object, replicas),
    ...(token === null ? {} : { token }),
  }
}

/** How a roll-out goes: `safe`; or why it would take a pod away before another serves, or could not bring one up. */
function surgeOf(object: KubernetesObject, replicas: number): string {
  const strategy = at(object.spec, 'strategy')
  if (text(at(strategy, 'type')) === 'Recreate') return 'Recreate: all pods go before one comes'
  const unavailable = share(at(strategy, 'rollingUpdate', 'maxUnavailable') ?? '25%', replicas, Math.floor)
  const surge = share(at(strategy, 'rollingUpdate', 'maxSurge') ?? '25%', replicas, Math.ceil)
  if (unavailable >= replicas) return `maxUnavailable lets all ${replicas} pods go before one comes`
  const ports = list(at(object.spec, 'template', 'spec', 'containers')).flatMap(container =>
    list(at(container, 'ports')),
  )
  if (unavailable === 0 && ports.some(port => numberOf(at(port, 'hostPort')) > 0))
    return 'hostPort and maxUnavailable 0: where every node runs a pod, a new one finds no place and the roll-out hangs'
  if (unavailable === 0 && surge === 0) return 'neither maxSurge nor maxUnavailable lets a pod move'
  return 'safe'
}

function share(value: unknown, replicas: number, round: (value: number) => number): number {
  const percent = /^(\d+)%$/.exec(String(value))
  return percent === null ? numberOf(value) : round((Number(percent[1]) / 100) * replicas)
}

function numberOf(value: unknown, otherwise = 0): number {
  return typeof value === 'number' ? value : otherwise
}

async function observeGatewayPod(looking: Looking, pod: KubernetesObject): Promise<void> {
  const { plan, site, cluster, declared } = looking.options
  const { form } = looking.expected.places.gateway
  const name = `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`
  const state = stateOf(pod)
  const ready = list(at(pod.status, 'conditions')).find(entry => text(at(entry, 'type')) === 'Ready')
  looking.changedAt(instant(pod.metadata.creationTimestamp))
  looking.changedAt(instant(at(ready, 'lastTransitionTime')))
  const facts: Record<string, string> = {}
  if (state !== null) facts.state = state
  let trusts: readonly Fingerprint[] | null = null
  if (form === 'mount') {
    const token = pod.metadata.annotations?.[trustAnnotation] ?? null
    if (token !== null) facts.token = token
    trusts = rootsByToken(plan, site, token)
    const loaded = state === null ? await loadedFrom(looking, pod) : null
    // Envoy tells one certificate of a file: where it is none of those that the token stands for, the pod was made while its node had the old file.
    if (loaded !== null && trusts !== null && !trusts.includes(loaded)) {
      facts.file = 'old'
      trusts = [loaded]
    }
  } else if (state === null) {
    try {
      const credential = kymaOf(declared).gateway.credential ?? ''
      const answer = readGatewayTrust(
        await cluster.httpGet(
          { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name },
          adminPort,
          gatewaySecretsPath,
        ),
        credential,
      )
      if (answer.warming) facts.warming = 'true'
      if (answer.bundles.length === 0) throw new Error(`Envoy holds no CA for credential ${credential}`)
      trusts = looking.book.roots(answer.bundles.join('\n'))
    } catch (cause) {
      looking.exceptions.push(unreadable('gateway', name, cause))
    }
  }
  looking.add({
    consumer: 'gateway',
    owner: objectPath(pod.metadata.namespace ?? '', looking.expected.places.gateway.deployment),
    name,
    trusts,
    presents: null,
    bundleDigest: null,
    facts,
    leafExpires: null,
  })
}

function objectPath(namespace: string, deployment: string): string {
  return `${namespace}/Deployment/${deployment}`
}

function stateOf(pod: KubernetesObject): 'not-ready' | 'terminating' | null {
  if (pod.metadata.deletionTimestamp !== undefined) return 'terminating'
  const ready = list(at(pod.status, 'conditions')).some(
    entry => text(at(entry, 'type')) === 'Ready' && text(at(entry, 'status')) === 'True',
  )
  return ready ? null : 'not-ready'
}

/**
 * The planned certificate that a gateway pod has loaded from its CA file; null: not to be told (Envoy's admin was not reached, or what it tells is of no plan).
 * `/certs` lists what Envoy has loaded by path and serial number, of a file with several certificates the first.
 */
async function loadedFrom(looking: Looking, pod: KubernetesObject): Promise<Fingerprint | null> {
  const { plan, cluster } = looking.options
  const { secret, key } = looking.expected.places.gateway
  try {
    const place = { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name }
    const answer: unknown = JSON.parse(await cluster.httpGet(place, adminPort, '/certs'))
    for (const entry of list(at(answer, 'certificates')))
      for (const ca of list(at(entry, 'ca_cert'))) {
        if (text(at(ca, 'path'))?.endsWith(`/${secret}/${key}`) !== true) continue
        const serial = plainSerial(text(at(ca, 'serial_number')) ?? '')
        const known = plan.certificates.find(certificate => plainSerial(certificate.serial) === serial)
        if (known !== undefined) return known.sha256
      }
  } catch {
    // The token of its restart still tells what it was started for.
    return null
  }
  return null
}

function plainSerial(serial: string): string {
  return serial.toLowerCase().replace(/^0+/, '')
}

// ---------------------------------------------------------------------------------------------- runtimes

async function observeRuntime(
  looking: Looking,
  runtime: KymaRuntime,
  since: { readonly signer: Instant | null; readonly gateway: Instant | null },
): Promise<void> {
  const { openCluster } = looking.options
  const name = `${runtime.name}/${runtime.connection}`
  if (openCluster === undefined) {
    looking.exceptions.push(unreadable('runtime', name, new Error('its cluster cannot be opened here')))
    return
  }
  try {
    const cluster = await openCluster(runtime.name, runtime.cluster)
    try {
      await lookAtRuntime(looking, runtime, cluster, since)
    } finally {
      await cluster.close()
    }
  } catch (cause) {
    looking.exceptions.push(unreadable('runtime', name, cause))
  }
}

async function lookAtRuntime(
  looking: Looking,
  runtime: KymaRuntime,
  cluster: Cluster,
  since: { readonly signer: Instant | null; readonly gateway: Instant | null },
): Promise<void> {
  const name = `${runtime.name}/${runtime.connection}`
  const kind = connectionKinds[runtime.kind]
  const object = await cluster.get(connectionResources[runtime.kind], null, runtime.connection)
  if (object === null) {
    looking.exceptions.push({
      consumer: 'runtime',
      name,
      reason: 'no-connection',
      detail: `there is no ${kind} ${runtime.connection} in its cluster: it is not connected, or goes by another name`,
      verdict: 'unknown',
    })
    return
  }
  const connection = readConnection(runtime.kind, object)
  const facts: Record<string, string> = { kind: runtime.kind }
  if (connection.error !== null) facts.error = oneLine(`says: ${connection.error}`)
  if (connection.notBefore === null) facts.dates = 'unknown'
  else facts.notBefore = connection.notBefore
  const renews = renewsAt(connection)
  if (renews !== null) facts.renewsAt = renews
  const waits =
    since.signer === null
      ? 'cannot be told: the Secret of the connector was not read'
      : notRenewed(connection, since.signer)
  facts.renewed = String(waits === null)
  if (waits !== null) facts.waits = oneLine(waits)
  facts.reached = String(
    since.gateway !== null &&
      connection.lastSuccess !== null &&
      Date.parse(connection.lastSuccess) >= Date.parse(since.gateway),
  )
  const presents = await ownCertificate(looking, runtime, cluster)
  looking.add({
    consumer: 'runtime',
    owner: `${runtime.name}/${kind}/${runtime.connection}`,
    name,
    trusts: null,
    presents,
    bundleDigest: null,
    facts,
    leafExpires: connection.notAfter === null ? null : new Date(connection.notAfter),
  })
}

/**
 * Which CA signed the runtime's client certificate, by its signature; null: it could not be read, which a role need not allow, and then dates alone count.
 * Old and new of one key made the same signature: there the CA that came with the certificate tells them apart.
 */
async function ownCertificate(
  looking: Looking,
  runtime: KymaRuntime,
  cluster: Cluster,
): Promise<readonly Fingerprint[] | null> {
  for (const namespace of clientSecret.namespaces[runtime.kind]) {
    let secret: KubernetesObject | null
    try {
      secret = await cluster.get(resources.secrets, namespace, clientSecret.name)
    } catch (cause) {
      if (cause instanceof ClusterError && cause.failure === 'forbidden') continue
      throw cause
    }
    const data = at(secret, 'data')
    const decoded = (key: string): string => Buffer.from(text(at(data, key)) ?? '', 'base64').toString('latin1')
    const leaf = decoded('crt')
    if (leaf === '') continue
    const chain = decoded('crtChain')
    const came = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g
    const others = (chain.match(came) ?? []).filter(block => block.trim() !== leaf.trim())
    return looking.book.leaf([leaf.trim(), ...others.map(block => block.trim())].join('\n')).issuers
  }
  return null
}
