import { exitCodes, ReanchorError } from '../../errors.ts'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  type KeySource,
  keyIdOf,
  keyUsage,
  serialFrom,
  subjectKey,
} from '../../pki/authority.ts'
import { readBundle } from '../../pki/bundle.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { type NewCa, pkcs1Pem, refuseUnreadableKey } from './ca-secret.ts'

const day = 24 * 60 * 60 * 1000
/** Certificates are valid from a little before they are made: a node whose clock is behind must not refuse them. */
const backdate = 60 * 60 * 1000

export interface NewCaRequest {
  /** RFC 4514; it becomes the alias in every truststore. */
  readonly subject: string
  readonly validityDays: number
}

/**
 * One new CA for all regions, self-signed, RSA 4096 as in the runbook's `utils/tls.sh create-ca-keypair`. Its key goes into the Secret,
 * sealed, as the operator signs with it: there is no root above it whose key could stay offline.
 */
export async function generateCassandraCa(
  request: NewCaRequest,
  means: { readonly now: Date; readonly random: (size: number) => Buffer; readonly keys: KeySource },
): Promise<NewCa> {
  const key = await means.keys.generate('rsa-4096')
  const keyId = keyIdOf(key)
  const certificate = await createCertificate({
    subject: request.subject,
    issuer: request.subject,
    publicKey: key,
    signingKey: key,
    serial: serialFrom(means.random),
    notBefore: wholeSecond(means.now.getTime() - backdate),
    notAfter: wholeSecond(means.now.getTime() + request.validityDays * day),
    extensions: [
      basicConstraints(null),
      keyUsage(['digitalSignature', 'keyCertSign', 'cRLSign']),
      subjectKey(keyId),
      authorityKey(keyId),
    ],
  })
  return { certificate, key: pkcs1Pem(key) }
}

/** The user's own CA: one self-signed certificate and its key, for all regions. */
export function cassandraCaFromFiles(
  files: { readonly certificate: string; readonly key: string },
  read: (path: string) => string,
): NewCa {
  const { certificates } = readBundle(read(files.certificate), { file: files.certificate, allowRepeats: false })
  const [certificate, ...others] = certificates
  if (certificate === undefined || others.length > 0)
    throw new ReanchorError({
      what: 'more than one certificate where one is wanted',
      where: { file: files.certificate },
      expected: 'the certificate of the new CA alone: the operator reads one PEM block for each key of the Secret',
      found: `${certificates.length}`,
      todo: 'give the CA that signs nodes, and nothing above it',
    })
  const key = read(files.key)
  refuseUnreadableKey(key, certificate, files.key)
  refuseUnfitCa(certificate, files.certificate)
  return { certificate, key: key.endsWith('\n') ? key : `${key}\n` }
}

/** Refuses a CA that the operator cannot sign with. */
export function refuseUnfitCa(certificate: Certificate, file: string): void {
  if (certificate.parts.publicKey.kind === 'RSA') return
  throw new ReanchorError({
    what: 'a CA whose key the Cassandra operator cannot use',
    where: { file },
    expected: 'RSA, 4096 bits as the operator makes its own',
    found: certificate.key,
    todo: 'make the CA again: openssl genrsa -traditional 4096',
    exit: exitCodes.refused,
  })
}

function wholeSecond(time: number): Date {
  return new Date(Math.floor(time / 1000) * 1000)
}
