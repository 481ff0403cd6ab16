import { createPrivateKey } from 'node:crypto'
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
import type { NewCa } from '../../plan/ca.ts'
import type { Declaration, NextSource } from '../../rotation.ts'
import type { NewCaMeans } from '../system.ts'
import { type NewCa as CassandraNewCa, pkcs1Pem, refuseUnreadableKey } from './ca-secret.ts'

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
async function generateCassandraCa(
  request: NewCaRequest,
  means: { readonly now: Date; readonly random: (size: number) => Buffer; readonly keys: KeySource },
): Promise<CassandraNewCa> {
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

/** The one new CA of a declaration, for every region. Its key is in the Secret, so there is no root key to keep elsewhere. */
export async function newCassandraCa(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'generate' | 'files' }>,
  means: NewCaMeans,
): Promise<NewCa> {
  const made =
    next.from === 'generate' ? await generateCassandraCa(next, means) : cassandraCaFromFiles(next, means.read)
  const { certificate, key } = made
  const ca = { root: certificate, issuer: certificate, chain: [], key }
  return {
    sites: Object.fromEntries(declaration.sites.map(({ name }) => [name, ca])),
    rootKey: null,
    root: certificate,
  }
}

/** The user's own CA: one self-signed certificate and its key, for all regions. */
function cassandraCaFromFiles(
  next: Extract<NextSource, { from: 'files' }>,
  read: (path: string) => string,
): CassandraNewCa {
  const pairs = Object.values(next.issuing)
  const [files] = pairs
  if (files === undefined || pairs.length > 1 || Object.keys(next.issuing)[0] !== '*')
    throw new ReanchorError({
      what: 'every region must get the same CA',
      where: { field: 'spec.next.files.issuing' },
      expected: 'one entry for all sites, under "*"',
      found: Object.keys(next.issuing).join(', ') || 'none',
      todo: 'give the certificate and the key of the new CA there',
    })
  const certificate = oneCertificate(read(files.certificate), files.certificate)
  const root = oneCertificate(read(next.root), next.root)
  if (root.sha256 !== certificate.sha256)
    throw new ReanchorError({
      what: 'the CA that signs nodes must be the one that they trust: the operator knows no chain',
      where: { file: files.certificate },
      expected: `the self-signed CA of ${next.root}: ${root.sha256}`,
      found: certificate.sha256,
      todo: 'give the same file for root and issuing',
      exit: exitCodes.refused,
    })
  refuseUnfitCa(certificate, files.certificate)
  const key = asPkcs1(read(files.key))
  refuseUnreadableKey(key, certificate, files.key)
  return { certificate, key }
}

/**
 * The key as the operator reads it: OpenSSL 3 writes PKCS#8 unless it is told `-traditional`, and the two hold the same key. What is no open RSA key
 * stays as it is, to be refused by its name.
 */
function asPkcs1(text: string): string {
  if (!/^-----BEGIN (RSA )?PRIVATE KEY-----$/m.test(text) || /^Proc-Type:/m.test(text)) return text
  try {
    const key = createPrivateKey(text)
    return key.asymmetricKeyType === 'rsa' ? pkcs1Pem(key) : text
  } catch {
    // A broken key, whose text an error must not hold.
    return text
  }
}

function oneCertificate(text: string, file: string): Certificate {
  const { certificates } = readBundle(text, { file, allowRepeats: false })
  const [certificate, ...others] = certificates
  if (certificate !== undefined && others.length === 0) return certificate
  throw new ReanchorError({
    what: 'more than one certificate where one is wanted',
    where: { file },
    expected: 'the certificate of the new CA alone: the operator reads one PEM block for each key of the Secret',
    found: `${certificates.length}`,
    todo: 'give the CA that signs nodes, and nothing above it',
  })
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
