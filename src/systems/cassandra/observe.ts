import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { Fingerprint, Instant, ObjectEvidence, Plan } from '../../rotation.ts'
import { unreadable } from '../../verify/exceptions.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import {
  absent,
  type Looking as CommonLooking,
  lookAround,
  observeCanary,
  observed,
  observeSealed,
  present,
} from '../../verify/looking.ts'
import { dataOwnership, isObserved, keysWritten } from '../../verify/objects.ts'
import type { PlannedPlace } from '../../verify/planned.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instant, list, objectId, sha256, text } from '../../verify/values.ts'
import type { Observation } from '../system.ts'
import {
  type CassandraClusterFacts,
  operatorAnnotations,
  operatorLabels,
  readCassandraCluster,
  restartVariable,
  statefulSetName,
} from './cassandra-cluster.ts'
import { departures, type Expected, expectedOf, rootsByChecksum } from './expected.ts'
import { type CassandraCa, tlsPorts } from './model.ts'

export interface CassandraObserveOptions {
  readonly cluster: Cluster
  readonly plan: Plan
  readonly site: string
  readonly place: PlannedPlace
  /** The CassandraCluster of this site, and which of its two CAs is rotated. */
  readonly cassandra: { readonly namespace: string; readonly name: string; readonly ca: CassandraCa }
  /** Port-forwards at work at a time. */
  readonly concurrency: number
}

interface Looking extends CommonLooking<CassandraObserveOptions> {
  readonly expected: Expected
}

/**
 * Looks at one region: the CA Secret and what the operator made of it, the StatefulSets, and every node by its own certificate. Changes
 * nothing and judges nothing, but names every consumer that differs from the state that the step declares.
 *
 * Of Secrets only metadata is read, but for the canary. Which CAs a node trusts follows from three facts: the operator wrote down
 * that it took up the Secret with this checksum, it made the nodes' Secret before it did, and the node was started after that.
 */
export async function observeCassandra(options: CassandraObserveOptions): Promise<Observation> {
  const expected = expectedOf(options.plan, options.place)
  // What was not seen has an exception already that says why.
  const departed = (seen: SeenConsumer) =>
    departures(seen, expected).filter(
      ({ reason }) => !(reason === 'unreadable' && seen.presents === null && seen.trusts !== null),
    )
  return await lookAround(options, departed, async common => {
    const looking: Looking = { ...common, expected }
    const facts = await observeCluster(looking)
    const secret = await observeCaSecret(looking)
    const made = facts === null ? null : await observeNodeSecret(looking, facts)
    const { namespace, secret: name } = looking.expected
    await observeSealed(looking, await observeCanary(looking, options.cassandra.namespace), [{ namespace, name }])
    const revisions = facts === null ? new Map<string, Revision>() : await observeStatefulSets(looking, facts)
    const trusts = rootsByChecksum(options.plan, options.site, secret?.facts.checksum ?? '')
    await observePods(looking, { facts, madeAt: made?.written ?? null, leafAt: made?.leaf ?? null, revisions, trusts })
  })
}

// ----------------------------------------------------------------------------------------------- objects

async function observeCluster(looking: Looking): Promise<CassandraClusterFacts | null> {
  const { cluster, cassandra } = looking.options
  let facts: CassandraClusterFacts | null = null
  await observed(looking, objectId('CassandraCluster', cassandra.namespace, cassandra.name), async id => {
    const object = await cluster.get(resources.cassandraClusters, cassandra.namespace, cassandra.name)
    if (object === null) return absent(id)
    facts = readCassandraCluster(object, cassandra.ca, id)
    return present(id, object, {
      // `status.ready` is left out where it is false (a Go bool with omitempty).
      ready: String(at(object.status, 'ready') === true),
      maintenance: facts.inMaintenance.join(' '),
      secret: facts.secret,
      internodeEncryption: facts.internodeEncryption,
      managedRegions: String(facts.managedRegions.length),
      unmanagedRegions: String(facts.unmanagedRegions.length),
    })
  })
  return facts
}

