import type { Cluster, KubernetesObject, ListOptions, ResourceType } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import { canaryName, rotationAnnotation, valuesAnnotation } from '../names.ts'
import type { CertificateFacts, EvidenceException, Instant, ObjectEvidence, Plan } from '../rotation.ts'
import type { Observation } from '../systems/system.ts'
import { type CertificateBook, certificateBook, factsOf } from './certificates.ts'
import { oneLine, sortedExceptions, unreadable } from './exceptions.ts'
import { groupCollector, type SeenConsumer } from './groups.ts'
import { condition, dataOwnership, isExternalManager, isObserved, lastWritten, sealedManagers } from './objects.ts'
import { at, instantOf, later, objectId, sha256, text } from './values.ts'

export interface LookOptions {
  readonly cluster: Cluster
  readonly plan: Plan
}

/** One look at a cluster, as every system has it: where what is seen is written down. */
export interface Looking<Options extends LookOptions = LookOptions> {
  readonly options: Options
  readonly book: CertificateBook
  readonly objects: ObjectEvidence[]
  readonly exceptions: EvidenceException[]
  /** A consumer, for its group; where it departs from what is expected, by name too. */
  add(seen: SeenConsumer): void
  changedAt(time: Instant | null): void
  /** A list that cannot be had whole: nothing may be concluded from what is absent. */
  incomplete(what: string, cause: unknown): void
}

/** In what a consumer departs from what the step declares. */
export type Departed = Pick<EvidenceException, 'reason' | 'detail' | 'verdict'>

/** Reasons of departures that say: its leaf is not yet of the CA that issues now. */
const oldLeaf: ReadonlySet<string> = new Set(['old-issuer', 'foreign-issuer', 'entries-differ', 'old-leaf'])

/** Up to so many are told with the end of their leaf. */
const toldOneByOne = 50

/**
 * Looks, and gives what was seen. `departures` judges nothing: it names the consumers that differ, as groups hold only digests of names.
 * What was not seen must be an exception by then, so it is for `gather` to say why.
 */
export async function lookAround<Options extends LookOptions>(
  options: Options,
  departures: (seen: SeenConsumer) => readonly Departed[],
  gather: (looking: Looking<Options>) => Promise<void>,
): Promise<Observation> {
  const collector = groupCollector()
  const exceptions: EvidenceException[] = []
  const objects: ObjectEvidence[] = []
  const book = certificateBook(options.plan)
  const behind: { readonly at: number; readonly ends: Date }[] = []
  let lastChange: Instant | null = null
  let complete = true
  await gather({
    options,
    book,
    objects,
    exceptions,
    add(seen) {
      collector.add(seen)
      const { consumer, name, leafExpires } = seen
      for (const { reason, detail, verdict } of departures(seen)) {
        exceptions.push({ consumer, name, reason, detail, verdict })
        if (leafExpires !== null && oldLeaf.has(reason)) behind.push({ at: exceptions.length - 1, ends: leafExpires })
      }
    },
    changedAt(time) {
      lastChange = later(lastChange, time)
    },
    incomplete(what, cause) {
      complete = false
      exceptions.push(unreadable('object', what, cause))
    },
  })
  // Each has an end of its own, which a hundred thousand would each have to be told with.
  if (behind.length <= toldOneByOne)
    for (const { at, ends } of behind)
      exceptions[at] = { ...(exceptions[at] as EvidenceException), ends: instantOf(ends) }
  const certificates = await unplannedFacts(book, exceptions)
  return {
    groups: collector.groups(),
    exceptions: sortedExceptions(exceptions),
    objects: [...objects].sort((one, other) => (one.id < other.id ? -1 : 1)),
    lastChange,
    certificates,
    complete,
  }
}

async function unplannedFacts(
  book: CertificateBook,
  exceptions: EvidenceException[],
): Promise<readonly CertificateFacts[]> {
  const facts: CertificateFacts[] = []
  for (const { sha256: fingerprint, pem } of book.unplanned()) {
    try {
      facts.push(...(await factsOf([pem])))
    } catch (cause) {
      exceptions.push(unreadable('object', `certificate ${fingerprint}`, cause))
    }
  }
  return facts
}

