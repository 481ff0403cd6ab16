import { type Certificate, isSelfIssued } from './certificate.ts'
import { withinConstraints } from './constraints.ts'
import { extensionOids } from './extensions.ts'
import { isWhole } from './given-path.ts'
import { attributeTexts, commonName } from './names.ts'
import { authorityKeyProblem } from './path.ts'
import { certificateProblem } from './profile.ts'
import type { Peer } from './verifiers.ts'

/**
 * In which order Java's hash sets hand out candidates that nothing else tells apart: it hangs on the certificates' bytes, so it is told only what
 * comes of the luckiest and of the unluckiest.
 */
export type HashOrder = 'luckiest' | 'unluckiest'

const maxComparisons = 10_000

/**
 * Java's `PKIX` (sun.security.validator.PKIXValidator, engineValidate; read in JDK 9 and 25). A chain that is in order by name and comes to the name and key
 * of something trusted, or ends below a trusted *name*, is validated as it was sent, and its anchor is a name and a key: dates, path length and
 * constraints of it do not count. Whether that name's key signed the last one turns up only then, and nothing else is tried. Any other chain is searched.
 */
export function pkixAccepts(peer: Peer, at: Date, order: HashOrder = 'unluckiest'): boolean {
  const { leaf, chain, anchors } = peer
  if (anchors.some(({ sha256 }) => sha256 === leaf.sha256)) return true
  const sent = [leaf, ...chain]
  for (const [index, one] of sent.entries()) {
    if (index === 0) continue
    if (!isNamedIssuer(one, sent[index - 1]!)) return new Search(peer, at, order).finds()
    if (anchors.some(anchor => isSameCa(anchor, one))) return validated(sent.slice(0, index), peer, at, order)
  }
  const last = sent.at(-1)!
  if (anchors.some(anchor => isNamedIssuer(anchor, last))) return validated(sent, peer, at, order)
  return new Search(peer, at, order).finds()
}

/** PKIXCertPathValidator: the first anchor of the issuer's name that the key identifier of the last certificate does not rule out, and that fits. */
function validated(path: readonly Certificate[], { anchors }: Peer, at: Date, order: HashOrder): boolean {
  const top = path.at(-1)!
  const fitting = anchors.filter(anchor => authorityKeyProblem(top, anchor) === null && holds(path, anchor, at))
  return order === 'luckiest' ? fitting.some(maySign) : fitting.length > 0 && fitting.every(maySign)
}

function holds(path: readonly Certificate[], anchor: Certificate, at: Date): boolean {
  return commonNamesFit(path) && isWhole([...path, anchor], at, 'key')
}

/** PKIXValidator.verifyTrustAnchor, asked when a path has been settled on: an anchor that is no CA then refuses it, and no other is tried. */
function maySign({ ca, parts }: Certificate): boolean {
  const usage = parts.extensions.keyUsage
  return parts.version < 3 || (ca && (usage === null || usage.has('keyCertSign')))
}

/**
 * SunCertPathBuilder with ForwardBuilder: depth first from the leaf upwards, by names; signatures, constraints and the rest are looked at when a path
 * has come to an anchor. It turns back, with two exceptions, both as if by oversight: where one self-issued CA follows another, and the second
 * is not trusted, it gives up all other candidates for that place too (depthFirstSearchForward); and the dates of anchors do not count for the first
 * place above the leaf and do for any later one, since the selector that is used again still has the date (getMatchingCACerts).
 */
class Search {
  readonly #peer: Peer
  readonly #at: Date
  readonly #order: HashOrder
  #asked = 0
  #end: Certificate | null = null

  constructor(peer: Peer, at: Date, order: HashOrder) {
    this.#peer = peer
    this.#at = at
    this.#order = order
  }

