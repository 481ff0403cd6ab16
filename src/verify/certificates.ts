import { X509Certificate } from 'node:crypto'
import { Remembered } from '../remember.ts'
import type { CertificateFacts, Fingerprint, Plan } from '../rotation.ts'
import { sha256, sortedSet } from './values.ts'

/** One leaf as a consumer presents it. */
export interface PresentedLeaf {
  /** The CA whose key made the leaf's signature, then that CA's issuer and so on; empty where no certificate at hand verifies it. */
  readonly issuers: readonly Fingerprint[]
  readonly notBefore: Date
  readonly notAfter: Date
}

/**
 * Live certificates by fingerprint, and which of them signed what.
 *
 * A mesh presents few CA certificates many times over, so parsed bundles and chains are kept by their text; leaves are not.
 * Issuers are found by verifying signatures with the plan's certificates and those served: names prove nothing, as every
 * mesh that was made by Istio's Makefile has a root `O=Istio, CN=Root CA`.
 */
export interface CertificateBook {
  /** Sorted set of the fingerprints in PEM text. Throws `UnreadableCertificate` where it holds none, or a broken one. */
  roots(pem: string): readonly Fingerprint[]
  /** A PEM chain, leaf first. Throws `UnreadableCertificate`. */
  leaf(chainPem: string): PresentedLeaf
  /** The same for DER. */
  leafOfDer(chain: readonly Buffer[]): PresentedLeaf
  /** PEM of the CA certificates that were seen and that the plan does not hold, sorted by fingerprint. */
  unplanned(): readonly { readonly sha256: Fingerprint; readonly pem: string }[]
}

export class UnreadableCertificate extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'UnreadableCertificate'
  }
}

interface Known {
  readonly sha256: Fingerprint
  readonly x509: X509Certificate
  readonly ca: boolean
  /** Whose key was tried on its signature, by fingerprint, and whether it made it. */
  readonly signers: Map<Fingerprint, boolean>
}

/**
 * Certificates that were read last, whatever plan they were read for: a runner looks at the same ones again and again, and reading and verifying one
 * takes longer than all else of a look. A mesh with more leaves than that reads each anew.
 */
const lately = new Remembered<Known>(4096)

/** Bundles and chains kept by text. A mesh has a handful; the bound keeps a hostile answer from growing it. */
const keptTexts = 512

