import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { armor, Decrypter } from 'age-encryption'
import { parseDocument } from 'yaml'
import { output } from './components.ts'
import type { FleetRepository } from './repository.ts'
import { shortGates } from './rotation.ts'

/** Paths of PEM files. */
export interface IssuingFiles {
  readonly root: string
  readonly certificate: string
  readonly key: string
}

/** An issuing CA that the root of an earlier rotation signs, where its key is kept: away from the repository, with openssl. */
export async function issuingUnder(
  repository: FleetRepository,
  rotation: string,
  issuing: { readonly subject: string; readonly dns?: string },
): Promise<IssuingFiles> {
  const folder = repository.outside
  const decrypter = new Decrypter()
  decrypter.addIdentity(repository.identity)
  const sealed = await readFile(join(folder, `${rotation}-root.key.age`), 'utf8')
  const opened = new TextDecoder().decode(await decrypter.decrypt(armor.decode(sealed)))
  const block = (label: string): string =>
    new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----\n`).exec(opened)?.[0] ?? ''
  await writeFile(join(folder, 'root.pem'), block('CERTIFICATE'))
  await writeFile(join(folder, 'root.key'), block('PRIVATE KEY'), { mode: 0o600 })
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'issuing.key']
  const extensions = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign']
  if (issuing.dns !== undefined) extensions.push(`subjectAltName=DNS:${issuing.dns}`)
  const added = extensions.flatMap(extension => ['-addext', extension])
  await openssl('req', ...key, '-out', 'issuing.csr', '-subj', issuing.subject, ...added)
  const signer = ['-CA', 'root.pem', '-CAkey', 'root.key', '-CAcreateserial', '-copy_extensions', 'copyall']
  await openssl('x509', '-req', '-in', 'issuing.csr', ...signer, '-days', '365', '-out', 'issuing.pem')
  return { root: join(folder, 'root.pem'), certificate: join(folder, 'issuing.pem'), key: join(folder, 'issuing.key') }
}

/** What a user writes into rotation.yaml who has a new issuing CA of the root that everyone trusts. */
export function issuerDeclared(files: IssuingFiles): (text: string) => string {
  return text => {
    const document = parseDocument(shortGates(text))
    document.setIn(['spec', 'strategy'], 'issuer')
    document.setIn(['spec', 'next'], {
      files: { root: files.root, issuing: { '*': { certificate: files.certificate, key: files.key } } },
    })
    return document.toString()
  }
}

/** What a user writes there whose CA is in foreign hands. */
export function emergencyDeclared(text: string): string {
  const document = parseDocument(shortGates(text))
  document.setIn(['spec', 'strategy'], 'emergency')
  return document.toString()
}
