/** Own CAs as PEM files in a folder, the good ones; tests spoil them. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Signer } from '../../src/pki/authority.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import { pemOf } from '../../src/pki/pem.ts'
import { issuing, leaf, root } from '../pki/family.ts'

const day = 24 * 3_600_000
/** The program reads the machine's clock, so these dates go by it. */
export const life = { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + 3650 * day) }
const shorter = { notBefore: life.notBefore, notAfter: new Date(Date.now() + 700 * day) }

export interface Material {
  readonly folder: string
  readonly old: Signer
  readonly root: Signer
  readonly issuing: Signer
  readonly leaf: Certificate
  /** Writes a file and returns its path. */
  put(name: string, text: string): string
}

/** `old.pem`, `old.key`, `root.pem`, `issuing.pem` and `issuing.key`, all of them as they should be. */
export async function goodMaterial(folder: string): Promise<Material> {
  mkdirSync(folder, { recursive: true })
  const old = await root('O=cluster.local', life)
  const top = await root('CN=mesh root,O=Example', life)
  const ca = await issuing('CN=mesh issuing,O=Example', top, shorter)
  const put = (name: string, text: string): string => {
    const file = join(folder, name)
    writeFileSync(file, text, { mode: 0o600 })
    return file
  }
  const material = { folder, old, root: top, issuing: ca, leaf: await leaf(ca, shorter), put }
  writeGood(material)
  return material
}

export function writeGood({ old, root: top, issuing: ca, put }: Material): void {
  put('old.pem', old.certificate.pem)
  put('old.key', privateKeyPem(old.key))
  put('root.pem', top.certificate.pem)
  put('issuing.pem', ca.certificate.pem)
  put('issuing.key', privateKeyPem(ca.key))
}

/** rotation.yaml as init wrote it, with own files in place of the cluster and of a generated CA. */
export function fromFiles(text: string, folder: string): string {
  const file = (name: string) => JSON.stringify(join(folder, name))
  const current = `  current:\n    files:\n      certificate: ${file('old.pem')}\n      key: ${file('old.key')}\n`
  const next = `  next:\n    files:\n      root: ${file('root.pem')}\n      issuing:\n        "*": {certificate: ${file('issuing.pem')}, key: ${file('issuing.key')}}\n`
  return text.replace(/ {2}current:\n {4}from: cluster\n/, current).replace(/ {2}next:\n(?: {4}.*\n)+/, next)
}

export function rsaKey(bits: number): KeyObject {
  return generateKeyPairSync('rsa', { modulusLength: bits }).privateKey
}

/** The same certificate, signed with SHA-1 by the same RSA key (RFC 8017 A.2.4: the two OIDs differ in their last byte). */
export function signedWithSha1(certificate: Certificate, key: KeyObject): string {
  const sha256 = Buffer.from('2a864886f70d01010b', 'hex')
  const sha1 = Buffer.from('2a864886f70d010105', 'hex')
  const der = Buffer.from(certificate.der)
  for (let at = der.indexOf(sha256); at >= 0; at = der.indexOf(sha256, at + 1)) sha1.copy(der, at)
  // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }, all lengths in two bytes at this size.
  const body = der.subarray(4, 4 + 4 + der.readUInt16BE(6))
  const signature = sign('sha1', body, key)
  signature.copy(der, der.length - signature.length)
  return pemOf('CERTIFICATE', der)
}
