import { domainToASCII } from 'node:url'
import { addressText, ipBytes } from './addresses.ts'
import { type Certificate, isSelfIssued } from './certificate.ts'
import { extensionOids, type KeyUsage } from './extensions.ts'
import { attributeTexts, commonName } from './names.ts'
import type { PathReason } from './reasons.ts'

/**
 * `strict`: what RFC 5280 demands of certificates, and what its users agreed on since; for material that someone is about
 * to trust. `deployed`: only what makes Envoy (BoringSSL), OpenSSL or Go refuse a handshake, for certificates that are in
 * use already: an intermediate made by an old openssl without AKI works, and a rotation must be able to start from it.
 */
export type Profile = 'strict' | 'deployed'

/** The place that a certificate takes in a path. */
export type PathRole = 'leaf' | 'intermediate' | 'anchor'

export interface Problem {
  readonly reason: PathReason
  readonly detail: string
}

/** Extensions whose meaning is carried out here; any other that is critical must refuse the path (RFC 5280 §4.2). */
const understood: ReadonlySet<string> = new Set([
  extensionOids.subjectKey,
  extensionOids.keyUsage,
  extensionOids.names,
  extensionOids.basicConstraints,
  extensionOids.nameConstraints,
  extensionOids.authorityKey,
  extensionOids.extendedKeyUsage,
  extensionOids.authorityInformation,
  // Any policy is acceptable to reanchor (user-initial-policy-set is any-policy, RFC 5280 §6.1.1 (c)), and none is required.
  extensionOids.certificatePolicies,
])

/** P-256, P-384, P-521: the curves that Go, OpenSSL and BoringSSL take in TLS. */
const strongCurves: ReadonlySet<string> = new Set(['1.2.840.10045.3.1.7', '1.3.132.0.34', '1.3.132.0.35'])

/** SHA-2 with RSA, ECDSA and Ed25519. SHA-1 and older: Go refuses since 1.18. */
const strongSignatures: ReadonlySet<string> = new Set([
  '1.2.840.113549.1.1.11',
  '1.2.840.113549.1.1.12',
  '1.2.840.113549.1.1.13',
  '1.2.840.10045.4.3.2',
  '1.2.840.10045.4.3.3',
  '1.2.840.10045.4.3.4',
  '1.3.101.112',
])
const pss = '1.2.840.113549.1.1.10'
const strongHashes: ReadonlySet<string> = new Set([
  '2.16.840.1.101.3.4.2.1',
  '2.16.840.1.101.3.4.2.2',
  '2.16.840.1.101.3.4.2.3',
])

/**
 * What is wrong with one certificate in its place, whatever path it is in; null: nothing. An anchor is held to the same
 * rules as an intermediate, dates included: RFC 5280 §6.1.1 (d) leaves that open, but OpenSSL, BoringSSL and Go all
 * refuse an expired root and honour a root's path length, key usage and name constraints. Only the anchor's own
 * signature is not looked at: it proves nothing that trusting it does not say already.
 */
export function certificateProblem(
  certificate: Certificate,
  role: PathRole,
  at: Date,
  profile: Profile,
): Problem | null {
  const { parts } = certificate
  const { extensions } = parts
  const [malformed] = parts.problems
  if (malformed !== undefined) return { reason: 'malformed', detail: malformed }
  if (parts.version !== 3 && (role !== 'leaf' || profile === 'strict')) {
    return {
      reason: 'version',
      detail: `an X.509 certificate of version ${parts.version}; only version 3 has extensions`,
    }
  }

  // RFC 5280 §4.1.2.5: both ends are inclusive, in whole seconds.
  const second = Math.floor(at.getTime() / 1000)
  if (second < parts.notBefore.getTime() / 1000)
    return { reason: 'not-yet-valid', detail: `begins ${certificate.notBefore}` }
  if (second > parts.notAfter.getTime() / 1000) return { reason: 'expired', detail: `ended ${certificate.notAfter}` }

  for (const [oid, critical] of extensions.present) {
    if (critical && !understood.has(oid))
      return { reason: 'unknown-critical-extension', detail: `extension ${oid} is critical` }
  }
  const weak = weakness(certificate, role)
  if (weak !== null) return weak
  if (role !== 'leaf') {
    if (!certificate.ca)
      return { reason: 'not-a-ca', detail: 'basicConstraints with cA true is missing (RFC 5280 §4.2.1.9)' }
    if (extensions.keyUsage !== null && !extensions.keyUsage.has('keyCertSign')) {
      return { reason: 'key-usage', detail: 'keyUsage without keyCertSign (RFC 5280 §4.2.1.3)' }
    }
  }
  return profile === 'strict' ? profileProblem(certificate, role) : null
}

