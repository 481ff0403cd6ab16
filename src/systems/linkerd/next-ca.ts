import { createPrivateKey, type KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { createIssuing, createRoot, type KeySource, serialFrom } from '../../pki/authority.ts'
import type { Certificate } from '../../pki/certificate.ts'
import type { NewCa, NextCa } from '../../plan/ca.ts'
import type { Declaration, KeyAlgorithm, NextSource } from '../../rotation.ts'
import type { NewCaMeans } from '../system.ts'
import { anchorProblem, issuerProblem } from './algorithms.ts'
import { issuerKeyPem } from './issuer-secret.ts'
import { issuerName, type LinkerdNames, linkerdOf } from './settings.ts'
import type { VersionRules } from './version.ts'

/** Certificates are valid from a little before they are made: a node whose clock is behind must not refuse them. */
const backdate = 60 * 60 * 1000
const day = 24 * 60 * 60 * 1000

export interface LinkerdCaMeans {
  readonly now: Date
  readonly random: (size: number) => Buffer
  readonly keys: KeySource
}

export interface LinkerdIssuer {
  readonly root: Certificate
  readonly issuer: Certificate
  readonly chain: readonly Certificate[]
  /** SEC1 in PEM; secret. */
  readonly key: string
}

/** A new root as `step certificate create --profile root-ca` makes it, but for its name: CA with path length 1. */
export async function createLinkerdRoot(
  parts: { readonly subject: string; readonly algorithm: KeyAlgorithm; readonly validityDays: number },
  means: LinkerdCaMeans,
): Promise<{ readonly certificate: Certificate; readonly key: KeyObject }> {
  const key = await means.keys.generate(parts.algorithm)
  const certificate = await createRoot({
    subject: parts.subject,
    key,
    pathLength: 1,
    ...dates(parts.validityDays, means),
  })
  return { certificate, key }
}

/** An issuer of one cluster as `--profile intermediate-ca --not-after 8760h` makes it: P-256, path length 0, its name as SAN too. */
export async function createLinkerdIssuer(
  root: { readonly certificate: Certificate; readonly key: KeyObject },
  names: LinkerdNames,
  validityDays: number,
  means: LinkerdCaMeans,
  subject?: string,
): Promise<LinkerdIssuer> {
  const key = await means.keys.generate('ecdsa-p256')
  const name = issuerName(names)
  const life = dates(validityDays, means)
  const end = new Date(Math.min(life.notAfter.getTime(), root.certificate.parts.notAfter.getTime()))
  const issuer = await createIssuing({
    subject: subject ?? `CN=${name}`,
    key,
    issuer: root,
    dns: [name],
    ...life,
    notAfter: end,
  })
  return { root: root.certificate, issuer, chain: [issuer], key: issuerKeyPem(key) }
}

function dates(validityDays: number, { now, random }: LinkerdCaMeans) {
  const second = (millis: number) => new Date(Math.floor(millis / 1000) * 1000)
  return {
    notBefore: second(now.getTime() - backdate),
    notAfter: second(now.getTime() + validityDays * day),
    serial: serialFrom(random),
  }
}

/**
 * Refuses a new CA that this version of Linkerd would not start with: identity dies on it, or `linkerd check` fails. Said before anything is
 * planned, in linkerd2's own words.
 */
export function acceptLinkerdCa(
  next: { readonly root: Certificate; readonly issuer: Certificate },
  names: LinkerdNames,
  rules: VersionRules,
): void {
  const refused = (what: string, certificate: Certificate, expected: string, todo: string): ReanchorError =>
    new ReanchorError({
      what,
      where: { object: `certificate ${certificate.subject} (${certificate.sha256})` },
      expected,
      todo,
      exit: exitCodes.refused,
    })
  const root = anchorProblem(next.root, rules)
  if (root !== null) {
    const expected = rules.rsaRoots
      ? 'ECDSA P-256, or RSA with 2048 or 4096 bits, with SHA-256'
      : 'ECDSA P-256 with SHA-256'
    throw refused(root, next.root, expected, 'make the root again with spec.next.generate.algorithm: ecdsa-p256')
  }
  const issuer = issuerProblem(next.issuer, rules)
  if (issuer !== null)
    throw refused(issuer, next.issuer, 'ECDSA P-256 in every version', 'make the issuer again with a P-256 key')
  if (!next.issuer.ca)
    throw refused('issuer cert is not a CA', next.issuer, 'basicConstraints with cA true', 'sign it as a CA')
  const name = issuerName(names)
  if (!rules.issuerName || next.issuer.x509.checkHost(name, { subject: 'never' }) !== undefined) return
  throw refused(
    `an issuer that is not for ${name}`,
    next.issuer,
    `the DNS name ${name} among its alternative names, which this version verifies`,
    'sign it again with that name, or leave it to spec.next.generate',
  )
}

/** A new root and an issuer of its own for each site, or the user's own. */
export async function newLinkerdCa(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'generate' | 'files' }>,
  means: NewCaMeans,
): Promise<NewCa> {
  const names = linkerdOf(declaration)
  if (next.from === 'files') {
    const { caFromFiles } = await import('../../plan/next-ca.ts')
    const given = caFromFiles(declaration, next, means.read)
    // SEC1, whatever form the file has: 2.8 and earlier die on PKCS#8.
    const sites = Object.entries(given.sites).map(([site, ca]) => {
      return [site, { ...ca, key: issuerKeyPem(createPrivateKey(ca.key)) }] as const
    })
    return { ...given, sites: Object.fromEntries(sites) }
  }
  const root = await createLinkerdRoot(next, means)
  const sites: Record<string, NextCa> = {}
  for (const { name } of declaration.sites)
    sites[name] = await createLinkerdIssuer(
      root,
      names,
      next.issuing.validityDays,
      means,
      next.issuing.subject.replaceAll('{site}', name),
    )
  return { sites, rootKey: root.key, root: root.certificate }
}
