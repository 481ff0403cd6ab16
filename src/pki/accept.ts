import type { KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError, type Where } from '../errors.ts'
import { type Certificate, isSelfIssued, isSelfSigned } from './certificate.ts'
import { keyMatches } from './keys.ts'
import { findPaths, type PathReason } from './path.ts'
import { certificateProblem } from './profile.ts'

/** What speaks against trusting a CA certificate anew, or against signing with it from now on. */
export interface Weakness {
  readonly reason: PathReason
  readonly detail: string
  /** False: verifiers in use let it pass, although RFC 5280 does not; worth a remark, not a refusal. */
  readonly refused: boolean
}

/**
 * What is wrong with a CA certificate at an instant, worst first; empty: nothing. A root's own signature is looked at
 * here, unlike in the path search: who signs a new root with SHA-1 should hear of it. Certificates as Istio's
 * tools/certs Makefile makes them have no AKI where openssl is older than 3.2: a remark, no refusal.
 */
export function weaknesses(certificate: Certificate, at: Date): readonly Weakness[] {
  const found: Weakness[] = []
  const roles = isSelfIssued(certificate) ? (['anchor', 'intermediate'] as const) : (['intermediate'] as const)
  for (const profile of ['deployed', 'strict'] as const) {
    for (const role of roles) {
      const problem = certificateProblem(certificate, role, at, profile)
      if (problem === null || found.some(({ detail }) => detail === problem.detail)) continue
      found.push({ ...problem, refused: profile === 'deployed' })
    }
  }
  return found
}

/** Refuses what may not become a new root: weak, expired, no CA, not self-signed. Exit 2, with place and way out. */
export function acceptRoot(root: Certificate, now: Date, where: Where = {}): void {
  const worst = weaknesses(root, now).find(weakness => weakness.refused)
  if (worst !== undefined)
    throw refused('a new root that no verifier should trust', root, worst.detail, where, todoFor(worst.reason))
  if (!isSelfSigned(root)) {
    throw refused(
      'a new root that is not self-signed',
      root,
      `issued by ${root.issuer}`,
      where,
      'give the root at the top of the chain; OpenSSL stops only there',
    )
  }
}

export interface IssuingMaterial {
  readonly root: Certificate
  /** What will be served beside the leaf: the issuing CA, what lies between, and the root if it is there. */
  readonly chain?: readonly Certificate[]
  /** Its private key, where it is at hand. */
  readonly key?: KeyObject
  readonly now: Date
  readonly where?: Where
}

/**
 * Refuses what may not sign leaves from now on: weak or expired, a key that does not match, a chain that does not reach
 * the root for servers and clients alike, an end later than the root's (F28), or no room below it for a leaf's issuer.
 */
export function acceptIssuing(issuing: Certificate, material: IssuingMaterial): void {
  const { root, now, key } = material
  const where = material.where ?? {}
  const worst = weaknesses(issuing, now).find(weakness => weakness.refused)
  if (worst !== undefined)
    throw refused('an issuing CA that verifiers would refuse', issuing, worst.detail, where, todoFor(worst.reason))
  if (key !== undefined && !keyMatches(issuing, key)) {
    throw refused(
      'a private key that does not belong to the issuing CA',
      issuing,
      'the public keys differ',
      where,
      'give the key that was made for this certificate',
    )
  }
  if (issuing.sha256 === root.sha256) return
  if (issuing.parts.notAfter.getTime() > root.parts.notAfter.getTime()) {
    throw refused(
      'an issuing CA that outlives its root',
      issuing,
      `it ends ${issuing.notAfter}, the root ${root.notAfter}`,
      where,
      'have it signed again with an end not later than the root',
    )
  }
  for (const purpose of ['server', 'client'] as const) {
    const { paths, failure } = findPaths(
      issuing,
      (material.chain ?? []).filter(one => one.sha256 !== root.sha256),
      [root],
      {
        at: now,
        purpose,
      },
    )
    const below = paths.some(path =>
      path.every((ca, index) => ca.pathLength === null || ca.pathLength >= countedBelow(path, index)),
    )
    if (below) continue
    const found =
      failure === null ? 'a path length above it leaves no room for leaves' : `${failure.reason}: ${failure.detail}`
    throw refused(
      `an issuing CA that does not chain to the new root (${purpose})`,
      issuing,
      found,
      where,
      'give the chain from the issuing CA up to the root',
    )
  }
}

/**
 * Refuses two roots that a consumer cannot tell apart (F8): one subject with two keys. Verifiers that look an issuer up
 * by name stop at the first match, and which one that is depends on the order of the bundle. Exit 5.
 */
export function acceptSuccessor(old: Certificate, next: Certificate, where: Where = {}): void {
  if (old.sha256 === next.sha256) return
  if (!old.parts.subject.der.equals(next.parts.subject.der) || old.spki === next.spki) return
  throw new ReanchorError({
    what: 'the old and the new root have one subject but different keys',
    where,
    expected: 'a subject of its own for the new root, for example with a year in its CN',
    found: `${next.subject} for both ${old.sha256} and ${next.sha256}`,
    todo: 'make the new root again under another subject',
    example: `CN=Root CA ${next.notBefore.slice(0, 4)},O=Example`,
    exit: exitCodes.refused,
  })
}

/** CAs below `index` when this path signs a leaf: all of them but self-issued ones (RFC 5280 §6.1.4 (l)). */
function countedBelow(path: readonly Certificate[], index: number): number {
  return path.slice(0, index).filter(ca => !isSelfIssued(ca)).length
}

function refused(what: string, certificate: Certificate, found: string, where: Where, todo: string): ReanchorError {
  return new ReanchorError({
    what,
    where: { ...where, object: where.object ?? `certificate ${certificate.subject} (${certificate.sha256})` },
    found,
    todo,
  })
}

function todoFor(reason: PathReason): string {
  switch (reason) {
    case 'expired':
    case 'not-yet-valid':
      return 'make it again with dates that hold during and after the rotation'
    case 'weak-key':
      return 'make it with an ECDSA P-256 or P-384 key, or RSA with 2048 bits or more'
    case 'weak-signature':
      return 'have it signed with SHA-256 or better'
    case 'not-a-ca':
      return 'give a CA certificate: basicConstraints critical with cA true; a leaf is no root'
    default:
      return 'make it again as RFC 5280 asks; `next.generate` does that'
  }
}
