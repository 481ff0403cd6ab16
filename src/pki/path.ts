import type { Fingerprint } from '../rotation.ts'
import { type Certificate, isSelfIssued, isSignedBy } from './certificate.ts'
import { type Counter, withinConstraints } from './constraints.ts'
import { purposeOids } from './extensions.ts'
import { type ExpectedName, nameMatches } from './peer-name.ts'
import { certificateProblem, type PathRole, type Problem, type Profile, weakness } from './profile.ts'
import type { PathReason } from './reasons.ts'

export type { ExpectedName } from './peer-name.ts'
export type { Profile } from './profile.ts'

export type { PathReason } from './reasons.ts'

export type Purpose = 'server' | 'client'

export interface PathOptions {
  readonly at: Date
  readonly purpose: Purpose
  /** What the other end is expected to be called; absent: any name. */
  readonly name?: ExpectedName | undefined
  /** `deployed` unless said otherwise: what verifiers in use accept. */
  readonly profile?: Profile
  /** Signatures that may be verified; 512 unless said otherwise. The other limits follow it. */
  readonly maxWork?: number
}

export interface PathFailure {
  readonly reason: PathReason
  /** The certificate at fault; null where none is. */
  readonly certificate: Fingerprint | null
  /** One phrase for people. */
  readonly detail: string
}

export interface PathResult {
  /** Every valid path, leaf first and anchor last; shortest first. */
  readonly paths: readonly (readonly Certificate[])[]
  /** Why there is none; null where there is one. */
  readonly failure: PathFailure | null
  /** The limit of work was reached: there may be more paths than these. */
  readonly exhausted: boolean
  readonly work: { readonly signatures: number; readonly steps: number }
}

/** Partial path, from its last certificate back to the leaf. */
interface Link {
  readonly certificate: Certificate
  readonly below: Link | null
  /** Intermediates in it that are not self-issued: what path lengths count (RFC 5280 §6.1.4 (l)). */
  readonly counted: number
  readonly depth: number
}

/** Go's crypto/x509 draws the line at the same number (verify.go, MaxConstraintComparisons). */
const maxComparisons = 250_000

/**
 * Finds all valid paths from a leaf to any anchor (RFC 5280 §6.1), breadth first, over all cross-signed and same-named
 * certificates. Nothing depends on the order in which certificates are given.
 *
 * Certificates of one subject and one key stand in for each other, so a path never holds two of them: that rules out
 * cycles, and leaves out only detours. Work on hostile input is bounded: each pair of certificates is verified at most
 * once, and at most `maxWork` in all; when that is used up the result says so, and where no path was found until then
 * the reason is `work-limit`.
 *
 * An authorityKeyIdentifier that contradicts the issuer's subjectKeyIdentifier refuses that issuer, as in OpenSSL and
 * BoringSSL (X509_check_akid); Go treats it as a hint. What one of the two refuses is an outage.
 */
export function findPaths(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  anchors: readonly Certificate[],
  options: PathOptions,
): PathResult {
  return new PathSearch(leaf, intermediates, anchors, options).run()
}

class PathSearch {
  readonly #leaf: Certificate
  readonly #options: PathOptions
  readonly #profile: Profile
  readonly #maxWork: number
  readonly #anchors: ReadonlyMap<Fingerprint, Certificate>
  /** Subject → certificates of that name that may lead to an anchor, anchors first, then by fingerprint. */
  readonly #bySubject: ReadonlyMap<string, readonly Certificate[]>
  readonly #intermediates: readonly Certificate[]
  readonly #signatures = new Map<string, boolean>()
  readonly #constraints = new Map<string, Problem | null>()
  readonly #problems = new Map<Fingerprint, Problem | null>()
  readonly #comparisons: Counter = { left: maxComparisons }
  readonly #paths: Certificate[][] = []
  #steps = 0
  #exhausted = false
  #failure: (PathFailure & { readonly rank: number }) | null = null

