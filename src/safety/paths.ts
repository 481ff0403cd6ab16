import type { KeyObject, X509Certificate } from 'node:crypto'
import { ReanchorError } from '../errors.ts'
import { type Certificate, publicKeyOf, readCertificate } from '../pki/certificate.ts'
import { isSameKey } from '../pki/keys.ts'
import { findPaths, type PathReason } from '../pki/path.ts'
import { accepts, opensslDeadEnd, type Peer } from '../pki/verifiers.ts'
import type { CertificateFacts, Fingerprint } from '../rotation.ts'
import { type Holding, holdingKey, type Trusting, trustingKey } from './model.ts'

export interface PathAnswer {
  /** ms; the last instant at which the handshake still succeeds, counted from the one asked for. Before it: it fails at once. */
  readonly until: number
  /** Why it ends (or fails) then, for people. */
  readonly why: string
}

/** Answers whether a leaf of one issuer is accepted by one set of anchors, and until when. Remembers what it was asked. */
export interface PathJudge {
  knows(sha256: Fingerprint): boolean
  /** `"O=acme, CN=Root" 3f2a9c…`: subject for people, enough of the SHA-256 to tell apart. */
  name(sha256: Fingerprint): string
  until(holding: Holding, trusting: Trusting, from: number): PathAnswer
}

type Found =
  | { readonly ok: true; readonly paths: readonly (readonly Certificate[])[] }
  | { readonly ok: false; readonly why: string }

/**
 * Leaves do not exist when a plan is made, so a stand-in takes their place: what istiod would sign with the issuer. The path
 * search is the one that judges real certificates.
 */
export function pathJudge(certificates: readonly CertificateFacts[]): PathJudge {
  const facts = new Map(certificates.map(certificate => [certificate.sha256, certificate]))
  const parsed = new Map<Fingerprint, Certificate>()
  const answers = new Map<string, PathAnswer>()

  const certificate = (sha256: Fingerprint): Certificate | null => {
    const before = parsed.get(sha256)
    if (before !== undefined) return before
    const known = facts.get(sha256)
    if (known === undefined) return null
    const read = readNamed(known)
    parsed.set(sha256, read)
    return read
  }

  const name = (sha256: Fingerprint): string => {
    const known = facts.get(sha256)
    return known === undefined ? sha256.slice(0, 12) : `${JSON.stringify(known.subject)} ${sha256.slice(0, 12)}`
  }

  const find = (holding: Holding, trusting: Trusting, at: number): Found => {
    const issuer = certificate(holding.issuer)
    if (issuer === null) return { ok: false, why: `the issuer ${holding.issuer.slice(0, 12)} is not known` }
    if (trusting.anchors.length === 0) return { ok: false, why: 'it trusts nothing' }
    const chain = [issuer, ...holding.chain.flatMap(sha256 => certificate(sha256) ?? [])]
    const anchors = trusting.anchors.flatMap(sha256 => certificate(sha256) ?? [])
    const leaf = standIn(issuer)
    const { paths, failure } = findPaths(leaf, chain, anchors, { at: new Date(at), purpose: 'server' })
    if (failure !== null)
      return { ok: false, why: reasonText(failure.reason, failure.detail, failure.certificate, name) }
    const plain = paths.filter(path => confusable(path, [...chain, ...anchors]) === null)
    const twin = plain.length === 0 ? confusable(paths[0] ?? [], [...chain, ...anchors]) : null
    if (twin === null) {
      const refusal = refusedByStack({ leaf, chain, anchors }, at, name)
      return refusal === null ? { ok: true, paths: plain } : { ok: false, why: refusal }
    }
    return {
      ok: false,
      why: `${name(twin[0])} and ${name(twin[1])} share a subject, and no key identifier tells a verifier which of them signed`,
    }
  }

  const until = (holding: Holding, trusting: Trusting, from: number): PathAnswer => {
    const key = `${holdingKey(holding)}|${trustingKey(trusting)}|${from}`
    const before = answers.get(key)
    if (before !== undefined) return before
    let at = from
    let answer: PathAnswer | null = null
    // When the last of these paths ends another may have begun; each round leaves at least one certificate behind.
    for (let round = 0; answer === null; round++) {
      const found = find(holding, trusting, at)
      if (!found.ok) answer = { until: at - 1, why: found.why }
      else if (round > 3 * facts.size) answer = { until: at, why: 'the paths could not be followed to their end' }
      else at = Math.min(Math.max(...found.paths.map(endOf)) + 1, turnAfter(at, holding, trusting))
    }
    answers.set(key, answer)
    return answer
  }

  /** A verifier that does not turn back chooses among namesakes by date: it may choose anew whenever one begins or ends. */
  const turnAfter = (at: number, holding: Holding, trusting: Trusting): number => {
    const all = new Set([holding.issuer, ...holding.chain, ...trusting.anchors])
    const met = [...all].flatMap(sha256 => certificate(sha256) ?? [])
    const namesakes = met.filter(one =>
      met.some(other => other !== one && other.parts.subject.der.equals(one.parts.subject.der)),
    )
    const turns = namesakes.flatMap(({ parts }) => [parts.notBefore.getTime(), parts.notAfter.getTime() + 1000])
    return Math.min(...turns.filter(turn => turn > at))
  }

  return { knows: sha256 => facts.has(sha256), name, until }
}

