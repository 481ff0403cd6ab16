import type { KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { createCertificate, keyMatches, type RawExtension } from '../../pki/authority.ts'
import { type Certificate, isSelfSigned } from '../../pki/certificate.ts'
import { children, contentOf, expectTag, readBoolean, readDer, readOid, tags } from '../../pki/der.ts'

/** RFC 5280 §4.2.1.1: it may name an issuer by serial, which the new certificate does not have. */
const authorityKeyOid = '2.5.29.35'

/**
 * The same CA once more: same key, same Subject and same extensions, the subject key identifier among them, byte for byte; other serial, other dates.
 *
 * A leaf that was issued under the old certificate then verifies with the new one alone. With another Subject none would, and a leaf names its
 * issuer's key identifier, which libraries do not compute alike: so it is copied and never computed (if the old certificate has none, neither has the new).
 */
export async function renewCertificate(
  old: Certificate,
  parts: { readonly key: KeyObject; readonly notBefore: Date; readonly notAfter: Date; readonly serial: string },
): Promise<Certificate> {
  const object = `certificate ${old.subject} (${old.sha256})`
  if (!keyMatches(old, parts.key))
    throw new ReanchorError({
      what: 'the key at hand is not the one of the CA that is renewed',
      where: { object },
      expected: 'the private key that the connector signs with',
      todo: 'take key and certificate from the same Secret',
    })
  if (!isSelfSigned(old))
    throw new ReanchorError({
      what: 'a CA that is not self-signed cannot be renewed here',
      where: { object },
      expected: 'a root, as Kyma makes it',
      found: `issued by ${old.issuer}`,
      todo: 'have its issuer sign it again with the same key and subject, and give that as spec.next.files',
      exit: exitCodes.refused,
    })
  if (parts.serial === old.serial)
    throw new ReanchorError({ what: 'the new certificate would have the serial of the old one', where: { object } })
  const extensions = extensionsOf(old)
  const named = extensions.find(({ oid }) => oid === authorityKeyOid)
  if (named !== undefined && (old.parts.extensions.authorityKey?.serial ?? null) !== null)
    throw new ReanchorError({
      what: 'a CA whose authority key identifier names its own serial cannot be renewed byte for byte',
      where: { object },
      expected: 'a key identifier alone, or no such extension',
      todo: 'choose strategy graceful, which makes a new CA',
      exit: exitCodes.refused,
    })
  return await createCertificate({
    subject: old.parts.subject,
    issuer: old.parts.issuer,
    publicKey: parts.key,
    signingKey: parts.key,
    serial: parts.serial,
    notBefore: parts.notBefore,
    notAfter: parts.notAfter,
    extensions,
  })
}

/** Every extension in its order with its bytes (RFC 5280 §4.1: `[3] EXPLICIT SEQUENCE OF SEQUENCE {extnID, critical, extnValue}`). */
export function extensionsOf(certificate: Pick<Certificate, 'der'>): readonly RawExtension[] {
  const [tbs] = children(readDer(certificate.der, tags.sequence))
  const holder = children(expectTag(tbs, tags.sequence)).find(field => field.tag === 0xa3)
  if (holder === undefined) return []
  const [sequence] = children(holder)
  return children(expectTag(sequence, tags.sequence)).map(extension => {
    const fields = children(extension)
    const value = fields.at(-1)
    return {
      oid: readOid(expectTag(fields[0], tags.oid)),
      critical: fields.length === 3 && readBoolean(expectTag(fields[1], tags.boolean)),
      value: Buffer.from(contentOf(expectTag(value, tags.octetString))),
    }
  })
}

/** Whether `next` is `old` once more, so that leaves of either verify with either. */
export function isSameCa(old: Certificate, next: Certificate): boolean {
  return old.spki === next.spki && old.parts.subject.der.equals(next.parts.subject.der) && old.ski === next.ski
}