  constructor(
    leaf: Certificate,
    intermediates: readonly Certificate[],
    anchors: readonly Certificate[],
    options: PathOptions,
  ) {
    this.#leaf = leaf
    this.#options = options
    this.#profile = options.profile ?? 'deployed'
    this.#maxWork = options.maxWork ?? 512
    this.#anchors = new Map(sorted(anchors).map(anchor => [anchor.sha256, anchor]))
    this.#intermediates = sorted(intermediates).filter(
      ({ sha256 }) => !this.#anchors.has(sha256) && sha256 !== leaf.sha256,
    )
    this.#bySubject = leadingToAnchors([...this.#anchors.values()], this.#intermediates)
  }

  run(): PathResult {
    const own = this.#leafProblem()
    if (own !== null) return this.#result({ ...own, certificate: this.#leaf.sha256 })
    if (this.#anchors.has(this.#leaf.sha256)) this.#paths.push([this.#leaf])

    const queue: Link[] = [{ certificate: this.#leaf, below: null, counted: 0, depth: 0 }]
    for (let next = 0; next < queue.length && !this.#exhausted; next += 1) {
      queue.push(...this.#extend(queue[next]!))
    }
    if (this.#paths.length > 0) return this.#result(null)
    if (this.#exhausted) {
      const detail = `no path within ${this.#maxWork} signatures, ${this.#maxSteps()} steps and ${maxComparisons} name comparisons`
      return this.#result({ reason: 'work-limit', certificate: this.#leaf.sha256, detail })
    }
    return this.#result(this.#failure ?? this.#untrusted())
  }

  #result(failure: PathFailure | null): PathResult {
    const plain =
      failure === null ? null : { reason: failure.reason, certificate: failure.certificate, detail: failure.detail }
    return {
      paths: this.#paths,
      failure: plain,
      exhausted: this.#exhausted,
      work: { signatures: this.#signatures.size, steps: this.#steps },
    }
  }

  #maxSteps(): number {
    return this.#maxWork * 32
  }

  #leafProblem(): Problem | null {
    const leaf = this.#leaf
    const { at, name } = this.#options
    const problem =
      certificateProblem(leaf, 'leaf', at, this.#profile) ?? this.#purposeProblem(leaf) ?? this.#usageProblem()
    if (problem !== null || name === undefined || nameMatches(leaf, name)) return problem
    return { reason: 'wrong-name', detail: `no subjectAltName is ${name.kind} ${JSON.stringify(name.value)}` }
  }

  /** EKU chains in practice, although RFC 5280 does not say so: OpenSSL, BoringSSL and Go hold CAs to it too. */
  #purposeProblem(certificate: Certificate): Problem | null {
    const usages = certificate.parts.extensions.extendedKeyUsage
    if (usages === null || usages.includes(purposeOids[this.#options.purpose])) return null
    return { reason: 'wrong-purpose', detail: `extendedKeyUsage does not list ${this.#options.purpose} authentication` }
  }

  /** OpenSSL's purposes sslserver and sslclient (crypto/x509/v3_purp.c). A CA in the place of the leaf is let pass (RFC 5280 §6.1). */
  #usageProblem(): Problem | null {
    const usage = this.#leaf.parts.extensions.keyUsage
    if (usage === null || this.#leaf.ca) return null
    const fits =
      this.#options.purpose === 'server'
        ? (['digitalSignature', 'keyEncipherment', 'keyAgreement'] as const)
        : (['digitalSignature', 'keyAgreement'] as const)
    if (fits.some(bit => usage.has(bit))) return null
    return { reason: 'key-usage', detail: `keyUsage without ${fits.join(' or ')}` }
  }

  /** The partial paths that reach one certificate further; whole paths go to the result. */
  #extend(link: Link): Link[] {
    const further: Link[] = []
    for (const issuer of this.#bySubject.get(nameKey(link.certificate.parts.issuer.der)) ?? []) {
      if (this.#exhausted) break
      if (isRepeat(link, issuer)) continue
      this.#steps += 1
      if (this.#steps > this.#maxSteps()) {
        this.#exhausted = true
        break
      }
      const role = this.#anchors.has(issuer.sha256) ? 'anchor' : 'intermediate'
      const next = this.#step(link, issuer, role)
      if (next === null) continue
      if (role === 'anchor') this.#paths.push(certificatesOf(next).reverse())
      else further.push(next)
    }
    return further
  }

  #step(link: Link, issuer: Certificate, role: PathRole): Link | null {
    const child = link.certificate
    // Without a key that fits, its signature is not worth verifying; with one, everything else that is wrong is its own fault.
    const weak = weakness(issuer, 'anchor')
    if (weak !== null) return this.#fail(3, weak, issuer)
    const contradiction = authorityKeyProblem(child, issuer)
    if (contradiction !== null) return this.#fail(1, contradiction, child)
    const signed = this.#verify(child, issuer)
    if (signed === null) return null
    if (!signed)
      return this.#fail(
        2,
        { reason: 'bad-signature', detail: `not signed by the key of ${issuer.sha256}, which has the issuer's name` },
        child,
      )

    const rank = role === 'anchor' ? 5 : 4
    const problem = this.#problem(issuer, role) ?? this.#purposeProblem(issuer)
    if (problem !== null) return this.#fail(rank, problem, issuer)
    if (issuer.pathLength !== null && link.counted > issuer.pathLength) {
      const detail = `path length ${issuer.pathLength}, but ${link.counted} intermediates below`
      return this.#fail(rank, { reason: 'path-length', detail }, issuer)
    }
    for (let below: Link | null = link; below !== null; below = below.below) {
      const outside = this.#constraintProblem(issuer, below)
      if (outside !== null) return this.#fail(rank, outside, below.certificate)
    }
    const counted = link.counted + (isSelfIssued(issuer) ? 0 : 1)
    return { certificate: issuer, below: link, counted, depth: link.depth + 1 }
  }

  /** Null: the limit of work is reached. */
  #verify(child: Certificate, issuer: Certificate): boolean | null {
    const pair = `${child.sha256}${issuer.sha256}`
    const known = this.#signatures.get(pair)
    if (known !== undefined) return known
    if (this.#signatures.size >= this.#maxWork) {
      this.#exhausted = true
      return null
    }
    const signed = isSignedBy(child, issuer)
    this.#signatures.set(pair, signed)
    return signed
  }

  #problem(certificate: Certificate, role: PathRole): Problem | null {
    const known = this.#problems.get(certificate.sha256)
    if (known !== undefined) return known
    const problem = certificateProblem(certificate, role, this.#options.at, this.#profile)
    this.#problems.set(certificate.sha256, problem)
    return problem
  }

  #constraintProblem(ca: Certificate, below: Link): Problem | null {
    if (ca.parts.extensions.nameConstraints === null) return null
    const last = below.below === null
    const pair = `${ca.sha256}${below.certificate.sha256}`
    const known = this.#constraints.get(pair)
    if (known !== undefined) return known
    const result = withinConstraints(ca, below.certificate, last, this.#comparisons)
    if (result === 'too-much-work') this.#exhausted = true
    const problem: Problem | null =
      result === 'inside'
        ? null
        : { reason: 'name-constraints', detail: `a name outside of what ${ca.subject} (${ca.sha256}) may certify` }
    this.#constraints.set(pair, problem)
    return problem
  }

  /** Keeps the failure that came nearest to a whole path; the first of equals. */
  #fail(rank: number, problem: Problem, certificate: Certificate): null {
    if (this.#failure === null || rank > this.#failure.rank) {
      this.#failure = { ...problem, certificate: certificate.sha256, rank }
    }
    return null
  }

  /** No name leads to an anchor: follow the names upward to where the chain as given ends. */
  #untrusted(): PathFailure {
    const seen = new Set<Fingerprint>()
    let top = this.#leaf
    for (let next: Certificate | undefined = top; next !== undefined; ) {
      top = next
      seen.add(top.sha256)
      const issuer = top.parts.issuer.der
      next = this.#intermediates.find(
        candidate => !seen.has(candidate.sha256) && candidate.parts.subject.der.equals(issuer),
      )
    }
    return {
      reason: 'untrusted',
      certificate: top.sha256,
      detail: `no anchor is named ${JSON.stringify(top.issuer)}, the issuer of ${JSON.stringify(top.subject)}`,
    }
  }
}

