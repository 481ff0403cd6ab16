import { generateKeyPair, type KeyObject, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  createLeaf,
  keyIdOf,
  keyUsage,
  subjectKey,
} from '../../pki/authority.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import { readPrivateKey } from '../../pki/keys.ts'
import { aliasOf } from '../../systems/cassandra/alias.ts'
import { isTrustedKey, pkcs1Pem } from '../../systems/cassandra/ca-secret.ts'
import { keysInGoOrder } from '../../systems/cassandra/checksum.ts'
import type { Life } from '../certificates.ts'

export interface CaPair {
  readonly certificate: string
  /** PKCS#1 */
  readonly key: string
}

const rsaKeys = promisify(generateKeyPair)

/** RSA 2048 where the operator and its utils/tls.sh make 4096: the form is the same, and a rehearsal makes many. */
async function rsaKey(): Promise<KeyObject> {
  return (await rsaKeys('rsa', { modulusLength: 2048, publicExponent: 0x10001 })).privateKey
}

/** As utils/tls.sh makes a CA: `openssl req -x509 -sha256 -subj "/O=<alias>"`, with the extensions of OpenSSL's default section. */
export async function scriptCa(alias: string, life: Life): Promise<CaPair> {
  const key = await rsaKey()
  const keyId = keyIdOf(key)
  const certificate = await createCertificate({
    ...parts(`O=${alias}`, key, life),
    extensions: [subjectKey(keyId), authorityKey(keyId), basicConstraints(null)],
  })
  return { certificate: certificate.pem, key: pkcs1Pem(key) }
}

/** The CA that the operator makes up where the Secret that it looks for is not there (controllers/certs/certificates.go). */
export async function operatorCa(life: Life): Promise<CaPair> {
  const key = await rsaKey()
  const certificate = await createCertificate({
    ...parts('O=cassandra_operator', key, life),
    serial: '01',
    extensions: [basicConstraints(null), keyUsage(['digitalSignature', 'keyCertSign']), subjectKey(keyIdOf(key))],
  })
  return { certificate: certificate.pem, key: pkcs1Pem(key) }
}

export interface IdentityByHand {
  readonly certificate: string
  readonly key: string
}

/** What somebody with a CA at hand makes by hand: for a CQL client, or for a node that no operator looks after. */
export async function identityByHand(name: string, ca: CaPair, life: Life): Promise<IdentityByHand> {
  const key = await rsaKey()
  const leaf = await createLeaf({
    subject: `CN=${name}`,
    key,
    issuer: { certificate: readCertificate(ca.certificate), key: readPrivateKey(ca.key) },
    serial: randomBytes(12).toString('hex').replace(/^./, '4'),
    ...life,
    dns: [name],
    purposes: ['client'],
  })
  return { certificate: leaf.pem, key: pkcs1Pem(key) }
}

function parts(subject: string, key: KeyObject, life: Life) {
  const serial = randomBytes(12).toString('hex').replace(/^./, '4')
  return { subject, issuer: subject, publicKey: key, signingKey: key, serial, ...life }
}

/** What stands in the Secret of a region's nodes. PEM is in place of PKCS#12, which no part of this machine would read. */
export interface NodeMaterial {
  readonly 'tls.crt': string
  readonly 'tls.key': string
  /** The CA that signs, alone: not what nodes trust. */
  readonly 'ca.crt': string
  readonly 'keystore.p12': string
  readonly 'truststore.p12': string
}

/**
 * What the operator makes of a CA Secret: a new key and a certificate with serial 1 and the CA's own end, and stores with every CA that it
 * takes from keys that match `^.*.crt` (controllers/cassandra_tls.go, controllers/certs/certificates.go). Throws where it would report an error.
 */
export async function nodeMaterial(
  data: Readonly<Record<string, string>>,
  names: { readonly certificateKey: string; readonly privateKey: string },
  notBefore: Date,
): Promise<NodeMaterial> {
  const main = firstCertificate(data[names.certificateKey] ?? '', names.certificateKey)
  const keyText = data[names.privateKey] ?? ''
  // x509.ParsePKCS1PrivateKey
  if (!keyText.includes('-----BEGIN RSA PRIVATE KEY-----')) throw new Error('failed to parse private key')
  const signer = readPrivateKey(keyText)
  if (!main.x509.checkPrivateKey(signer)) throw new Error("x509: provided PrivateKey doesn't match parent's PublicKey")
  const trusted = keysInGoOrder(data)
    .filter(isTrustedKey)
    .map(key => firstCertificate(data[key] ?? '', key))
  const key = await rsaKey()
  const leaf = await createLeaf({
    subject: `CN=localhost,${main.subject}`,
    key,
    issuer: { certificate: main, key: signer },
    serial: '01',
    notBefore,
    notAfter: main.parts.notAfter,
    dns: ['localhost'],
  })
  const chain = trusted.map(certificate => certificate.pem).join('')
  return {
    'tls.crt': leaf.pem,
    'tls.key': pkcs1Pem(key),
    'ca.crt': main.pem,
    'keystore.p12': leaf.pem + chain,
    'truststore.p12': truststore(trusted),
  }
}

/** One entry for each alias: of two CAs with one Subject the last one written wins, and Go writes them in any order. */
function truststore(trusted: readonly Certificate[]): string {
  const entries = new Map<string, string>()
  for (const certificate of trusted) entries.set(aliasOf(certificate), certificate.pem)
  return [...entries.values()].join('')
}

/** Only the first PEM block of a key is read. */
function firstCertificate(text: string, key: string): Certificate {
  const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(text)?.[0]
  if (block === undefined) throw new Error(`failed to decode PEM of ${key}`)
  return readCertificate(`${block}\n`, { object: key })
}