export function certificateBook(plan: Pick<Plan, 'certificates'>): CertificateBook {
  const planned = plan.certificates.map(certificate => readX509(certificate.pem))
  const plannedSet = new Set(planned.map(certificate => certificate.sha256))
  const seen = new Map<Fingerprint, Known>()
  const parsed = new Map<string, readonly Known[]>()
  const rootSets = new Map<string, readonly Fingerprint[]>()
  const above = new WeakMap<readonly Known[], Map<Fingerprint, readonly Fingerprint[]>>()

  function parse(pem: string): readonly Known[] {
    const kept = parsed.get(pem)
    if (kept !== undefined) return kept
    const certificates = pemBlocks(pem).map(readX509)
    for (const certificate of certificates) note(certificate)
    if (parsed.size >= keptTexts) parsed.clear()
    parsed.set(pem, certificates)
    return certificates
  }

  function note(certificate: Known): void {
    if (!certificate.ca || plannedSet.has(certificate.sha256) || seen.size >= keptTexts) return
    seen.set(certificate.sha256, certificate)
  }

  function present(leaf: Known, served: readonly Known[]): PresentedLeaf {
    return {
      issuers: issuersOf(leaf, served),
      notBefore: new Date(leaf.x509.validFrom),
      notAfter: new Date(leaf.x509.validTo),
    }
  }

  function issuersOf(leaf: Known, served: readonly Known[]): readonly Fingerprint[] {
    const candidates = [...served, ...planned]
    const issuer = candidates.find(candidate => candidate.ca && signed(candidate, leaf))
    if (issuer === undefined) return []
    // Many leaves come with one chain, and what lies above their issuer is the same for all.
    const known = above.get(served) ?? new Map<Fingerprint, readonly Fingerprint[]>()
    above.set(served, known)
    const path = known.get(issuer.sha256) ?? [issuer.sha256, ...pathAbove(issuer, candidates)]
    known.set(issuer.sha256, path)
    return path
  }

  return {
    roots(pem) {
      const kept = rootSets.get(pem)
      if (kept !== undefined) return kept
      const certificates = parse(pem)
      if (certificates.length === 0) throw new UnreadableCertificate('no certificate in the bundle')
      const set = sortedSet(certificates.map(certificate => certificate.sha256))
      if (rootSets.size >= keptTexts) rootSets.clear()
      rootSets.set(pem, set)
      return set
    },
    leaf(chainPem) {
      const end = chainPem.indexOf(endMark)
      if (end === -1) throw new UnreadableCertificate('no certificate in the chain')
      const first = pemBlocks(chainPem.slice(0, end + endMark.length))[0]
      if (first === undefined) throw new UnreadableCertificate('no certificate in the chain')
      return present(readX509(first), parse(chainPem.slice(end + endMark.length)))
    },
    leafOfDer(chain) {
      const [first, ...rest] = chain
      if (first === undefined) throw new UnreadableCertificate('nothing was presented')
      const served = rest.map(readX509)
      for (const certificate of served) note(certificate)
      return present(readX509(first), served)
    },
    unplanned() {
      const certificates = [...seen.values()].sort((one, other) => (one.sha256 < other.sha256 ? -1 : 1))
      return certificates.map(({ sha256: fingerprint, x509 }) => ({ sha256: fingerprint, pem: x509.toString() }))
    },
  }
}

/** Facts of certificates that the plan does not hold, so that evidence can be read by itself. */
export async function factsOf(pems: readonly string[]): Promise<readonly CertificateFacts[]> {
  if (pems.length === 0) return []
  const { certificateFacts, readCertificate } = await import('../pki/certificate.ts')
  return pems.map(pem => certificateFacts(readCertificate(pem)))
}

const endMark = '-----END CERTIFICATE-----'

function pemBlocks(pem: string): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
}

/** One certificate, of a PEM block or of DER. Throws `UnreadableCertificate`. */
export function x509Of(data: string | Buffer): X509Certificate {
  return readX509(data).x509
}

function readX509(data: string | Buffer): Known {
  return lately.get(typeof data === 'string' ? data : data.toString('latin1'), () => {
    try {
      const x509 = new X509Certificate(data)
      return { sha256: sha256(x509.raw), x509, ca: x509.ca, signers: new Map() }
    } catch (cause) {
      throw new UnreadableCertificate('a certificate cannot be parsed', cause)
    }
  })
}

/** Longest chain that is followed upwards. Istio's own have two or three. */
const longestChain = 8

function pathAbove(issuer: Known, candidates: readonly Known[]): readonly Fingerprint[] {
  const path: Fingerprint[] = []
  let below = issuer
  while (path.length < longestChain && !signed(below, below)) {
    const subject = below
    const next = candidates.find(candidate => candidate.ca && signed(candidate, subject))
    if (next === undefined || next.sha256 === issuer.sha256 || path.includes(next.sha256)) return path
    path.push(next.sha256)
    below = next
  }
  return path
}

function signed(issuer: Known, subject: Known): boolean {
  const tried = subject.signers.get(issuer.sha256)
  if (tried !== undefined) return tried
  // What is served may name ever new CAs beside one leaf.
  if (subject.signers.size >= keptTexts) subject.signers.clear()
  const made = verifies(issuer.x509, subject.x509)
  subject.signers.set(issuer.sha256, made)
  return made
}

function verifies(issuer: X509Certificate, subject: X509Certificate): boolean {
  try {
    return subject.verify(issuer.publicKey)
  } catch {
    // A key of another type, or one that OpenSSL refuses, signed nothing here.
    return false
  }
}