/** A key or signature that verifiers no longer take. */
export function weakness(certificate: Certificate, role: PathRole): Problem | null {
  const { publicKey, signatureAlgorithm, pssHash } = certificate.parts
  if (publicKey.kind === 'RSA' && publicKey.bits < 2048)
    return { reason: 'weak-key', detail: `${certificate.key}: fewer than 2048 bits` }
  if (publicKey.kind === 'RSA' && publicKey.bits % 8 !== 0)
    return { reason: 'weak-key', detail: `${certificate.key}: not whole bytes` }
  if (publicKey.kind === 'ECDSA' && (publicKey.curve === null || !strongCurves.has(publicKey.curve))) {
    return { reason: 'weak-key', detail: `${certificate.key}: not one of P-256, P-384, P-521` }
  }
  if (publicKey.kind === 'other')
    return { reason: 'weak-key', detail: `${certificate.key}: neither RSA, ECDSA nor Ed25519` }
  const strong =
    signatureAlgorithm === pss
      ? pssHash !== null && strongHashes.has(pssHash)
      : strongSignatures.has(signatureAlgorithm)
  if (role !== 'anchor' && !strong)
    return { reason: 'weak-signature', detail: `signature algorithm ${signatureAlgorithm}` }
  return null
}

/** RFC 5280 demands of conforming CAs (§4), which deployed verifiers mostly let pass. */
function profileProblem(certificate: Certificate, role: PathRole): Problem | null {
  const { parts, serial } = certificate
  const { extensions } = parts
  const bad = (detail: string): Problem => ({ reason: 'profile', detail })
  const critical = (oid: string) => extensions.present.get(oid) === true
  const selfIssued = isSelfIssued(certificate)
  const usage = (bit: KeyUsage) => extensions.keyUsage?.has(bit) ?? false

  if (parts.issuer.rdns.length === 0) return bad('an empty issuer (§4.1.2.4)')
  // Old public roots have serial 0, and nobody names a root by its serial.
  if (role !== 'anchor' && (/^(00)+$/.test(serial) || /^[89a-f]/.test(serial)))
    return bad('a serial number that is not positive (§4.1.2.2)')
  if (serial.replace(/^00/, '').length > 40) return bad('a serial number longer than 20 octets (§4.1.2.2)')
  if (critical(extensionOids.authorityKey)) return bad('a critical authorityKeyIdentifier (§4.2.1.1)')
  if (critical(extensionOids.subjectKey)) return bad('a critical subjectKeyIdentifier (§4.2.1.2)')
  if (critical(extensionOids.authorityInformation)) return bad('a critical authorityInfoAccess (§4.2.2.1)')
  for (const oid of [extensionOids.policyConstraints, extensionOids.policyMappings, extensionOids.inhibitAnyPolicy]) {
    if (extensions.present.has(oid)) return bad(`extension ${oid} stands there, but policies are not judged (§6.1.2)`)
  }

  const authority = extensions.authorityKey
  if (selfIssued && authority !== null && role === 'anchor') {
    if (authority.issuers !== null || authority.serial !== null)
      return bad("a root's authorityKeyIdentifier with more than the keyIdentifier")
    if (authority.keyId === null) return bad('an authorityKeyIdentifier without keyIdentifier (§4.2.1.1)')
    if (certificate.ski !== null && authority.keyId !== certificate.ski) {
      return bad("a root's authorityKeyIdentifier that is not its own key (§4.2.1.1)")
    }
  }
  if (role !== 'anchor' && authority?.keyId == null && !selfIssued) return bad('no authorityKeyIdentifier (§4.2.1.1)')

  if (role !== 'leaf') {
    if (parts.subject.rdns.length === 0) return bad('a CA with an empty subject (§4.1.2.6)')
    if (certificate.ski === null) return bad('a CA without subjectKeyIdentifier (§4.2.1.2)')
    if (!critical(extensionOids.basicConstraints)) return bad("a CA's basicConstraints that is not critical (§4.2.1.9)")
    const { permitted, excluded } = extensions.nameConstraints ?? { permitted: [], excluded: [] }
    if ([...permitted, ...excluded].some(name => name.kind === 'DNS' && name.value.startsWith('.'))) {
      return bad('a DNS constraint that begins with a period (§4.2.1.10 has that for URIs and mailboxes only)')
    }
    return null
  }

  if (certificate.ca !== usage('keyCertSign') && extensions.keyUsage !== null) {
    return bad('cA and keyCertSign contradict each other (§4.2.1.3, §4.2.1.9)')
  }
  if (!certificate.ca && extensions.present.has(extensionOids.nameConstraints))
    return bad('nameConstraints in a leaf (§4.2.1.10)')
  const subjectEmpty = parts.subject.rdns.length === 0
  if (extensions.present.has(extensionOids.names) && critical(extensionOids.names) !== subjectEmpty) {
    return bad('subjectAltName must be critical where the subject is empty, and only there (§4.2.1.6)')
  }
  if (subjectEmpty && extensions.names === null) return bad('neither subject nor subjectAltName (§4.1.2.6)')
  for (const name of extensions.names ?? []) {
    if (name.kind === 'DNS' && !isDnsName(name.value))
      return bad(`a DNS name that is none: ${JSON.stringify(name.value)} (§4.2.1.6)`)
    if (name.kind === 'email' && !isMailbox(name.value))
      return bad(`a mailbox that is none: ${JSON.stringify(name.value)} (§4.2.1.6)`)
    if (name.kind === 'URI' && !/^[A-Za-z][A-Za-z0-9+.-]*:./.test(name.value))
      return bad('a URI that is not absolute (§4.2.1.6)')
  }
  return commonNameProblem(certificate)
}

