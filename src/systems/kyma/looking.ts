import type { KubernetesObject } from '../../cluster/cluster.ts'
import type { EvidenceException, Instant, ObjectEvidence } from '../../rotation.ts'
import type { CertificateBook } from '../../verify/certificates.ts'
import { unreadable } from '../../verify/exceptions.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { lastWritten } from '../../verify/objects.ts'
import type { ObserveOptions } from '../system.ts'
import type { Expected } from './expected.ts'

/** One look at a site: what is looked for, and where it is written down. */
export interface Looking {
  readonly options: ObserveOptions
  readonly expected: Expected
  readonly book: CertificateBook
  readonly objects: ObjectEvidence[]
  readonly exceptions: EvidenceException[]
  /** Where a consumer differs from what is expected, it becomes an exception too. */
  add(seen: SeenConsumer): void
  changedAt(time: Instant | null): void
  /** A list that did not come whole: nothing may be concluded from what is not in it. */
  incomplete(what: string, cause: unknown): void
}

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

export function present(id: string, object: KubernetesObject, facts: Readonly<Record<string, string>>): ObjectEvidence {
  return { id, present: true, keys: null, managers: {}, facts, lastChange: lastWritten(object) }
}