  finds(): boolean {
    const { leaf } = this.#peer
    if (certificateProblem(leaf, 'leaf', this.#at, 'deployed') !== null) return false
    this.#climb([leaf], 0)
    return this.#end !== null && maySign(this.#end)
  }

  /** `traversed`: CAs in the path that are not self-issued. */
  #climb(path: readonly Certificate[], traversed: number): void {
    const top = path.at(-1)!
    const afterSelfIssued = path.length > 1 && isSelfIssued(top)
    for (const next of this.#candidates(path, traversed)) {
      if (this.#isAnchor(next)) {
        if (holds(path, next, this.#at)) this.#end = next
      } else if (afterSelfIssued && isSelfIssued(next)) return
      else this.#climb([...path, next], traversed + (isSelfIssued(next) ? 0 : 1))
      if (this.#end !== null) return
    }
  }

  #candidates(path: readonly Certificate[], traversed: number): readonly Certificate[] {
    const top = path.at(-1)!
    const { chain, anchors } = this.#peer
    const named = (all: readonly Certificate[]) => all.filter(one => isNamedIssuer(one, top))
    const datesCount = this.#asked++ > 0
    const trusted = named(anchors).filter(anchor => !datesCount || this.#isInDate(anchor))
    const sent = named(chain).filter(
      one =>
        !this.#isAnchor(one) &&
        certificateProblem(one, 'intermediate', this.#at, 'deployed') === null &&
        (one.pathLength === null || one.pathLength >= traversed),
    )
    const unique = new Map([...trusted, ...sent].map(one => [one.sha256, one]))
    return [...unique.values()]
      .filter(one => !path.some(below => isRepeat(below, one)))
      .sort((one, other) => this.#rank(one, top) - this.#rank(other, top) || this.#luck(one) - this.#luck(other))
  }

  /** PKIXCertComparator: the key identifier that the AKI names, then an issuer of a trusted name. */
  #rank(one: Certificate, child: Certificate): number {
    if (child.aki !== null && one.ski === child.aki) return 0
    return this.#peer.anchors.some(anchor => isNamedIssuer(anchor, one)) ? 1 : 2
  }

  /** What may end the search of a place comes last, or first. */
  #luck(one: Certificate): number {
    const ends = isSelfIssued(one) && !this.#isAnchor(one)
    return ends === (this.#order === 'luckiest') ? 1 : 0
  }

  #isAnchor({ sha256 }: Certificate): boolean {
    return this.#peer.anchors.some(anchor => anchor.sha256 === sha256)
  }

  #isInDate({ parts }: Certificate): boolean {
    return parts.notBefore <= this.#at && this.#at <= parts.notAfter
  }
}

function isNamedIssuer(issuer: Certificate, child: Certificate): boolean {
  return issuer.parts.subject.der.equals(child.parts.issuer.der)
}

function isSameCa(one: Certificate, other: Certificate): boolean {
  return one.spki === other.spki && one.parts.subject.der.equals(other.parts.subject.der)
}

/** SunCertPathBuilder.repeated: alternative names count too, so that a CA that carries others than its renewal is another one. */
function isRepeat(one: Certificate, other: Certificate): boolean {
  const names = ({ parts }: Certificate) => JSON.stringify(parts.extensions.names ?? [])
  return one.sha256 === other.sha256 || (isSameCa(one, other) && names(one) === names(other))
}

/**
 * Java's `SunX509` (sun.security.validator.SimpleValidator) walks the chain as it was sent, up to the first certificate that is trusted itself; if there
 * is none, the issuer of the last one must be trusted. It searches nothing.
 */
export function sunX509Accepts({ leaf, chain, anchors }: Peer, at: Date): boolean {
  const sent = [leaf, ...chain]
  const end = sent.findIndex(one => trustedAs(one, anchors) !== null)
  const last = sent.at(-1)!
  const anchor = end >= 0 ? trustedAs(sent[end]!, anchors) : issuerByName(last, anchors)
  if (anchor === null) return false
  if (end === 0) return true
  const path = [...(end >= 0 ? sent.slice(0, end) : sent), anchor]
  // It knows no name constraints, and they are critical.
  const unknown = path.slice(1, -1).some(ca => ca.parts.extensions.present.get(extensionOids.nameConstraints) === true)
  return !unknown && isWhole(path, at, 'key')
}

/** SimpleValidator.getTrustedCertificate: the certificate itself, or another of its subject, issuer and key. */
function trustedAs(one: Certificate, anchors: readonly Certificate[]): Certificate | null {
  const alike = anchors.filter(anchor => isSameCa(anchor, one) && anchor.parts.issuer.der.equals(one.parts.issuer.der))
  return alike.find(({ sha256 }) => sha256 === one.sha256) ?? alike[0] ?? null
}

function issuerByName(one: Certificate, anchors: readonly Certificate[]): Certificate | null {
  const named = anchors.filter(anchor => isNamedIssuer(anchor, one))
  return named.find(({ ski }) => one.aki !== null && ski === one.aki) ?? named[0] ?? null
}

/**
 * Java holds a common name to DNS constraints, whatever it looks like, where no DNS name or address stands beside it (NameConstraintsExtension.verify).
 * `path`: leaf first, without the anchor, whose constraints do not count.
 */
function commonNamesFit(path: readonly Certificate[]): boolean {
  return path.every((ca, index) => {
    if (index === 0 || ca.parts.extensions.nameConstraints === null) return true
    return path.slice(0, index).every(below => {
      const { extensions, subject } = below.parts
      const names = extensions.names ?? []
      const [text] = attributeTexts(subject, commonName)
      if (text === undefined || names.some(({ kind }) => kind === 'DNS' || kind === 'IP')) return true
      const named = { ...extensions, names: [...names, { kind: 'DNS', value: text } as const] }
      const spoken = { ...below, parts: { ...below.parts, extensions: named } }
      return withinConstraints(ca, spoken, below === path[0], { left: maxComparisons }) === 'inside'
    })
  })
}