/** The Secret that the step delivers, by its keys and their owners; its values stay where they are. */
async function observeCaSecret(looking: Looking): Promise<ObjectEvidence | null> {
  const { cluster } = looking.options
  const { namespace, secret } = looking.expected
  return await observed(looking, objectId('Secret', namespace, secret), async id => {
    const found = await cluster.metadata(resources.secrets, namespace, secret)
    if (found === null) return absent(id)
    const facts: Record<string, string> = {}
    const annotations = found.metadata.annotations ?? {}
    const checksum = annotations[operatorAnnotations.checksum]
    const instance = annotations[operatorAnnotations.instance]
    if (checksum !== undefined) facts.checksum = checksum
    if (instance !== undefined) facts.instance = instance
    if (annotations['sealedsecrets.bitnami.com/patch'] === 'true') facts.patched = 'true'
    return { ...present(id, found, facts), ...dataOwnership(found) }
  })
}

/** When the nodes' Secret was written last, and when the certificate in it was; null: not to be told. */
async function observeNodeSecret(
  looking: Looking,
  facts: CassandraClusterFacts,
): Promise<{ readonly written: Instant | null; readonly leaf: Instant | null }> {
  const { cluster } = looking.options
  let leaf: Instant | null = null
  const found = await observed(looking, objectId('Secret', facts.namespace, facts.nodeSecret), async id => {
    const secret = await cluster.metadata(resources.secrets, facts.namespace, facts.nodeSecret)
    if (secret === null) return absent(id)
    leaf = keysWritten(secret, ['tls.crt'])
    return present(id, secret, {})
  })
  return { written: found?.lastChange ?? null, leaf }
}

/** The label is the name of the revision; where it is the hash alone, the name ends with it. */
function isRevision(name: string, label: string): boolean {
  return label !== '' && (name === label || name.endsWith(`-${label}`))
}

interface Revision {
  /** As pods carry it in `controller-revision-hash`. */
  readonly name: string
  readonly restart: string
}

/** One StatefulSet for each datacenter that the CassandraCluster declares. */
async function observeStatefulSets(
  looking: Looking,
  facts: CassandraClusterFacts,
): Promise<ReadonlyMap<string, Revision>> {
  const { cluster } = looking.options
  const revisions = new Map<string, Revision>()
  for (const dc of facts.datacenters) {
    const name = statefulSetName(facts, dc.name)
    await observed(looking, objectId('StatefulSet', facts.namespace, name), async id => {
      const found = await cluster.get(resources.statefulSets, facts.namespace, name)
      if (found === null) return absent(id)
      const status = (field: string): string => String(at(found.status, field) ?? '')
      const restart = restartOf(found)
      const update = status('updateRevision')
      revisions.set(name, { name: update, restart })
      const rolled =
        isObserved(found) &&
        update !== '' &&
        status('currentRevision') === update &&
        [status('replicas'), status('readyReplicas'), status('updatedReplicas')].every(
          count => count === String(dc.replicas),
        )
      return present(id, found, {
        observed: String(isObserved(found)),
        rolled: String(rolled),
        rolling: `${status('updatedReplicas') || 0} of ${dc.replicas} of the newest revision, ${status('readyReplicas') || 0} ready`,
        revision: update,
        restart: restart === '' ? '' : sha256(restart).slice(0, 16),
      })
    })
  }
  return revisions
}

function restartOf(object: KubernetesObject): string {
  const containers = list(at(object.spec, 'template', 'spec', 'containers'))
  return variableIn(containers)
}

function variableIn(containers: readonly unknown[]): string {
  const cassandra = containers.find(container => text(at(container, 'name')) === 'cassandra')
  const variable = list(at(cassandra, 'env')).find(entry => text(at(entry, 'name')) === restartVariable)
  return text(at(variable, 'value')) ?? ''
}

// -------------------------------------------------------------------------------------------------- pods

interface Scene {
  readonly facts: CassandraClusterFacts | null
  readonly madeAt: Instant | null
  readonly leafAt: Instant | null
  readonly revisions: ReadonlyMap<string, Revision>
  readonly trusts: readonly Fingerprint[] | null
}

