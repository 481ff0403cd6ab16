import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  createLeaf,
  createRoot,
  extendedKeyUsage,
  keyUsage,
  serialFrom,
  subjectKey,
} from '../../pki/authority.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import { readPem } from '../../pki/pem.ts'
import type { Life, Pair } from '../certificates.ts'

/** Subject of every client certificate but for its CN (connector-service, chart values `csr`). */
const csrSubject = 'OU=OrgUnit,O=Organization,L=Waldorf,ST=Waldorf,C=DE'

/**
 * The CA as Kyma's setup job makes it: CN=Kyma, serial 2, RSA, self-signed (application-connectivity-certs-setup-job, certsetup.go). 2048 bits where the job
 * takes 4096: the length changes nothing of a rehearsal but its time. The key identifier is one that SHA-1 over the key would not give, as from Go 1.25 on.
 */
export async function setupJobCa(life: Life): Promise<Pair> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const certificate = await createCertificate({
    subject: 'CN=Kyma',
    issuer: 'CN=Kyma',
    publicKey: privateKey,
    signingKey: privateKey,
    serial: '02',
    ...life,
    extensions: [
      keyUsage(['keyEncipherment', 'keyCertSign', 'digitalSignature']),
      basicConstraints(null),
      subjectKey('8f3b2a19c7d6e5f40312233445566778899aabbc'),
    ],
  })
  return { certificate: certificate.pem, key: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString() }
}

/**
 * The first CERTIFICATE block of a text and no other: what the connector reads of its Secret (connector-service certificates.go, LoadCert). Throws where there is none.
 */
export function firstCertificate(text: string): Certificate {
  const [block] = readPem(text, { strict: false }).blocks
  if (block === undefined) throw new Error('no PEM block')
  return readCertificate(block.der)
}

/**
 * A client certificate as the connector signs it: serial 2 always, digitalSignature, client authentication, the CA's key identifier where it has one, and an
 * end that is not held to the CA's.
 */
export async function connectorLeaf(ca: Pair, commonName: string, life: Life): Promise<Pair> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const issuer = firstCertificate(ca.certificate)
  const certificate = await createCertificate({
    subject: `CN=${commonName},${csrSubject}`,
    issuer: issuer.parts.subject,
    publicKey: privateKey,
    signingKey: createPrivateKey(ca.key),
    serial: '02',
    ...life,
    extensions: [
      keyUsage(['digitalSignature']),
      extendedKeyUsage(['client']),
      ...(issuer.ski === null ? [] : [authorityKey(issuer.ski)]),
    ],
  })
  return { certificate: certificate.pem, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

/** The gateway's own server certificate, and the public root that its clients trust for it: another CA's, and no part of the rotation. */
export async function gatewayServer(
  host: string,
  life: Life,
  random: (size: number) => Buffer,
): Promise<Pair & { readonly root: string }> {
  const root = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const authority = await createRoot({ subject: 'CN=Public Root', key: root, serial: serialFrom(random), ...life })
  const leaf = await createLeaf({
    key: privateKey,
    issuer: { certificate: authority, key: root },
    dns: [host],
    purposes: ['server'],
    serial: serialFrom(random),
    ...life,
  })
  return {
    certificate: leaf.pem,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    root: authority.pem,
  }
}
