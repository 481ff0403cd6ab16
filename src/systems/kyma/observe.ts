import type { KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { EvidenceException, Instant, ObjectEvidence } from '../../rotation.ts'
import { certificateBook, factsOf } from '../../verify/certificates.ts'
import { oneLine, sortedExceptions, unreadable } from '../../verify/exceptions.ts'
import { groupCollector } from '../../verify/groups.ts'
import { condition, dataOwnership, isObserved } from '../../verify/objects.ts'
import { at, instant, later, objectId, record, sha256, text } from '../../verify/values.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, expectedOf } from './expected.ts'
import { absent, type Looking, observed, present } from './looking.ts'
import { observeGateway } from './observe-gateway.ts'
import { observeRuntimes } from './observe-runtime.ts'
import { observeOverrides } from './overrides.ts'

const canaryName = 'reanchor-canary'
/** Field managers of the Sealed Secrets controller: the name of its binary, or of its image. */
const sealedManagers: readonly string[] = ['controller', 'sealed-secrets-controller']

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
  const signing = await observeSecret(looking, signer.namespace, signer.secret, signer.certificateKey)
  const trusting = await observeSecret(looking, gateway.namespace, gateway.secret, gateway.key)
  await observeCanary(looking)
  await observeOverrides(looking)
  await observeGateway(looking)
  await observeRuntimes(looking, { signer: signing, gateway: trusting })
  return {
    groups: collector.groups(),
    exceptions: sortedExceptions(exceptions),
    objects: [...objects].sort((one, other) => (one.id < other.id ? -1 : 1)),
    lastChange,
    certificates: await factsOf(looking.book.unplanned().map(({ pem }) => pem)),
    complete,
  }
}

/** By its keys and their owners; its values stay where they are. Gives when the key's owner wrote it last; null: not to be told. */
async function observeSecret(looking: Looking, namespace: string, name: string, key: string): Promise<Instant | null> {
  let written: Instant | null = null
  await observed(looking, objectId('Secret', namespace, name), async id => {
    const found = await looking.options.cluster.metadata(resources.secrets, namespace, name)
    if (found === null) return absent(id)
    written = keyWritten(found, key)
    return { ...present(id, found, written === null ? {} : { written }), ...dataOwnership(found) }
  })
  return written
}

/** Of the managers that own a key of `data`: a label that someone else adds later is no new CA, and must not ask everybody to renew once more. */
function keyWritten(secret: KubernetesObject, key: string): Instant | null {
  let newest: Instant | null = null
  for (const entry of secret.metadata.managedFields ?? [])
    if (Object.hasOwn(record(at(entry.fieldsV1, 'f:data')), `f:${key}`)) newest = later(newest, instant(entry.time))
  return newest
}

/**
 * The one Secret whose value is read: it is random, guards nothing, and shows that custody was unsealed whole. Where it came out of a SealedSecret: whether the
 * controller has taken up the newest of each too, or the connector would still sign with what an older one holds.
 */
async function observeCanary(looking: Looking): Promise<void> {
  const { cluster } = looking.options
  const { namespace, secret: signer } = looking.expected.places.signer
  const seen = await observed(looking, objectId('Secret', namespace, canaryName), async id => {
    const secret = await cluster.get(resources.secrets, namespace, canaryName)
    if (secret === null) return absent(id)
    const encoded = text(at(secret.data, 'canary'))
    const facts = encoded === null ? {} : { sha256: sha256(Buffer.from(encoded, 'base64')) }
    return { ...present(id, secret, facts), ...dataOwnership(secret) }
  })
  if (!(seen?.managers.canary ?? []).some(manager => sealedManagers.includes(manager))) return
  for (const name of [canaryName, signer])
    await observed(looking, objectId('SealedSecret', namespace, name), async id => {
      const found = await cluster.get(resources.sealedSecrets, namespace, name)
      if (found === null) return absent(id)
      const synced = condition(found, 'Synced')
      return present(id, found, {
        observed: String(isObserved(found)),
        ...(synced === null ? {} : { synced: synced.status, message: oneLine(synced.message) }),
      })
    })
}
