import { createECDH, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import {
  basicConstraints,
  createCertificate,
  createRoot,
  keyIdOf,
  keyUsage,
  type Subject,
  subjectKey,
} from '../../src/pki/authority.ts'
import { type Certificate, certificateFacts, readCertificate } from '../../src/pki/certificate.ts'
import type { Fingerprint, Plan, PlannedCertificate } from '../../src/rotation.ts'
import type { Random } from '../random.ts'

/** The name that a certificate of the plan has, byte for byte: names are compared as they are encoded. */
export function subjectOf(plan: Plan, sha256: Fingerprint): Subject {
  const found = plan.certificates.find(certificate => certificate.sha256 === sha256)
  if (found === undefined) throw new Error(`the plan does not hold ${sha256}`)
  return readCertificate(found.pem).parts.subject
}

/** A P-256 key that the seed tells. */
function keyFrom(random: Random): KeyObject {
  const secret = random.bytes(32)
  secret[0] = 1
  const curve = createECDH('prime256v1')
  curve.setPrivateKey(secret)
  const point = curve.getPublicKey()
  const text = (bytes: Buffer): string => bytes.toString('base64url')
  const jwk = { kty: 'EC', crv: 'P-256', d: text(secret), x: text(point.subarray(1, 33)), y: text(point.subarray(33)) }
  return createPrivateKey({ key: jwk, format: 'jwk' })
}

const dated = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2046-01-01T00:00:00Z') }

/** A root of this Subject and a key of its own, with key identifiers. */
export async function rootNamed(subject: Subject, random: Random): Promise<PlannedCertificate> {
  return planned(await createRoot({ ...dated, subject, key: keyFrom(random), serial: '0f' }))
}

/** The same without a key identifier: nothing tells it from the other root of its Subject. */
export async function anonymousRoot(subject: Subject, random: Random): Promise<PlannedCertificate> {
  const key = keyFrom(random)
  const certificate = await createCertificate({
    ...dated,
    subject,
    issuer: subject,
    publicKey: createPublicKey(key),
    signingKey: key,
    serial: '0e',
    extensions: [basicConstraints(null), keyUsage(['keyCertSign', 'cRLSign'])],
  })
  return planned(certificate)
}

/** An issuing CA that names `root` as its issuer, and that another key has signed. */
export async function forgedIssuing(subject: Subject, root: Subject, random: Random): Promise<PlannedCertificate> {
  const key = keyFrom(random)
  const certificate = await createCertificate({
    ...dated,
    subject,
    issuer: root,
    publicKey: createPublicKey(key),
    signingKey: keyFrom(random),
    serial: '0d',
    extensions: [basicConstraints(0), keyUsage(['keyCertSign', 'cRLSign']), subjectKey(keyIdOf(createPublicKey(key)))],
  })
  return planned(certificate)
}

function planned(certificate: Certificate): PlannedCertificate {
  return { ...certificateFacts(certificate), role: 'chain', sites: [], file: `certificates/${certificate.sha256}.pem` }
}