/** By subject: the anchors, and those intermediates whose issuers' names lead to one. What leads nowhere costs nothing. */
function leadingToAnchors(
  anchors: readonly Certificate[],
  intermediates: readonly Certificate[],
): ReadonlyMap<string, readonly Certificate[]> {
  const byIssuer = new Map<string, Certificate[]>()
  for (const certificate of intermediates) {
    const key = nameKey(certificate.parts.issuer.der)
    byIssuer.set(key, [...(byIssuer.get(key) ?? []), certificate])
  }
  const names = [...new Set(anchors.map(anchor => nameKey(anchor.parts.subject.der)))]
  const reached = new Set(names)
  const useful: Certificate[] = []
  for (let at = 0; at < names.length; at += 1) {
    for (const certificate of byIssuer.get(names[at]!) ?? []) {
      useful.push(certificate)
      const subject = nameKey(certificate.parts.subject.der)
      if (reached.has(subject)) continue
      reached.add(subject)
      names.push(subject)
    }
  }
  const bySubject = new Map<string, Certificate[]>()
  for (const certificate of [...anchors, ...sorted(useful)]) {
    const key = nameKey(certificate.parts.subject.der)
    bySubject.set(key, [...(bySubject.get(key) ?? []), certificate])
  }
  return bySubject
}

