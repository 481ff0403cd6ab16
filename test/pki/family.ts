import type { KeyObject } from 'node:crypto'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  createIssuing,
  createLeaf,
  createRoot,
  type IssuingParts,
  keyIdOf,
  keyUsage,
  type LeafParts,
  type RawExtension,
  type RootParts,
  type Signer,
  subjectKey,
  systemKeys,
} from '../../src/pki/authority.ts'
import type { Certificate } from '../../src/pki/certificate.ts'

/** When every certificate made here is valid, unless a test says otherwise. */
export const at = new Date('2026-06-01T00:00:00Z')
export const dates = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2036-01-01T00:00:00Z') }

let serial = 0
function nextSerial(): string {
  serial += 1
  return (0x1000 + serial).toString(16)
}

export function newKey(): Promise<KeyObject> {
  return systemKeys.generate('ecdsa-p256')
}

export async function root(subject: string, parts: Partial<RootParts> = {}): Promise<Signer> {
  const key = parts.key ?? (await newKey())
  return { key, certificate: await createRoot({ ...dates, serial: nextSerial(), subject, ...parts, key }) }
}

/** `issuer` signs for `subject`; with the key of another signer this is a cross-certificate. */
export async function issuing(
  subject: IssuingParts['subject'],
  issuer: Signer,
  parts: Partial<IssuingParts> = {},
): Promise<Signer> {
  const key = parts.key ?? (await newKey())
  return { key, certificate: await createIssuing({ ...dates, serial: nextSerial(), subject, issuer, ...parts, key }) }
}

export function cross(of: Signer, by: Signer, parts: Partial<IssuingParts> = {}): Promise<Signer> {
  return issuing(of.certificate.parts.subject, by, { key: of.key, pathLength: null, ...parts })
}

export async function leaf(issuer: Signer, parts: Partial<LeafParts> = {}): Promise<Certificate> {
  const key = parts.key ?? (await newKey())
  const names =
    parts.dns === undefined && parts.uris === undefined && parts.ips === undefined ? { dns: ['cart.shop.svc'] } : {}
  return createLeaf({ ...dates, serial: nextSerial(), issuer, ...names, ...parts, key })
}

/** A CA certificate of which one thing is odd: `change` gets the extensions as they should be. */
export async function oddCa(
  subject: string,
  by: Signer | null,
  change: (extensions: RawExtension[]) => RawExtension[],
  parts: { readonly notAfter?: Date } = {},
): Promise<Signer> {
  const key = await newKey()
  const keyId = keyIdOf(key)
  const extensions = [
    basicConstraints(null),
    keyUsage(['keyCertSign', 'cRLSign']),
    subjectKey(keyId),
    authorityKey(by?.certificate.ski ?? keyId),
  ]
  const certificate = await createCertificate({
    ...dates,
    ...parts,
    serial: nextSerial(),
    subject,
    issuer: by?.certificate.parts.subject ?? subject,
    publicKey: key,
    signingKey: by?.key ?? key,
    extensions: change(extensions),
  })
  return { certificate, key }
}
