import { createPrivateKey, type KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { createIssuing, createRoot, type KeySource, serialFrom } from '../../pki/authority.ts'
import { type Certificate, isSignedBy } from '../../pki/certificate.ts'
import type { NewCa, NextCa } from '../../plan/ca.ts'
import type { Declaration, Fingerprint, KeyAlgorithm, NextSource } from '../../rotation.ts'
import type { NewCaMeans } from '../system.ts'
import { anchorProblem, issuerProblem } from './algorithms.ts'
import { issuerKeyPem } from './issuer-secret.ts'
import { linkerdOf } from './settings.ts'
import type { VersionRules } from './version.ts'

/** Certificates are valid from a little before they are made: a node whose clock is behind must not refuse them. */
const backdate = 60 * 60 * 1000
const day = 24 * 60 * 60 * 1000

export interface LinkerdNames {
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly trustDomain: string
}

/** Common name of the issuer, and its DNS name too: up to 2.9 identity verifies the issuer for it (pkg/identity/service.go). */
export function issuerName({ namespace, trustDomain }: LinkerdNames): string {
  return `identity.${namespace}.${trustDomain}`
}

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
    sites[name] = await createLinkerdIssuer(root, names, next.issuing.validityDays, means, next.issuing.subject)
  return { sites, rootKey: root.key, root: root.certificate }
}

/** How today's CA stands, which decides what can still be done without an outage. */
export type LinkerdHealth = 'ok' | 'expiring' | 'issuer-expired' | 'root-expired' | 'not-yet-valid'

const warnDays = 60

export function healthOf(
  current: { readonly issuer: Certificate; readonly roots: readonly Certificate[] },
  now: Date,
): LinkerdHealth {
  // The anchor that signs counts: another one in the bundle may be an old one that was never taken out.
  const signing = current.roots.filter(root => root.sha256 === current.issuer.sha256 || isAbove(root, current.issuer))
  const anchors = signing.length > 0 ? signing : current.roots
  const certificates = [...anchors, current.issuer]
  if (anchors.every(root => root.parts.notAfter <= now)) return 'root-expired'
  if (current.issuer.parts.notAfter <= now) return 'issuer-expired'
  if (certificates.some(each => each.parts.notBefore > now)) return 'not-yet-valid'
  const soon = new Date(now)
  soon.setUTCDate(soon.getUTCDate() + warnDays)
  return certificates.some(each => each.parts.notAfter < soon) ? 'expiring' : 'ok'
}

function isAbove(root: Certificate, issuer: Certificate): boolean {
  return root.parts.subject.der.equals(issuer.parts.issuer.der) && isSignedBy(issuer, root)
}

/**
 * Refuses a plan that pretends an overlap which the material cannot give (F15): nothing verifies through an expired root, so no order of steps
 * keeps traffic. An expired issuer under a sound root is another matter: no trust has to move, only the issuer.
 */
export function refuseExpired(
  strategy: 'graceful' | 'issuer' | 'emergency' | 'renew',
  current: { readonly issuer: Certificate; readonly roots: readonly Certificate[] },
  now: Date,
  object: string,
): void {
  const health = healthOf(current, now)
  if (strategy === 'emergency' || health === 'ok' || health === 'expiring') return
  const ended = health === 'root-expired' ? current.roots : [current.issuer]
  const found = ended.map(
    each => `${each.subject} ${health === 'not-yet-valid' ? `begins ${each.notBefore}` : `ended ${each.notAfter}`}`,
  )
  if (health === 'root-expired') {
    throw new ReanchorError({
      what: 'the trust root has expired: every handshake of the mesh fails already, and no order of steps can overlap with it',
      where: { object },
      expected: 'a root that holds until the rotation is through',
      found: found.join('; '),
      todo: 'choose strategy emergency with --accept-outage: it replaces root and issuer at once, and every workload restarts. Where webhook certificates have ended too, renew those first',
      exit: exitCodes.refused,
    })
  }
  if (health === 'issuer-expired') {
    if (strategy === 'issuer') return
    throw new ReanchorError({
      what: 'the issuer has expired while its root still holds: proxies get no leaf until it is replaced',
      where: { object },
      expected: 'an issuer that signs while both roots become trusted',
      found: found.join('; '),
      todo: 'choose strategy issuer if the root’s key is at hand: one step, no trust moves. If it is not, choose emergency',
      exit: exitCodes.refused,
    })
  }
  throw new ReanchorError({
    what: 'the CA in use is not valid yet',
    where: { object },
    found: found.join('; '),
    todo: 'look at the clock of this machine and at the dates of the certificates, then plan again',
    exit: exitCodes.refused,
  })
}

/** Roots that are trusted beside the one in use, such as those of other clusters: they stay in every bundle until a person takes them out. */
export function otherRoots(current: {
  readonly issuer: Certificate
  readonly roots: readonly Certificate[]
}): readonly Fingerprint[] {
  const signing = current.roots.filter(root => root.sha256 === current.issuer.sha256 || isAbove(root, current.issuer))
  if (signing.length === 0) return []
  return current.roots.filter(root => !signing.includes(root)).map(root => root.sha256)
}
