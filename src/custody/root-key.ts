import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { exitCodes, ReanchorError } from '../errors.ts'
import { writeOnce } from '../files/write-once.ts'
import type { WriteHook } from '../repository/write-hook.ts'
import type { CertificateFacts, Fingerprint } from '../rotation.ts'
import { checkRecipients } from './age.ts'

export interface RootKeyFile {
  readonly path: string
  /** The root's private key, PEM. */
  readonly keyPem: string
  readonly certificate: Pick<CertificateFacts, 'pem' | 'sha256' | 'subject'>
  readonly rotation: string
  /** Age recipients; any one of them opens the file. */
  readonly recipients: readonly string[]
  readonly onWrite?: WriteHook
}

export interface RootKeyHeader {
  readonly rotation: string
  readonly sha256: Fingerprint
  /** RFC 4514-like text, for people. */
  readonly subject: string
  readonly certificatePem: string
}

/**
 * Stanza of the age header that says for which root a file is. age passes over stanzas that it does not know
 * (https://age-encryption.org/v1, "Recipient stanza"), while it refuses text in front of or behind an armored file.
 */
const stanzaType = 'reanchor.dev/root-key'

/**
 * Writes the private key of a new root, encrypted by age, to a file that must not exist yet: whole or not at all, for its
 * owner only. `age --decrypt` gives the certificate and the key as PEM. Throws where the file exists.
 */
export async function writeRootKeyFile(file: RootKeyFile): Promise<void> {
  const recipients = checkRecipients(file.recipients)
  const certificate = new X509Certificate(file.certificate.pem)
  if (!certificate.checkPrivateKey(createPrivateKey(file.keyPem))) {
    throw new Error(`the private key for ${file.path} does not belong to the root ${file.certificate.sha256}`)
  }
  const { Encrypter, Stanza, armor } = await import('age-encryption')
  const encrypter = new Encrypter()
  for (const recipient of recipients) encrypter.addRecipient(recipient)
  encrypter.addRecipient({ wrapFileKey: () => [new Stanza([stanzaType, file.rotation], certificate.raw)] })
  const content = [
    `Private key of the root ${file.certificate.subject.replaceAll(/\s+/g, ' ')}`,
    `SHA-256 ${file.certificate.sha256}`,
    `made for the rotation ${file.rotation}. Keep it offline.`,
    '',
    file.certificate.pem.trimEnd(),
    file.keyPem.trimEnd(),
    '',
  ].join('\n')
  const text = armor.encode(await encrypter.encrypt(content))
  const onWrite = file.onWrite ?? (() => undefined)
  try {
    // Only ever ciphertext, under its unfinished name too.
    await writeOnce(file.path, text, { mode: 0o600, onWrite, withoutLinks: 'refuse' })
  } catch (error) {
    throw error instanceof Error && 'code' in error ? cannotCreate(file.path, error) : error
  }
}

/** For which root a file is, told without any identity and not authenticated. Throws where it is no such file. */
export function readRootKeyHeader(path: string): RootKeyHeader {
  const refuse = (found: string, cause?: unknown): ReanchorError =>
    new ReanchorError({
      what: 'this is no root key file of reanchor',
      where: { file: path },
      expected: 'an armored age file with the name of the rotation and the certificate in its header',
      found,
      todo: 'name another file with --root-key-out',
      ...(cause === undefined ? {} : { cause }),
    })
  let text: string
  try {
    text = readFileSync(path, 'latin1')
  } catch (error) {
    throw refuse((error as NodeJS.ErrnoException).code ?? 'it cannot be read', error)
  }
  const armored =
    /^-----BEGIN AGE ENCRYPTED FILE-----\r?\n([A-Za-z0-9+/=\r\n]*)-----END AGE ENCRYPTED FILE-----\s*$/.exec(text)
  if (armored === null) throw refuse('something else')
  const header = Buffer.from(armored[1] ?? '', 'base64').toString('latin1')
  const stanza =
    /^age-encryption\.org\/v1\n(?:.*\n)*?-> reanchor\.dev\/root-key (\S+)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)/.exec(
      header,
    )
  if (stanza === null) throw refuse('an age file of another origin')
  try {
    const certificate = new X509Certificate(Buffer.from(stanza[2] ?? '', 'base64'))
    return {
      rotation: stanza[1] ?? '',
      sha256: createHash('sha256').update(certificate.raw).digest('hex'),
      subject: certificate.subject.split('\n').reverse().join(','),
      certificatePem: certificate.toString(),
    }
  } catch (error) {
    throw refuse('a damaged certificate in its header', error)
  }
}

function cannotCreate(path: string, error: unknown): ReanchorError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
  if (code === 'EEXIST') {
    return new ReanchorError({
      what: 'the root key file exists and is never overwritten',
      where: { file: path },
      expected: 'a name that is free',
      found: whatIsThere(path),
      todo: 'keep that file and name another one with --root-key-out',
      exit: exitCodes.refused,
      cause: error,
    })
  }
  return new ReanchorError({
    what: 'the root key file cannot be created',
    where: { file: path },
    expected: 'a folder that exists, can be written, and lies on a file system with hard links',
    found: code,
    todo: 'name another file with --root-key-out',
    cause: error,
  })
}

function whatIsThere(path: string): string {
  try {
    const header = readRootKeyHeader(path)
    return `the key of root ${header.sha256} of rotation ${header.rotation}`
  } catch {
    return 'a file of another kind'
  }
}