/** ms; RFC 5280 §4.1.2.5: notAfter is included, and its resolution is a second. The stand-in leaf ends no path. */
function endOf(path: readonly Certificate[]): number {
  return Math.min(...path.slice(1).map(part => part.parts.notAfter.getTime())) + 999
}

/** As istiod signs leaves (istio security/pkg/pki/util/generate_cert.go): no subject, both purposes, the issuer's SKI as AKI. */
function standIn(issuer: Certificate): Certificate {
  const key = publicKeyOf(issuer)
  return {
    ...issuer,
    sha256: `leaf of ${issuer.sha256}`,
    spki: `leaf of ${issuer.spki}`,
    subject: '',
    issuer: issuer.subject,
    ski: null,
    aki: issuer.ski,
    ca: false,
    pathLength: null,
    // Signed by the issuer's key and by no other: all that the path search asks of it.
    x509: { verify: (signer: KeyObject) => key !== null && isSameKey(key, signer) } as unknown as X509Certificate,
    parts: {
      ...issuer.parts,
      subject: { rdns: [], der: Buffer.from([0x30, 0x00]) },
      issuer: issuer.parts.subject,
      notBefore: new Date(0),
      notAfter: new Date(253_402_300_799_000),
      // The leaf's own key and hash are istiod's to choose; here they only must not be what fails.
      publicKey: { kind: 'ECDSA', curve: '1.2.840.10045.3.1.7' },
      // SHA-256 by a key of the issuer's kind: OpenSSL looks at that before it looks at the signature.
      signatureAlgorithm: issuer.parts.publicKey.kind === 'RSA' ? '1.2.840.113549.1.1.11' : '1.2.840.10045.4.3.2',
      pssHash: null,
      problems: [],
      extensions: {
        basicConstraints: { ca: false, pathLength: null },
        keyUsage: new Set(['digitalSignature', 'keyEncipherment']),
        extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
        names: null,
        nameConstraints: null,
        subjectKey: null,
        authorityKey: issuer.ski === null ? null : { keyId: issuer.ski, issuers: null, serial: null },
        present: new Map(),
        problems: [],
      },
    },
  }
}

/** A path is there, but a stack of the mesh does not come to it. Null: Envoy's and Go's do. */
function refusedByStack(peer: Peer, at: number, name: (sha256: Fingerprint) => string): string | null {
  const when = new Date(at)
  const dead = opensslDeadEnd(peer, when)
  if (dead !== null) {
    const [top] = dead.slice(-1)
    return `a verifier of the OpenSSL family takes ${name(top?.sha256 ?? '')} for the issuer, finds no valid path there and does not turn back`
  }
  if (accepts('go', peer, when)) return null
  return 'Go refuses each path: it counts every CA for a path length, and takes no critical constraint on directory names'
}

function readNamed(known: CertificateFacts): Certificate {
  const read = readCertificate(known.pem, { file: 'plan.yaml', object: known.sha256 })
  if (read.sha256 === known.sha256) return read
  throw new ReanchorError({
    what: 'a certificate that is not the one its fingerprint names',
    where: { file: 'plan.yaml', field: 'certificates' },
    expected: known.sha256,
    found: read.sha256,
    todo: 'run `reanchor plan` again; plan.yaml is generated and never edited',
  })
}

function reasonText(
  reason: PathReason,
  detail: string,
  at: Fingerprint | null,
  name: (sha256: Fingerprint) => string,
): string {
  // A leaf that does not exist cannot be at fault: what is missing is the root above its issuer.
  if (reason === 'untrusted' || at === null || at.startsWith('leaf of '))
    return reason === 'untrusted' ? 'no path to a trusted root' : detail
  return `${name(at)} ${reason === 'expired' || reason === 'not-yet-valid' ? detail : `is refused: ${detail}`}`
}

/**
 * Two CAs of one subject and different keys, where a parent of this path must be chosen between them and no key identifier
 * decides. A verifier that takes the first match fails for one of the two orders (jruby-openssl#362, istio#37096).
 */
function confusable(
  path: readonly Certificate[],
  candidates: readonly Certificate[],
): readonly [Fingerprint, Fingerprint] | null {
  for (const [index, parent] of path.entries()) {
    if (index === 0) continue
    const wanted = path[index - 1]?.aki ?? null
    for (const other of candidates) {
      if (other.spki === parent.spki || !other.parts.subject.der.equals(parent.parts.subject.der)) continue
      const told = wanted !== null && parent.ski === wanted && other.ski !== null && other.ski !== wanted
      if (!told) return [parent.sha256, other.sha256]
    }
  }
  return null
}