/** Takes a list page by page. False where it could not be had whole. */
export async function readPages(
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

// ----------------------------------------------------------------------------------------------- objects

/** Writes an object down; null where it could not be read, which becomes an exception. */
export async function observed(
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

export function absent(id: string): ObjectEvidence {
  return { id, present: false, keys: null, managers: {}, facts: {}, lastChange: null }
}

/** An object of which facts alone count. Where a rotation is written on it, that is one of them. */
export function present(
  id: string,
  object: KubernetesObject,
  facts: Readonly<Record<string, string>> = {},
): ObjectEvidence {
  const rotation = object.metadata.annotations?.[rotationAnnotation]
  const held = rotation === undefined ? facts : { ...facts, rotation }
  return { id, present: true, keys: null, managers: {}, facts: held, lastChange: lastWritten(object) }
}

/** The one Secret whose value is read: it is random, guards nothing, and shows that custody was unsealed whole. */
export async function observeCanary(looking: Looking, namespace: string): Promise<ObjectEvidence | null> {
  return await observed(looking, objectId('Secret', namespace, canaryName), async id => {
    const secret = await looking.options.cluster.get(resources.secrets, namespace, canaryName)
    if (secret === null) return absent(id)
    const encoded = text(at(secret.data, 'canary'))
    const facts = encoded === null ? {} : { sha256: sha256(Buffer.from(encoded, 'base64')) }
    return { ...present(id, secret, facts), ...dataOwnership(secret) }
  })
}

/**
 * Where the canary came out of a SealedSecret: whether the controller has taken up the newest of each, the canary's own with the `others` of the
 * folder. What applied them need not tell: before 3.4.13 and 3.5.7, Argo CD's health check
 * (resource_customizations/bitnami.com/SealedSecret/health.lua) took the condition of an older generation for that of the newest.
 */
export async function observeSealed(
  looking: Looking,
  canary: ObjectEvidence | null,
  others: readonly { readonly namespace: string; readonly name: string }[],
): Promise<void> {
  const managers = canary?.managers.canary ?? []
  const [, namespace = ''] = (canary?.id ?? '').split('/')
  const all = [{ namespace, name: canaryName }, ...others]
  if (managers.some(isExternalManager)) await observeExternal(looking, all)
  if (!managers.some(manager => sealedManagers.includes(manager))) return
  for (const sealed of all) {
    await observed(looking, objectId('SealedSecret', sealed.namespace, sealed.name), async id => {
      const found = await looking.options.cluster.get(resources.sealedSecrets, sealed.namespace, sealed.name)
      if (found === null) return absent(id)
      const synced = condition(found, 'Synced')
      return present(id, found, {
        observed: String(isObserved(found)),
        ...(synced === null ? {} : { synced: synced.status, message: oneLine(synced.message) }),
      })
    })
  }
}

/**
 * Whether External Secrets has synced the newest of each, and whether what it wrote is what was planned: its template marks the Secret with
 * the digests of the values as they arrived, in the same write. The Secret is read without its data.
 */
async function observeExternal(
  looking: Looking,
  names: readonly { readonly namespace: string; readonly name: string }[],
): Promise<void> {
  const { cluster } = looking.options
  for (const { namespace, name } of names) {
    await observed(looking, objectId('ExternalSecret', namespace, name), async id => {
      const found = await cluster.get(resources.externalSecrets, namespace, name)
      if (found === null) return absent(id)
      const secret = await cluster.metadata(resources.secrets, namespace, name)
      const ready = condition(found, 'Ready')
      const planned = found.metadata.annotations?.[valuesAnnotation]
      const arrived = secret?.metadata.annotations?.[valuesAnnotation]
      return present(id, found, {
        observed: String(isSyncedGeneration(found)),
        ...(ready === null ? {} : { ready: ready.status, reason: ready.reason, message: oneLine(ready.message) }),
        ...(planned === undefined ? {} : { planned }),
        ...(arrived === undefined ? {} : { arrived }),
      })
    })
  }
}

/** It writes no observedGeneration: the version that it synced last begins with one (cc5bfbc, pkg/controllers/util, GetResourceVersion). */
function isSyncedGeneration({ metadata, status }: KubernetesObject): boolean {
  const synced = text(at(status, 'syncedResourceVersion'))
  return synced?.startsWith(`${metadata.generation}-`) === true
}
