import { createPrivateKey, type KeyObject } from 'node:crypto'
import { ReanchorError } from '../errors.ts'
import { readBundle } from '../pki/bundle.ts'
import { type Certificate, readCertificate, sha256Hex } from '../pki/certificate.ts'
import type { CurrentSource } from '../rotation.ts'
import type { CurrentCa } from './ca.ts'

/** Today's CA from PEM files. `read` throws a located error for a file that cannot be read. */
export function currentFromFiles(
  source: Extract<CurrentSource, { from: 'files' }>,
  read: (path: string) => string,
): CurrentCa {
  const issuer = readCertificate(read(source.certificate), { file: source.certificate })
  const bundle = (path: string) => readBundle(read(path), { file: path, allowRepeats: false }).certificates
  const key = source.key === null ? null : normalKey(read(source.key), source.key)
  if (key !== null) checkKey(issuer, key, source.key ?? '')
  const selfSigned = source.roots === null && source.chain === null
  return {
    issuer,
    chain: source.chain === null ? [issuer] : bundle(source.chain),
    roots: source.roots === null ? [issuer] : bundle(source.roots),
    key,
    source: selfSigned ? 'own' : 'plugged',
    settings: {},
    restarts: {},
  }
}

/** Digest of what a plan is made from, without any private byte: equal material makes an equal plan. */
export function materialDigest(current: Readonly<Record<string, CurrentCa>>): string {
  const lines: string[] = []
  for (const [site, ca] of Object.entries(current).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const settings = Object.entries(ca.settings)
      .sort()
      .map(([name, value]) => `${name}=${value}`)
    const of = (certificates: readonly Certificate[]) => certificates.map(each => each.sha256).join(',')
    lines.push([site, ca.source, ca.issuer.sha256, of(ca.chain), of(ca.roots), ...settings].join(' '))
  }
  return sha256Hex(Buffer.from(lines.join('\n')))
}

/** The key's own text is kept, byte for byte, but for a missing final newline. */
export function normalKey(pem: string, from: string): string {
  try {
    createPrivateKey(pem)
  } catch {
    // The cause may hold key material, so it is not kept.
    throw new ReanchorError({
      what: 'not a private key that can be read',
      where: { object: from },
      expected: 'an unencrypted PEM block: PKCS#8, PKCS#1 or SEC1',
      todo: 'convert it: openssl pkey -in KEY -out PLAIN',
    })
  }
  return pem.endsWith('\n') ? pem : `${pem}\n`
}

/** Refuses a key that is not the certificate's. */
export function checkKey(certificate: Certificate, key: string | KeyObject, where: string): void {
  const privateKey = typeof key === 'string' ? createPrivateKey(key) : key
  if (certificate.x509.checkPrivateKey(privateKey)) return
  throw new ReanchorError({
    what: 'key and certificate do not match',
    where: { object: where },
    expected: `the private key of ${certificate.subject} (SHA-256 ${certificate.sha256})`,
    found: 'a key of another certificate',
    todo: 'give the two files of one CA',
  })
}