async function observePods(looking: Looking, scene: Scene): Promise<void> {
  const { cluster, cassandra, concurrency } = looking.options
  const pods: KubernetesObject[] = []
  try {
    for await (const page of cluster.list(resources.pods, { namespace: cassandra.namespace })) pods.push(...page)
  } catch (cause) {
    looking.incomplete('list pods', cause)
    return
  }
  const ours = pods.filter(pod => pod.metadata.labels?.[operatorLabels.instance] === cassandra.name)
  const nodes = ours.filter(pod => pod.metadata.labels?.[operatorLabels.component] === 'cassandra')
  for (const { name, replicas } of scene.facts?.datacenters ?? []) {
    const listed = nodes.filter(pod => pod.metadata.labels?.[operatorLabels.dc] === name).length
    if (listed >= replicas) continue
    const detail = `${listed} of ${replicas} nodes are in the list of pods`
    looking.exceptions.push({
      consumer: 'node',
      name: `datacenter ${name}`,
      reason: 'missing',
      detail,
      verdict: 'pending',
    })
  }
  const seen: SeenNode[] = []
  await inPool(nodes, concurrency, async pod => {
    seen.push(await observeNode(looking, scene, pod))
  })
  const shared = sharedLeaf(seen)
  for (const { node, leaf } of seen) {
    if (leaf === null || shared === null) {
      looking.add(node)
      continue
    }
    const other = leaf.sha256 === shared ? 'shared' : 'other'
    const kind = isReplaced(looking, scene, leaf.notBefore) ? 'replaced' : other
    // What it trusts came with the keystore that it kept.
    const trusts = kind === 'shared' ? node.trusts : null
    looking.add({ ...node, trusts, facts: { ...node.facts, leaf: kind } })
  }
  if (cassandra.ca === 'client') {
    for (const consumer of ['prober', 'reaper'] as const) {
      for (const pod of ours.filter(each => each.metadata.labels?.[operatorLabels.component] === consumer))
        observeHelper(looking, scene, consumer, pod)
    }
  }
  for (const pod of pods.filter(each => !ours.includes(each))) observeStranger(looking, scene, pod)
}

interface SeenNode {
  readonly node: SeenConsumer
  /** As it serves it; null: not seen. */
  readonly leaf: { readonly sha256: Fingerprint; readonly notBefore: number } | null
}

/**
 * All nodes of a region have one certificate, which the operator makes anew at each step. Of several that are served the last one made counts, and among
 * equally old ones that of most nodes; a node with another keeps a keystore of before, restarted or not.
 */
function sharedLeaf(seen: readonly SeenNode[]): Fingerprint | null {
  const counts = new Map<Fingerprint, { count: number; readonly notBefore: number }>()
  for (const { leaf } of seen) {
    if (leaf === null) continue
    const known = counts.get(leaf.sha256)
    if (known === undefined) counts.set(leaf.sha256, { count: 1, notBefore: leaf.notBefore })
    else known.count += 1
  }
  const ordered = [...counts].sort(
    ([one, a], [other, b]) => b.notBefore - a.notBefore || b.count - a.count || (one < other ? -1 : 1),
  )
  return ordered[0]?.[0] ?? null
}

/** By how much the clocks of the operator and of the API server may be apart, in milliseconds. */
const clocksApart = 5 * 60_000

/**
 * Whether the operator has made another certificate since: it dates each with the moment in which it makes it, just before it writes the nodes' Secret
 * (mr-cassop controllers/certs/certificates.go, CreateCertificate). That all nodes have the same says nothing where all kubelets gave them an old keystore. Not asked
 * of what is adopted, where nothing was made anew.
 */
function isReplaced({ options }: Looking, { leafAt }: Scene, notBefore: number): boolean {
  return options.place.phase > 0 && leafAt !== null && notBefore < Date.parse(leafAt) - clocksApart
}

async function observeNode(looking: Looking, scene: Scene, pod: KubernetesObject): Promise<SeenNode> {
  const { cluster, cassandra } = looking.options
  const name = nameOf(pod)
  const dc = pod.metadata.labels?.[operatorLabels.dc] ?? ''
  const owner = ownerOf(pod)
  const revision = scene.revisions.get(owner.name)
  const current =
    revision !== undefined &&
    isRevision(revision.name, pod.metadata.labels?.['controller-revision-hash'] ?? '') &&
    variableIn(list(at(pod.spec, 'containers'))) === revision.restart
  const state = stateOf(pod)
  const started = startedOf(pod, scene.madeAt)
  for (const time of timesOf(pod)) looking.changedAt(time)
  let presents: readonly Fingerprint[] | null = null
  let leafExpires: Date | null = null
  let served: SeenNode['leaf'] = null
  if (state === null) {
    try {
      const { chain } = await cluster.servedTls(
        { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name, ...ownAddress(scene, pod) },
        tlsPorts[cassandra.ca],
        'localhost',
      )
      const leaf = looking.book.leafOfDer(chain)
      presents = leaf.issuers
      leafExpires = leaf.notAfter
      served = { sha256: sha256(chain[0] ?? Buffer.alloc(0)), notBefore: leaf.notBefore.getTime() }
    } catch (cause) {
      looking.exceptions.push(unreadable('node', name, cause))
    }
  }
  const node: SeenConsumer = {
    consumer: 'node',
    owner: owner.id,
    name,
    trusts: started === 'after' ? scene.trusts : null,
    presents,
    bundleDigest: null,
    facts: {
      dc,
      started,
      revision: current ? 'current' : 'older',
      ...(state === null ? {} : { state }),
    },
    leafExpires,
  }
  return { node, leaf: served }
}

