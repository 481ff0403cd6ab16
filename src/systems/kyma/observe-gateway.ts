import { ClusterError, type KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { trustAnnotation } from '../../names.ts'
import type { Fingerprint, Instant, PlannedCertificate } from '../../rotation.ts'
import { unreadable } from '../../verify/exceptions.ts'
import { absent, observed, present } from '../../verify/looking.ts'
import { isObserved } from '../../verify/objects.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instant, list, objectId, sortedSet, text } from '../../verify/values.ts'
import { knownToken, rootsByToken } from './expected.ts'
import {
  type GatewayTrust,
  gatewayCertsPath,
  gatewaySecretsPath,
  type LoadedCa,
  plainSerial,
  readGatewayFile,
  readGatewayTrust,
  readLoadedCas,
} from './gateway-envoy.ts'
import type { Looking } from './looking.ts'
import { kymaOf } from './settings.ts'

/** Envoy's admin, on the loopback of every proxy. */
const adminPort = 15000

/** The gateway's Deployment, and what each of its pods verifies clients with. */
export async function observeGateway(looking: Looking): Promise<void> {
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
    return present(id, object, deploymentFacts(looking, object))
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

function deploymentFacts({ options }: Looking, object: KubernetesObject): Readonly<Record<string, string>> {
  const status = (field: string): number => numberOf(at(object.status, field))
  const replicas = numberOf(at(object.spec, 'replicas'), 1)
  const rolled =
    isObserved(object) &&
    status('updatedReplicas') === replicas &&
    status('availableReplicas') === replicas &&
    status('replicas') === replicas
  const annotated = text(at(object.spec, 'template', 'metadata', 'annotations', trustAnnotation))
  const token = knownToken(options.plan, options.site, annotated)
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
  const { namespace, deployment, form } = looking.expected.places.gateway
  const name = `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`
  const state = stateOf(pod)
  const ready = list(at(pod.status, 'conditions')).find(entry => text(at(entry, 'type')) === 'Ready')
  looking.changedAt(instant(pod.metadata.creationTimestamp))
  looking.changedAt(instant(at(ready, 'lastTransitionTime')))
  const { plan, site } = looking.options
  const token = knownToken(plan, site, pod.metadata.annotations?.[trustAnnotation] ?? null)
  const facts: Readonly<Record<string, string>> = {
    ...(state === null ? {} : { state }),
    ...(form === 'mount' && token !== null ? { token } : {}),
  }
  let held: readonly Held[] = [{ trusts: null, facts: {} }]
  try {
    if (state !== null) held = [{ trusts: form === 'mount' ? startedWith(looking, token) : null, facts: {} }]
    else held = form === 'mount' ? await fileTrust(looking, pod, token) : await pushedTrust(looking, pod)
  } catch (cause) {
    looking.exceptions.push(unreadable('gateway', name, cause))
  }
  for (const [index, one] of held.entries())
    looking.add({
      consumer: 'gateway',
      owner: `${namespace}/Deployment/${deployment}`,
      // A pod whose listeners were answered differently counts once for each answer.
      name: index === 0 ? name : `${name} (answer ${index + 1})`,
      trusts: one.trusts,
      presents: null,
      bundleDigest: null,
      facts: { ...facts, ...one.facts },
      leafExpires: null,
    })
}

/** What one gateway pod verifies clients with; null: it cannot be told. */
interface Held {
  readonly trusts: readonly Fingerprint[] | null
  readonly facts: Readonly<Record<string, string>>
}

async function ask(looking: Looking, pod: KubernetesObject, path: string): Promise<string> {
  const place = { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name }
  return await looking.options.cluster.httpGet(place, adminPort, path)
}

/** What istiod, or the gateway's own agent, has pushed to it under the credential's name. */
async function pushedTrust(looking: Looking, pod: KubernetesObject): Promise<readonly Held[]> {
  const credential = kymaOf(looking.options.declared).gateway.credential ?? ''
  const answer = readGatewayTrust(await ask(looking, pod, gatewaySecretsPath), credential)
  if (answer.bundles.length === 0) throw new Error(`Envoy holds no CA for credential ${credential}`)
  return heldIn(looking, answer)
}

/**
 * What it has read from its file. Envoy tells the whole bundle where Istio gives it files as secrets; else of the file's certificates the first one, beside which
 * the token of the pod's restart stands for what the file held when it started.
 */
async function fileTrust(looking: Looking, pod: KubernetesObject, token: string | null): Promise<readonly Held[]> {
  const { plan } = looking.options
  const started = startedWith(looking, token)
  let loaded: readonly LoadedCa[]
  try {
    const file = looking.expected.places.gateway
    const answer = readGatewayFile(await ask(looking, pod, gatewaySecretsPath), file)
    if (answer.bundles.length > 0) return heldIn(looking, answer)
    loaded = readLoadedCas(await ask(looking, pod, gatewayCertsPath), file)
  } catch (cause) {
    // A port-forward takes a role of its own, and need not be allowed.
    if (cause instanceof ClusterError && cause.failure !== 'malformed')
      return [{ trusts: started, facts: { loaded: 'not-asked' } }]
    throw cause
  }
  if (started === null || loaded.length === 0) return [{ trusts: started, facts: {} }]
  const known = loaded.map(ca => plan.certificates.find(certificate => isLoaded(certificate, ca))?.sha256 ?? null)
  if (known.includes(null)) return [{ trusts: started, facts: { file: 'foreign' } }]
  // None of those that the token stands for: the pod was made while its node still had the old file.
  const old = known.filter(sha256 => sha256 !== null && !started.includes(sha256)) as readonly Fingerprint[]
  return old.length === 0 ? [{ trusts: started, facts: {} }] : [{ trusts: sortedSet(old), facts: { file: 'old' } }]
}

function startedWith({ options }: Looking, token: string | null): readonly Fingerprint[] | null {
  return rootsByToken(options.plan, options.site, token)
}

/** Serial numbers alone would not do: a CA that the setup job makes anew has the serial 2 as the one before. */
function isLoaded(certificate: PlannedCertificate, ca: LoadedCa): boolean {
  const isAt = (told: Instant | null, date: Instant): boolean => told === null || Date.parse(told) === Date.parse(date)
  return (
    plainSerial(certificate.serial) === ca.serial &&
    isAt(ca.notBefore, certificate.notBefore) &&
    isAt(ca.notAfter, certificate.notAfter)
  )
}

/** Each different set of CAs that its contexts were given, or one where all have the same. */
function heldIn({ book }: Looking, { bundles, warming }: GatewayTrust): readonly Held[] {
  const sets = new Map(bundles.map(pem => [book.roots(pem).join(' '), book.roots(pem)]))
  return [...sets.values()].map(trusts => ({ trusts, facts: warming ? { warming: 'true' } : {} }))
}

function stateOf(pod: KubernetesObject): 'not-ready' | 'terminating' | null {
  if (pod.metadata.deletionTimestamp !== undefined) return 'terminating'
  const ready = list(at(pod.status, 'conditions')).some(
    entry => text(at(entry, 'type')) === 'Ready' && text(at(entry, 'status')) === 'True',
  )
  return ready ? null : 'not-ready'
}
