import { ReanchorError } from '../errors.ts'
import {
  createIssuing,
  createRoot,
  type KeySource,
  privateKeyPem,
  readPrivateKey,
  serialFrom,
} from '../pki/authority.ts'
import { readBundle } from '../pki/bundle.ts'
import { type Certificate, readCertificate } from '../pki/certificate.ts'
import type { Declaration, NextSource } from '../rotation.ts'
import type { NewCa, NextCa } from './ca.ts'
import { checkKey } from './material.ts'

/** Certificates are valid from a little before they are made: a node whose clock is behind must not refuse them. */
const backdate = 60 * 60 * 1000
const day = 24 * 60 * 60 * 1000

/** A new root, and under it an issuing CA of its own for each site. */
export async function generateCa(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'generate' }>,
  means: { readonly now: Date; readonly random: (size: number) => Buffer; readonly keys: KeySource },
): Promise<NewCa> {
  const notBefore = wholeSecond(means.now.getTime() - backdate)
  const until = (days: number) => wholeSecond(means.now.getTime() + days * day)
  const rootKey = await means.keys.generate(next.algorithm)
  const root = await createRoot({
    subject: next.subject,
    key: rootKey,
    notBefore,
    notAfter: until(next.validityDays),
    serial: serialFrom(means.random),
  })
  const sites: Record<string, NextCa> = {}
  for (const { name } of declaration.sites) {
    const key = await means.keys.generate(next.issuing.algorithm)
    const issuer = await createIssuing({
      subject: next.issuing.subject.replaceAll('{site}', name),
      key,
      issuer: { certificate: root, key: rootKey },
      notBefore,
      notAfter: until(next.issuing.validityDays),
      serial: serialFrom(means.random),
    })
    sites[name] = { root, issuer, chain: [issuer, root], key: privateKeyPem(key) }
  }
  return { sites, rootKey, root }
}

/** The user's own root and issuing CAs, one for each site or one for all under `*`. */
export function caFromFiles(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'files' }>,
  read: (path: string) => string,
): NewCa {
  const root = oneCertificate(read(next.root), next.root)
  const sites: Record<string, NextCa> = {}
  for (const { name } of declaration.sites) {
    const files = next.issuing[name] ?? next.issuing['*']
    if (files === undefined) {
      throw new ReanchorError({
        what: `no issuing CA for site ${name}`,
        where: { field: 'spec.next.files.issuing' },
        expected: `an entry ${name}, or one for all sites under "*"`,
        found: Object.keys(next.issuing).join(', '),
        todo: 'add it',
      })
    }
    const issuer = oneCertificate(read(files.certificate), files.certificate)
    const key = privateKeyPem(readPrivateKey(read(files.key), { file: files.key }))
    checkKey(issuer, key, files.key)
    sites[name] = { root, issuer, chain: chainOf(issuer, root, files.chain, read), key }
  }
  return { sites, rootKey: null, root }
}

/** Leaf-ward first, root last. A chain file may leave either end out. */
function chainOf(
  issuer: Certificate,
  root: Certificate,
  file: string | null,
  read: (path: string) => string,
): readonly Certificate[] {
  const given = file === null ? [] : readBundle(read(file), { file, allowRepeats: false }).certificates
  const between = given.filter(each => each.sha256 !== issuer.sha256 && each.sha256 !== root.sha256)
  return [issuer, ...between, ...(issuer.sha256 === root.sha256 ? [] : [root])]
}

function oneCertificate(text: string, file: string): Certificate {
  const { certificates } = readBundle(text, { file, allowRepeats: false })
  const [first, ...others] = certificates
  if (first === undefined || others.length > 0) {
    throw new ReanchorError({
      what: 'more than one certificate where one is wanted',
      where: { file },
      expected: 'one CERTIFICATE block',
      found: `${certificates.length}`,
      todo: 'give the others as the chain',
    })
  }
  return readCertificate(first.der)
}

function wholeSecond(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000)
}
