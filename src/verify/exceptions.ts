import { ClusterError } from '../cluster/cluster.ts'
import type { EvidenceException } from '../rotation.ts'
import { UnreadableCertificate } from './certificates.ts'

/** What kept a thing from being seen, as an exception: never dropped, never counted as conforming. */
export function unreadable(consumer: EvidenceException['consumer'], name: string, cause: unknown): EvidenceException {
  return { consumer, name, reason: 'unreadable', detail: causeText(cause), verdict: 'unknown' }
}

/** One line for people. Answers of a cluster are hostile input: control characters go, and length is bounded. */
export function causeText(cause: unknown): string {
  if (cause instanceof ClusterError) return oneLine(`${cause.failure}: ${cause.message}`)
  if (cause instanceof UnreadableCertificate) return oneLine(cause.message)
  if (cause instanceof SyntaxError) return 'the answer is not JSON'
  return oneLine(cause instanceof Error ? cause.message : String(cause))
}

export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: taking control characters out is the purpose
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim()
  return clean.length > 300 ? `${clean.slice(0, 299)}…` : clean
}

/** In a fixed order, whatever the order in which they were found. */
export function sortedExceptions(exceptions: readonly EvidenceException[]): readonly EvidenceException[] {
  const keyed = exceptions.map(exception => ({
    exception,
    key: [exception.consumer, exception.name, exception.reason, exception.detail].join('\n'),
  }))
  keyed.sort((one, other) => (one.key < other.key ? -1 : one.key > other.key ? 1 : 0))
  return keyed.map(({ exception }) => exception)
}
