import { exitCodes, ReanchorError } from '../../errors.ts'
import { acceptRoot, acceptSuccessor } from '../../pki/accept.ts'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  type KeySource,
  keyIdOf,
  keyUsage,
  readPrivateKey,
  serialFrom,
  subjectKey,
} from '../../pki/authority.ts'
import { readBundle } from '../../pki/bundle.ts'
import type { Certificate } from '../../pki/certificate.ts'
import type { Strategy } from '../../rotation.ts'
import { isSameCa, renewCertificate } from './same-key.ts'

const day = 24 * 60 * 60 * 1000
const hour = 60 * 60 * 1000
/** Certificates are valid from a little before they are made: a gateway whose clock is behind must not refuse them. */
const backdate = hour

/** What an emergency is about: the certificate, which is replaced under its key, or the key. */
export type Compromised = 'certificate' | 'key'

/** The connector's CA: one certificate, and its key as PEM. */
export interface KymaCa {
  readonly certificate: Certificate
  readonly key: string
}

export interface KymaCaMeans {
  readonly now: Date
  readonly random: (size: number) => Buffer
  readonly keys: KeySource
}

/** Whether the new certificate is for the key in use. */
export function keepsKey(strategy: Strategy, compromised: Compromised | null): boolean {
  return strategy === 'renew' || (strategy === 'emergency' && compromised === 'certificate')
}

/** A new CA: RSA 4096 in PKCS#1, as the setup job makes it (application-connectivity-certs-setup-job, certsetup.go) but for its subject and its serial. */
export async function generateKymaCa(
  request: { readonly subject: string; readonly validityDays: number },
  means: KymaCaMeans,
): Promise<KymaCa> {
  const key = await means.keys.generate('rsa-4096')
  const keyId = keyIdOf(key)
  const certificate = await createCertificate({
    subject: request.subject,
    issuer: request.subject,
    publicKey: key,
    signingKey: key,
    ...dates(request.validityDays, means),
    extensions: [
      keyUsage(['digitalSignature', 'keyEncipherment', 'keyCertSign']),
      basicConstraints(null),
      subjectKey(keyId),
      authorityKey(keyId),
    ],
  })
  return { certificate, key: key.export({ type: 'pkcs1', format: 'pem' }).toString() }
}

/** A new certificate for the CA in use; its key's own text is kept byte for byte. */
export async function renewKymaCa(current: KymaCa, validityDays: number, means: KymaCaMeans): Promise<KymaCa> {
  const key = readPrivateKey(current.key, { object: 'the signing key in use' })
  const certificate = await renewCertificate(current.certificate, { key, ...dates(validityDays, means) })
  return { certificate, key: current.key }
}

/** The user's own: one certificate and its key. */
export function kymaCaFromFiles(
  files: { readonly certificate: string; readonly key: string },
  read: (path: string) => string,
): KymaCa {
  const { certificates } = readBundle(read(files.certificate), { file: files.certificate, allowRepeats: false })
  const [certificate, ...others] = certificates
  if (certificate === undefined || others.length > 0)
    throw new ReanchorError({
      what: 'more than one certificate where one is wanted',
      where: { file: files.certificate },
      expected:
        'the certificate of the new CA alone: the connector reads the first PEM block of its Secret and no other',
      found: `${certificates.length}`,
      todo: 'give the CA that signs client certificates, and nothing above it',
    })
  const text = read(files.key)
  const key = readPrivateKey(text, { file: files.key })
  if (key.asymmetricKeyType !== 'rsa' || !certificate.x509.checkPrivateKey(key))
    throw new ReanchorError({
      what:
        key.asymmetricKeyType === 'rsa' ? 'key and certificate do not match' : 'a key that the connector cannot use',
      where: { file: files.key },
      expected: `the RSA key of ${certificate.subject} (${certificate.sha256}), as PKCS#1 or PKCS#8`,
      found: key.asymmetricKeyType === 'rsa' ? 'a key of another certificate' : `${key.asymmetricKeyType ?? 'unknown'}`,
      todo: 'give the two files of one CA; make an RSA key with: openssl genrsa 4096',
    })
  return { certificate, key: text.endsWith('\n') ? text : `${text}\n` }
}

/**
 * Refuses a CA that the connector or the gateway would not take, or that cannot follow the one in use. A leaf's end is not held to its CA's
 * (connector-service signs for 92 days whatever it signs with), so the CA must outlive what it still signs while the next rotation is under way.
 */
export function acceptKymaCa(
  old: Certificate,
  next: Certificate,
  asked: {
    readonly strategy: Strategy
    readonly compromised: Compromised | null
    readonly leafHours: number
    readonly now: Date
  },
): void {
  const object = `certificate ${next.subject} (${next.sha256})`
  const refused = (what: string, expected: string, found: string, todo: string): ReanchorError =>
    new ReanchorError({ what, where: { object }, expected, found, todo, exit: exitCodes.refused })
  if (next.parts.publicKey.kind !== 'RSA')
    throw refused(
      'a CA whose key the connector cannot use',
      'RSA: its key reader gives up on any other',
      next.key,
      'make the CA again with spec.next.generate.algorithm: rsa-4096',
    )
  acceptRoot(next, asked.now, { object })
  if (next.sha256 === old.sha256)
    throw refused('the new CA is the one in use', 'a new certificate', next.sha256, 'make a new one')
  if (keepsKey(asked.strategy, asked.compromised)) {
    if (!isSameCa(old, next))
      throw refused(
        'a renewed certificate that is not of the same CA',
        `key, subject and subject key identifier of ${old.subject}, byte for byte: leaves that are out must verify with it`,
        `${next.subject}, subject key identifier ${next.ski ?? 'none'}`,
        'leave it to spec.next.generate, which copies all three',
      )
    if (next.serial === old.serial)
      throw refused('a renewed certificate with the old serial', 'another serial', next.serial, 'make it again')
  } else {
    if (old.spki === next.spki)
      throw refused(
        'the new CA has the key of the old one',
        'a new key',
        `the key of ${old.subject}`,
        'make a new key, or choose strategy renew, which keeps it',
      )
    acceptSuccessor(old, next, { object })
  }
  // Half a leaf's life and more passes until the next rotation has renewed everyone: 70 % is when a runtime renews by itself.
  const needed = asked.leafHours * hour * 1.7
  const left = next.parts.notAfter.getTime() - asked.now.getTime()
  if (left > needed) return
  throw refused(
    'a CA that ends before the leaves that it signs',
    `more than ${Math.ceil(needed / day)} days: leaves live ${Math.round(asked.leafHours / 24)} days, whatever signs them, and renew after 70 % of that`,
    `${Math.floor(left / day)} days`,
    'give spec.next.generate.validity more days',
  )
}

function dates(validityDays: number, { now, random }: Pick<KymaCaMeans, 'now' | 'random'>) {
  const second = (millis: number) => new Date(Math.floor(millis / 1000) * 1000)
  return {
    notBefore: second(now.getTime() - backdate),
    notAfter: second(now.getTime() + validityDays * day),
    serial: serialFrom(random),
  }
}
