import { DerError, readDer, tags } from '../../pki/der.ts'
import { nameText, readName } from '../../pki/names.ts'

/**
 * With which roots a replica of istiod started, by their Subjects, as a fact: it takes a client's certificate of the roots of root-cert.pem,
 * and names them to whoever connects to 15012. It makes that list once, at its start, and not again when it reloads its files
 * (istio pilot/pkg/bootstrap/server.go, createPeerCertVerifier). Each root is named once, so several of one Subject are told by their number.
 *
 * Null: it named nobody, or something that is no name.
 */
export function startedWith(authorities: readonly Buffer[] | null): string | null {
  if (authorities === null) return null
  try {
    return subjectList(authorities.map(der => nameText(readName(readDer(der, tags.sequence)))))
  } catch (error) {
    if (error instanceof DerError) return null
    throw error
  }
}

/** The Subjects of such a text. Null: it is none, as in evidence that somebody damaged. */
export function subjectsIn(text: string): readonly string[] | null {
  try {
    const read: unknown = JSON.parse(text)
    return Array.isArray(read) && read.every(each => typeof each === 'string') ? read : null
  } catch {
    return null
  }
}

/** A multiset of Subjects as one text. Names of one text that are encoded in two ways count as one name; their number still tells. */
export function subjectList(subjects: readonly string[]): string {
  return JSON.stringify([...subjects].sort())
}
