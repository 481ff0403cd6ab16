import type { Certificate } from '../../pki/certificate.ts'
import type { VersionRules } from './version.ts'

/** Curve of a named-curve key: its OID and the number that linkerd2's messages have for it. */
const curves: Readonly<Record<string, number>> = {
  '1.2.840.10045.3.1.7': 256,
  '1.3.132.0.33': 224,
  '1.3.132.0.34': 384,
  '1.3.132.0.35': 521,
}

/** As Go's x509.SignatureAlgorithm prints itself. */
const signatures: Readonly<Record<string, string>> = {
  '1.2.840.10045.4.3.2': 'ECDSA-SHA256',
  '1.2.840.10045.4.3.3': 'ECDSA-SHA384',
  '1.2.840.10045.4.3.4': 'ECDSA-SHA512',
  '1.2.840.10045.4.1': 'ECDSA-SHA1',
  '1.2.840.113549.1.1.11': 'SHA256-RSA',
  '1.2.840.113549.1.1.12': 'SHA384-RSA',
  '1.2.840.113549.1.1.13': 'SHA512-RSA',
  '1.2.840.113549.1.1.5': 'SHA1-RSA',
  '1.2.840.113549.1.1.10': 'SHA256-RSAPSS',
  '1.3.101.112': 'Ed25519',
}

const ecdsaSha256 = '1.2.840.10045.4.3.2'
const sha256Rsa = '1.2.840.113549.1.1.11'

/** What `linkerd check` would say of a trust anchor's algorithms (linkerd2 pkg/issuercerts/issuercerts.go); null: nothing. */
export function anchorProblem(anchor: Certificate, rules: VersionRules): string | null {
  const key = anchor.parts.publicKey
  if (key.kind === 'RSA' && rules.rsaRoots) {
    if (key.bits !== 2048 && key.bits !== 4096) return `must use RSA 2048 or 4096 bits, instead ${key.bits} was used`
    return signedBy(anchor, [sha256Rsa], 'must be signed by an ECDSA P-256 key')
  }
  if (key.kind !== 'ECDSA') {
    const expected = rules.rsaRoots ? 'ECDSA or RSA' : 'ECDSA'
    return `trust anchor must use ${expected} for public key algorithm, instead ${key.kind} was used`
  }
  return curveProblem(key.curve) ?? signedBy(anchor, [ecdsaSha256], 'must be signed by an ECDSA P-256 key')
}

/** The same of the issuer: P-256 in every version, signed by a P-256 key or, where RSA roots exist, by an RSA one. */
export function issuerProblem(issuer: Certificate, rules: VersionRules): string | null {
  const key = issuer.parts.publicKey
  if (key.kind !== 'ECDSA')
    return `issuer certificate must use ECDSA for public key algorithm, instead ${key.kind} was used`
  const accepted = rules.rsaRoots ? [ecdsaSha256, sha256Rsa] : [ecdsaSha256]
  return curveProblem(key.curve) ?? signedBy(issuer, accepted, 'must be signed by an ECDSA P-256 key')
}

function curveProblem(curve: string | null): string | null {
  const bits = curves[curve ?? '']
  return bits === 256 ? null : `must use P-256 curve for public key, instead P-${bits ?? '?'} was used`
}

function signedBy(certificate: Certificate, accepted: readonly string[], message: string): string | null {
  const used = certificate.parts.signatureAlgorithm
  return accepted.includes(used) ? null : `${message}, instead ${signatures[used] ?? used} was used`
}
