import { randomBytes } from 'node:crypto'
import {
  basicConstraints,
  createCertificate,
  type KeySource,
  keyIdOf,
  subjectKey,
  systemKeys,
} from '../../../src/pki/authority.ts'
import type { CaSecret, NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { pkcs1Pem } from '../../../src/systems/cassandra/ca-secret.ts'

export const now = new Date('2026-11-22T06:00:00Z')

/** RSA 2048 in place of 4096: the same form, and made in a moment. */
export const quickKeys: KeySource = { generate: async () => await systemKeys.generate('rsa-2048') }

/** A CA as `openssl req -x509` makes it in the runbook's utils/tls.sh: a Subject, basicConstraints, SKI, and no key usage. */
export async function cassandraCa(subject: string, ends = '2034-12-30T00:00:00Z'): Promise<NewCa> {
  const key = await systemKeys.generate('rsa-2048')
  const certificate = await createCertificate({
    subject,
    issuer: subject,
    publicKey: key,
    signingKey: key,
    serial: `40${randomBytes(8).toString('hex')}`,
    notBefore: new Date('2025-01-01T00:00:00Z'),
    notAfter: new Date(ends),
    extensions: [basicConstraints(null), subjectKey(keyIdOf(key))],
  })
  return { certificate, key: pkcs1Pem(key) }
}

/** The Secret of the runbook before its first step. */
export function caSecret(ca: NewCa, more: Readonly<Record<string, string>> = {}): CaSecret {
  return {
    namespace: 'anton',
    name: 'example-cluster-manual-tls-ca',
    type: 'Opaque',
    certificateKey: 'ca.crt',
    privateKey: 'ca.key',
    data: { 'ca.crt': ca.certificate.pem, 'ca.key': ca.key, ...more },
  }
}