/** The operator has nodes listen to one another on their pod's address (CASSANDRA_LISTEN_ADDRESS), and not on the loopback. */
function ownAddress({ facts }: Scene, pod: KubernetesObject): { readonly address?: string } {
  if (facts?.reachedAt === undefined) return {}
  const address = text(at(pod.status, facts.reachedAt === 'pod' ? 'podIP' : 'hostIP'))
  return address === null ? {} : { address }
}

/** The prober and the reaper: they read the truststore at their start, and the operator never restarts them for a new one. */
function observeHelper(looking: Looking, scene: Scene, consumer: 'prober' | 'reaper', pod: KubernetesObject): void {
  const state = stateOf(pod)
  const started = startedOf(pod, scene.madeAt)
  for (const time of timesOf(pod)) looking.changedAt(time)
  looking.add({
    consumer,
    owner: ownerOf(pod).id,
    name: nameOf(pod),
    trusts: started === 'after' ? scene.trusts : null,
    presents: null,
    bundleDigest: null,
    facts: { started, ...(state === null ? {} : { state }) },
    leafExpires: null,
  })
}

/** A pod of someone else's that mounts the nodes' Secret trusts and presents what they do, and nobody restarts it. */
function observeStranger(looking: Looking, { facts }: Scene, pod: KubernetesObject): void {
  const secret = facts?.nodeSecret
  if (secret === undefined) return
  const mounts = list(at(pod.spec, 'volumes')).some(volume => text(at(volume, 'secret', 'secretName')) === secret)
  if (!mounts) return
  const detail = `mounts Secret ${secret} and is none of the operator's: nobody restarts it with the nodes`
  looking.exceptions.push({
    consumer: 'client',
    name: nameOf(pod),
    reason: 'needs-attestation',
    detail,
    verdict: 'unknown',
  })
}

/** Whether the pod was made after the operator had written the nodes' Secret: then it read that one at its start. */
function startedOf(pod: KubernetesObject, madeAt: Instant | null): 'after' | 'before' | 'unknown' {
  const born = instant(pod.metadata.creationTimestamp)
  if (born === null || madeAt === null) return 'unknown'
  return Date.parse(born) >= Date.parse(madeAt) ? 'after' : 'before'
}

function stateOf(pod: KubernetesObject): 'not-ready' | 'terminating' | null {
  if (pod.metadata.deletionTimestamp !== undefined) return 'terminating'
  const ready = list(at(pod.status, 'conditions')).some(
    condition => text(at(condition, 'type')) === 'Ready' && text(at(condition, 'status')) === 'True',
  )
  return ready ? null : 'not-ready'
}

function timesOf(pod: KubernetesObject): readonly (Instant | null)[] {
  const ready = list(at(pod.status, 'conditions')).find(condition => text(at(condition, 'type')) === 'Ready')
  return [instant(pod.metadata.creationTimestamp), instant(at(ready, 'lastTransitionTime'))]
}

function nameOf(pod: KubernetesObject): string {
  return `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`
}

function ownerOf(pod: KubernetesObject): { readonly name: string; readonly id: string } {
  const owner = pod.metadata.ownerReferences?.find(reference => reference.controller === true)
  const namespace = pod.metadata.namespace ?? ''
  if (owner === undefined) return { name: '', id: `${namespace}/Pod/${pod.metadata.name}` }
  return { name: owner.name, id: `${namespace}/${owner.kind}/${owner.name}` }
}