/** RFC 5280 §4.2.1.1, judged as X509_check_akid does: what the AKI names must be what the issuer says of itself. */
export function authorityKeyProblem(child: Certificate, issuer: Certificate): Problem | null {
  const authority = child.parts.extensions.authorityKey
  if (authority === null) return null
  const wrong = (detail: string): Problem => ({ reason: 'authority-key-mismatch', detail })
  if (authority.keyId !== null && issuer.ski !== null && authority.keyId !== issuer.ski) {
    return wrong(
      `its authorityKeyIdentifier is ${authority.keyId}, the key identifier of ${issuer.sha256} is ${issuer.ski}`,
    )
  }
  if (authority.serial !== null && authority.serial !== issuer.serial) {
    return wrong(`its authorityKeyIdentifier names serial ${authority.serial}, ${issuer.sha256} has ${issuer.serial}`)
  }
  const issuers = authority.issuers
  if (issuers !== null && issuers.length > 0 && !issuers.some(name => name.equals(issuer.parts.issuer.der))) {
    return wrong(`its authorityKeyIdentifier names another issuer than that of ${issuer.sha256}`)
  }
  return null
}

function isRepeat(link: Link, issuer: Certificate): boolean {
  for (let at: Link | null = link; at !== null; at = at.below) {
    const { certificate } = at
    if (certificate.sha256 === issuer.sha256) return true
    // The leaf's own key may sign for it: a renewed self-signed certificate verifies the one before.
    if (
      at.below !== null &&
      certificate.spki === issuer.spki &&
      certificate.parts.subject.der.equals(issuer.parts.subject.der)
    )
      return true
  }
  return false
}

function certificatesOf(link: Link): Certificate[] {
  const found: Certificate[] = []
  for (let at: Link | null = link; at !== null; at = at.below) found.push(at.certificate)
  return found
}

/** Without repeats, in the order of their fingerprints: the result must not depend on the order of the input. */
function sorted(certificates: readonly Certificate[]): Certificate[] {
  const unique = new Map(certificates.map(certificate => [certificate.sha256, certificate]))
  return [...unique.values()].sort((one, other) => (one.sha256 < other.sha256 ? -1 : 1))
}

function nameKey(der: Buffer): string {
  return der.toString('latin1')
}
