import { valuesName } from '../../../phases/linkerd/files.ts'
import type { KubernetesObject, ResourceType } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { trustAnnotation } from '../../names.ts'
import { oneLine, unreadable } from '../../verify/exceptions.ts'
import { absent, observeCanary, observed, observeSealed, present, readPages } from '../../verify/looking.ts'
import { condition, dataOwnership, isObserved, keysWritten, rollOutDetail } from '../../verify/objects.ts'
import { at, instant, list, objectId, record, sha256, sortedSet, text } from '../../verify/values.ts'
import { wiredWorkloads } from '../../verify/workloads.ts'
import { readAsGo } from './go-pem.ts'
import { deliveredIssuer, issuerSecretName } from './issuer-secret.ts'
import { anchorsKey, configAnchors } from './linkerd-config.ts'
import { trustRootsName } from './material.ts'
import type { Looking } from './observe.ts'
import type { PublishedAnchors } from './observe-loaded.ts'

/** What Git delivers and what it restarts, as objects. Secrets are read by metadata only, the canary aside. The anchors as they stand, for what was started with them. */
export async function observeObjects(looking: Looking): Promise<PublishedAnchors | null> {
  const published = await observeAnchors(looking)
  await observeSecrets(looking)
  await observeEvents(looking)
  await observeRelease(looking)
  await observeControlPlane(looking)
  await observeWorkloads(looking)
  await observeExternal(looking)
  return published
}

// ---------------------------------------------------------------------------------------------- anchors, issuer

/** The ConfigMap that injector, identity and, from 2.11 on, the control plane's proxies read: read as strictly as they do. Null: it holds none, or was not to be read. */
async function observeAnchors(looking: Looking): Promise<PublishedAnchors | null> {
  const { namespace, flow } = looking.linkerd
  const name = flow === 'trust-roots' ? trustRootsName : 'linkerd-config'
  const id = objectId('ConfigMap', namespace, name)
  let published: PublishedAnchors | null = null
  await observed(looking, id, async () => {
    const map = await looking.options.cluster.get(resources.configMaps, namespace, name)
    if (map === null) return absent(id)
    const key = flow === 'trust-roots' ? 'ca-bundle.crt' : anchorsKey(map.data)
    const roots = addAnchors(looking, `${namespace}/${name}`, map.data)
    if (roots !== null) published = { name: `${namespace}/${name}`, roots, changed: keysWritten(map, [key]) }
    return present(id, map)
  })
  return published
}

function addAnchors(looking: Looking, name: string, data: unknown): readonly string[] | null {
  let anchors: string
  try {
    anchors = looking.linkerd.flow === 'trust-roots' ? (text(at(data, 'ca-bundle.crt')) ?? '') : configAnchors(data)
  } catch (cause) {
    looking.exceptions.push({ ...unreadable('configmap', name, cause), reason: 'broken-bundle', verdict: 'violated' })
    return null
  }
  const read = readAsGo(anchors)
  if (!read.ok) {
    const detail = `Linkerd could not start with these anchors: ${read.reason}`
    looking.exceptions.push({ consumer: 'configmap', name, reason: 'broken-bundle', detail, verdict: 'violated' })
  }
  const roots = read.ok ? sortedSet(read.anchors) : []
  looking.add({
    consumer: 'configmap',
    owner: `ConfigMap/${name}`,
    name,
    trusts: roots,
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
  return read.ok ? roots : null
}

async function observeSecrets(looking: Looking): Promise<void> {
  const { cluster, place } = looking.options
  const { namespace } = looking.linkerd
  const delivered = deliveredIssuer(place.tree.state.settings)
  const secrets = [{ name: issuerSecretName, namespace }]
  // Where the chart makes identity's Secret, what it makes it from is another one, in another namespace perhaps.
  if (delivered.name !== issuerSecretName)
    secrets.push({ name: delivered.name, namespace: delivered.namespace ?? namespace })
  for (const { namespace: of, name } of secrets) {
    await observed(looking, objectId('Secret', of, name), async id => {
      const secret = await cluster.metadata(resources.secrets, of, name)
      return secret === null ? absent(id) : { ...present(id, secret), ...dataOwnership(secret) }
    })
  }
  await observeSealed(looking, await observeCanary(looking, namespace), secrets.slice(-1))
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

/** The HelmRelease that installs the chart: whether it takes the values that the folder delivers, and whether it got through with them. */
async function observeRelease(looking: Looking): Promise<void> {
  const { cluster, place, site } = looking.options
  const { install, controlPlane } = looking.linkerd
  if (install !== 'helmRelease') return
  const name = controlPlane[site]?.name ?? 'linkerd-control-plane'
  const namespace = place.tree.state.settings.valuesNamespace ?? looking.linkerd.namespace
  const id = objectId('HelmRelease', namespace, name)
  await observed(looking, id, async () => {
    const release = await cluster.get(resources.helmReleases, namespace, name)
    if (release === null) return absent(id)
    const sources = list(at(release.spec, 'valuesFrom')).map(source => text(record(source).name))
    const ready = condition(release, 'Ready')
    return present(id, release, {
      observed: String(isObserved(release)),
      wired: String(sources.includes(valuesName)),
      ...(ready === null ? {} : { ready: ready.status, message: oneLine(ready.message) }),
    })
  })
}

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

async function observeWorkloads(looking: Looking): Promise<void> {
  const { wired, restarts } = await wiredWorkloads(looking, { apart: looking.linkerd.namespace, why: neverRolls })
  const facts = { wired: String(wired), ...restarts }
  looking.objects.push({ id: 'Workloads', present: wired > 0, keys: null, managers: {}, facts, lastChange: null })
}

/** OnDelete sets and paused Deployments take a new template and make no pod of it. */
function neverRolls(object: KubernetesObject): string | null {
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
