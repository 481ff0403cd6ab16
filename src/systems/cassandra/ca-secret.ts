import { createPrivateKey, type KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import type { Fingerprint } from '../../rotation.ts'
import { keysInGoOrder } from './checksum.ts'

/** The Secret with a CA that the operator signs node certificates with, and where the CassandraCluster says its parts are. */
export interface CaSecret {
  readonly namespace: string
  readonly name: string
  /** Immutable in Kubernetes, so it is taken over. */
  readonly type: string
  /** `caTLSSecret.crtFileKey`, by default `ca.crt`. */
  readonly certificateKey: string
  /** `caTLSSecret.fileKey`, by default `ca.key`. */
  readonly privateKey: string
  /** Every key with its value, byte for byte: the operator's checksum covers them all. */
  readonly data: Readonly<Record<string, string>>
}

/** The CA that is to come: one for all regions, with the same bytes everywhere. */
export interface NewCa {
  readonly certificate: Certificate
  /** PKCS#1 in PEM, or a value that custody sealed before. */
  readonly key: string
}

/**
 * Whether the operator takes a key of the Secret for a trusted CA: it looks for `^.*.crt`, with a dot that stands for anything and no end
 * (mr-cassop controllers/cassandra_tls.go), so `old_crt` and `ca.crt.bak` are trusted too.
 */
export function isTrustedKey(key: string): boolean {
  return /^.*.crt/.test(key)
}

/**
 * Every trusted CA by its key, in the order in which Go sorts keys. Refuses what the operator would not read as a person expects: it
 * takes the first PEM block of a key and drops the rest in silence, and gives up on a key that is no certificate.
 */
export function trustedEntries(secret: CaSecret): ReadonlyMap<string, Certificate> {
  const entries = new Map<string, Certificate>()
  for (const key of keysInGoOrder(secret.data)) {
    if (isTrustedKey(key)) entries.set(key, onlyCertificate(secret, key))
  }
  if (!entries.has(secret.certificateKey)) {
    throw new ReanchorError({
      what: 'the CA Secret holds no CA under the key that the CassandraCluster names',
      where: { object: idOf(secret), field: `data["${secret.certificateKey}"]` },
      expected: 'a certificate',
      found: `the keys ${keysInGoOrder(secret.data).join(', ') || '(none)'}`,
      todo: 'see spec.encryption.*.caTLSSecret of the CassandraCluster, and events TLSSecretInvalid of it',
      exit: exitCodes.refused,
    })
  }
  return entries
}

function onlyCertificate(secret: CaSecret, key: string): Certificate {
  const text = secret.data[key] ?? ''
  const blocks = text.match(/-----BEGIN [A-Z0-9 ]+-----/g) ?? []
  const where = { object: idOf(secret), field: `data["${key}"]` }
  if (blocks.length !== 1 || blocks[0] !== '-----BEGIN CERTIFICATE-----') {
    throw new ReanchorError({
      what:
        blocks.length > 1
          ? 'more than one PEM block under one key: the operator reads the first and trusts none of the others'
          : 'no certificate under a key that the operator takes for one',
      where,
      expected: 'one CERTIFICATE block for each key that holds `crt`',
      found: blocks.length === 0 ? 'no PEM block' : blocks.map(block => block.slice(5, -5)).join(', '),
      todo: 'give each CA a key of its own, such as ca2.crt, and take out what is no CA; all nodes restart once',
      exit: exitCodes.refused,
    })
  }
  const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(text)?.[0] ?? ''
  const certificate = readCertificate(`${block}\n`, where)
  if (certificate.ca) return certificate
  throw new ReanchorError({
    what: 'a certificate that is no CA among those that nodes trust',
    where,
    expected: 'basicConstraints with cA true',
    found: `${certificate.subject} (${certificate.sha256})`,
    todo: 'take it out of the Secret; all nodes restart once',
    exit: exitCodes.refused,
  })
}

/** `ca2.crt` as in the runbook, or the next name that no key has: one that is there is never written over. */
export function entryName(secret: CaSecret): string {
  for (let number = 2; ; number++) {
    const name = `ca${number}.crt`
    if (secret.data[name] === undefined) return name
  }
}

/** What a step's Secret trusts and signs with. */
export interface CaSecretState {
  /** Fingerprint of the certificate by the key that holds it. */
  readonly entries: Readonly<Record<string, Fingerprint>>
  readonly issuer: Fingerprint
}

/**
 * The whole data of the Secret in a state: certificates that were there keep their bytes, also where they move to another key; keys that
 * are neither a trusted CA nor the private key stay as they are.
 */
export function dataOf(state: CaSecretState, secret: CaSecret, next: NewCa): Readonly<Record<string, string>> {
  const present = trustedEntries(secret)
  const text = (sha256: Fingerprint): string => {
    for (const [key, certificate] of present) if (certificate.sha256 === sha256) return secret.data[key] ?? ''
    if (next.certificate.sha256 === sha256) return next.certificate.pem
    throw new Error(`certificate ${sha256} is not part of the material`)
  }
  const data: Record<string, string> = {}
  for (const [key, value] of Object.entries(secret.data))
    if (!isTrustedKey(key) && key !== secret.privateKey) data[key] = value
  for (const [key, sha256] of Object.entries(state.entries)) data[key] = text(sha256)
  data[secret.privateKey] = state.issuer === next.certificate.sha256 ? next.key : (secret.data[secret.privateKey] ?? '')
  return Object.fromEntries(keysInGoOrder(data).map(key => [key, data[key] ?? '']))
}

/** Keys that only custody may write: whatever is no public certificate. */
export function privateKeysOf(data: Readonly<Record<string, string>>): readonly string[] {
  return Object.keys(data).filter(key => !isTrustedKey(key))
}

/**
 * Refuses a signing key that the operator cannot read: it knows PKCS#1 only (`x509.ParsePKCS1PrivateKey`), hence RSA, without a passphrase.
 * OpenSSL 3 writes PKCS#8 unless it is told `-traditional`.
 */
export function refuseUnreadableKey(pem: string, certificate: Certificate, object: string): void {
  const label = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(pem)?.[1] ?? 'no PEM block'
  const refused = (what: string, found: string, todo: string): ReanchorError =>
    new ReanchorError({
      what,
      where: { object },
      expected: 'an RSA key in PKCS#1, without a passphrase: BEGIN RSA PRIVATE KEY',
      found,
      todo,
      exit: exitCodes.refused,
    })
  if (label !== 'RSA PRIVATE KEY' || /^Proc-Type:/m.test(pem))
    throw refused(
      'a private key in a form that the Cassandra operator cannot read',
      label === 'RSA PRIVATE KEY' ? 'an encrypted key' : label,
      'convert it: openssl rsa -in KEY -traditional -out PKCS1',
    )
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    // The cause may hold key material, so it is not kept.
    throw refused('a private key that cannot be read', 'a broken key', 'take it from its backup')
  }
  if (certificate.x509.checkPrivateKey(key)) return
  throw refused(
    'key and certificate do not match: the operator reports an error in every loop and signs nothing',
    `a key that is not the one of ${certificate.subject} (SHA-256 ${certificate.sha256})`,
    'give the two files of one CA',
  )
}

/** PKCS#1 in PEM. What it returns is secret: it goes to a custody or to the rehearsal, never to a log or an error. */
export function pkcs1Pem(key: KeyObject): string {
  return key.export({ type: 'pkcs1', format: 'pem' }).toString()
}

export function idOf(secret: Pick<CaSecret, 'namespace' | 'name'>): string {
  return `Secret ${secret.namespace}/${secret.name}`
}