/**
 * A common name that is one of the subjectAltNames in another spelling: what reads the one and what reads the other may
 * come to differ (CA/Browser Forum Baseline Requirements 7.1.4.3 asks for a character-for-character copy). A common name
 * that is no subjectAltName at all is left alone: private CAs put the names of services there, and no verifier reads it.
 */
function commonNameProblem(certificate: Certificate): Problem | null {
  const names = (certificate.parts.extensions.names ?? []).flatMap(name => {
    if (name.kind === 'IP') return [addressText(name.bytes)]
    return name.kind === 'DNS' ? [name.value] : []
  })
  const spelled = attributeTexts(certificate.parts.subject, commonName).find(text => {
    return !names.includes(text) && names.some(name => sameHost(text, name))
  })
  if (spelled === undefined) return null
  return { reason: 'profile', detail: `common name ${JSON.stringify(spelled)} is a subjectAltName in another spelling` }
}

function sameHost(one: string, other: string): boolean {
  const canonical = (text: string) => ipBytes(text)?.toString('hex') ?? domainToASCII(text)
  return canonical(one) !== '' && canonical(one) === canonical(other)
}

/** RFC 1034 §3.5 as modified by RFC 1123 §2.1; one leading `*` label stands for a wildcard (RFC 9525 §6.3). */
export function isDnsName(text: string): boolean {
  const labels = text.replace(/^\*\.(?=.+\.)/, '').split('.')
  if (text.length > 253 || labels.every(label => /^\d+$/.test(label))) return false
  return labels.every(label => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label))
}

function isMailbox(text: string): boolean {
  const [local, host, ...rest] = text.split('@')
  return (
    rest.length === 0 &&
    local !== undefined &&
    local !== '' &&
    host !== undefined &&
    isDnsName(host) &&
    !host.startsWith('*')
  )
}
