import type { KubernetesObject, ListOptions, ResourceType } from '../../cluster/cluster.ts'
import type { CertificateFacts, EvidenceException, Instant, ObjectEvidence } from '../../rotation.ts'
import { type CertificateBook, certificateBook, factsOf } from '../../verify/certificates.ts'
import { sortedExceptions, unreadable } from '../../verify/exceptions.ts'
import { groupCollector, type SeenConsumer } from '../../verify/groups.ts'
import { memoryRelief } from '../../verify/memory.ts'
import { defaultPatience, type Patience, patienceOf } from '../../verify/patience.ts'
import { later } from '../../verify/values.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, type Expected, expectedOf, withStuck } from './expected.ts'
import { observeObjects } from './observe-objects.ts'
import { observeProxies } from './observe-proxies.ts'
import { type LinkerdSettings, linkerdOf } from './settings.ts'

/** What is collected while looking. */
export interface Looking {
  readonly options: ObserveOptions
  readonly linkerd: LinkerdSettings
  readonly expected: Expected
  readonly book: CertificateBook
  readonly objects: ObjectEvidence[]
  readonly exceptions: EvidenceException[]
  readonly patience: Patience
  /** To be called now and then while many consumers are looked at. */
  relieve(): void
  add(seen: SeenConsumer): void
  changedAt(time: Instant | null): void
  /** A list that cannot be had whole: nothing may be concluded from what is absent. */
  incomplete(what: string, cause: unknown): void
}

/**
 * Looks at one cluster: where anchors and issuer stand, the control plane, and every pod with a proxy. Changes nothing and judges nothing, but
 * names every consumer that differs from the state that the step declares.
 *
 * A proxy's anchors are read from its environment, and its leaf from a handshake with its admin port, which serves TLS with the leaf that it has
 * (linkerd2 cli/cmd/identity.go): no annotation, no event and no age stands for either. Anchors that a container of the control plane read from
 * a ConfigMap are told by when it started.
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
    patience: patienceOf(options.patience ?? defaultPatience),
    relieve: memoryRelief(),
    add(seen) {
      collector.add(seen)
      for (const { reason, detail, verdict } of departures(seen, expected)) {
        // What was not seen, or does not run, has an exception already that says why.
        if (reason === 'unreadable' || reason === 'not-ready') continue
        const why = withStuck(detail, seen.facts.stuck)
        exceptions.push({ consumer: seen.consumer, name: seen.name, reason, detail: why, verdict })
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
  const published = await observeObjects(looking)
  await observeProxies(looking, published)
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
