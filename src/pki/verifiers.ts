import { type Certificate, isSelfIssued } from './certificate.ts'
import { withinConstraintsOfGo } from './constraints.ts'
import { isWhole } from './given-path.ts'
import { pkixAccepts, sunX509Accepts } from './java.ts'
import { authorityKeyProblem, findPaths } from './path.ts'

/**
 * TLS stacks that verify certificates in the systems that reanchor knows.
 *
 * `openssl`: with X509_V_FLAG_PARTIAL_CHAIN, as Envoy sets it; `openssl-whole-chain`: without, as OpenSSL is by default.
 */
export type Verifier = 'openssl' | 'openssl-whole-chain' | 'go' | 'java-pkix' | 'java-sunx509'

const maxComparisons = 10_000

export interface Peer {
  readonly leaf: Certificate
  /** As sent behind the leaf, in that order. */
  readonly chain: readonly Certificate[]
  /** As loaded, in that order. */
  readonly anchors: readonly Certificate[]
}

/**
 * What one TLS stack makes of a peer, told before any handshake. The path search asks whether there is a path that all verifiers take; a single
 * stack may take less (it does not turn back from a wrong parent, or reads an extension more strictly) or more (it does not look at an anchor's dates).
 */
export function accepts(verifier: Verifier, peer: Peer, at: Date): boolean {
  switch (verifier) {
    case 'openssl':
      return wholeOf(pathOfOpenssl(peer, at, true), at)
    case 'openssl-whole-chain':
      return wholeOf(pathOfOpenssl(peer, at, false), at)
    case 'go':
      return goAccepts(peer, at)
    case 'java-pkix':
      return pkixAccepts(peer, at)
    case 'java-sunx509':
      return sunX509Accepts(peer, at)
  }
}

/**
 * The one path that OpenSSL 3.0 looks at (crypto/x509/x509_vfy.c, build_chain): at each step the first parent by name and key
 * identifier that is in date, from the trusted ones if there is any, else from those sent; once a trusted one is in the path,
 * from trusted ones only. It never turns back. Null: it ends at nothing trusted.
 */
function pathOfOpenssl({ leaf, chain, anchors }: Peer, at: Date, partial: boolean): readonly Certificate[] | null {
  const path: Certificate[] = [leaf]
  let trusted = false
  for (;;) {
    const top = path.at(-1)!
    if (path.length > 1 && isSelfSignedByName(top)) return trusted ? path : null
    const anchor = firstIssuer(top, anchors, at)
    const next = anchor ?? (trusted ? null : firstIssuer(top, chain, at, path))
    if (next === null || path.length > 20) return null
    path.push(next)
    if (anchor === null) continue
    trusted = true
    if (partial) return path
  }
}

/** EXFLAG_SS: self-issued, and neither key identifiers nor the kind of key say otherwise. */
function isSelfSignedByName(certificate: Certificate): boolean {
  return isSelfIssued(certificate) && likelyIssued(certificate, certificate)
}

/** X509_check_issued: names, key identifiers, keyUsage, and a key of the kind that the signature is of; the signature itself is not looked at. */
function likelyIssued(child: Certificate, issuer: Certificate): boolean {
  const usage = issuer.parts.extensions.keyUsage
  return (
    issuer.parts.subject.der.equals(child.parts.issuer.der) &&
    authorityKeyProblem(child, issuer) === null &&
    (usage === null || usage.has('keyCertSign')) &&
    signatureKind(child) === issuer.parts.publicKey.kind
  )
}

function signatureKind({ parts }: Certificate): string {
  if (parts.signatureAlgorithm.startsWith('1.2.840.113549.1.1.')) return 'RSA'
  return parts.signatureAlgorithm === '1.3.101.112' ? 'Ed25519' : 'ECDSA'
}

/**
 * As `accepts` for OpenSSL with partial chains, whatever order the anchors were loaded in: the first path that it may come to look at and that is
 * not valid, leaf first. Null: every one is.
 */
export function opensslDeadEnd({ leaf, chain, anchors }: Peer, at: Date): readonly Certificate[] | null {
  const path: Certificate[] = [leaf]
  while (path.length <= 20) {
    const top = path.at(-1)!
    const likely = anchors.filter(anchor => likelyIssued(top, anchor))
    if (likely.length > 0) {
      const current = likely.filter(anchor => isInDate(anchor, at))
      const ends = (current.length > 0 ? current : likely).map(anchor => [...path, anchor])
      return ends.find(end => !isWhole(end, at, 'certificate')) ?? null
    }
    const next = path.length > 1 && isSelfSignedByName(top) ? null : firstIssuer(top, chain, at, path)
    if (next === null) return path
    path.push(next)
  }
  return path
}

function isInDate({ parts }: Certificate, at: Date): boolean {
  return parts.notBefore <= at && at.getTime() < parts.notAfter.getTime() + 1000
}

function firstIssuer(
  child: Certificate,
  candidates: readonly Certificate[],
  at: Date,
  not: readonly Certificate[] = [],
): Certificate | null {
  let best: Certificate | null = null
  for (const candidate of candidates) {
    if (!likelyIssued(child, candidate)) continue
    if (authorityKeyProblem(child, candidate) !== null || not.some(({ sha256 }) => sha256 === candidate.sha256))
      continue
    if (isInDate(candidate, at)) return candidate
    if (best === null || candidate.parts.notAfter > best.parts.notAfter) best = candidate
  }
  return best
}

/**
 * Go's crypto/x509 (verify.go) tries every parent. It counts all certificates for a path length, holds self-issued ones to name constraints too, and
 * refuses a critical constraint of a kind that it does not know, directory names among them (parser.go, parseNameConstraintsExtension).
 */
function goAccepts({ leaf, chain, anchors }: Peer, at: Date): boolean {
  const { paths } = findPaths(leaf, chain, anchors, { at, purpose: 'server' })
  return paths.some(path =>
    path.every((ca, index) => {
      if (index === 0) return true
      if (ca.pathLength !== null && index - 1 > ca.pathLength) return false
      const limits = ca.parts.extensions.nameConstraints
      if (limits === null) return true
      const unknown = [...limits.permitted, ...limits.excluded].some(
        ({ kind }) => kind === 'directory' || kind === 'other',
      )
      return (
        !unknown &&
        path.slice(0, index).every(below => withinConstraintsOfGo(ca, below, { left: maxComparisons }) === 'inside')
      )
    }),
  )
}

function wholeOf(path: readonly Certificate[] | null, at: Date): boolean {
  return path !== null && isWhole(path, at, 'certificate')
}
