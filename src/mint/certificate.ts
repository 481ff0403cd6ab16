import { exitCodes, ReanchorError } from '../errors.ts'
import { isPlain, parseYamlFile } from '../gitops/manifests.ts'
import { join } from '../gitops/paths.ts'
import { readDer } from '../pki/der.ts'
import { type Attribute, parseName, readName } from '../pki/names.ts'
import type { CertManagerSource, Declaration, KeyAlgorithm, Site } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'

/** One Certificate of cert-manager that mints a CA, in one cluster. */
export interface Mint {
  /** In whose cluster. */
  readonly site: Site
  /** Sites that get the CA. */
  readonly serves: readonly string[]
  readonly namespace: string
  /** Of the Certificate and of its Secret: nothing that exists has it, so nothing reads the Secret. */
  readonly name: string
  /** File in the repository that holds the Certificate. */
  readonly file: string
  readonly algorithm: KeyAlgorithm
  readonly manifest: CertificateManifest
}

export interface CertificateManifest {
  readonly apiVersion: 'cert-manager.io/v1'
  readonly kind: 'Certificate'
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly annotations: Readonly<Record<string, string>>
  }
  readonly spec: Readonly<Record<string, unknown>>
}

/** Neither Flux nor Argo CD takes it away in mid-rotation, whatever happens to its file. */
const kept = {
  'argocd.argoproj.io/sync-options': 'Prune=false',
  'kustomize.toolkit.fluxcd.io/prune': 'disabled',
}

/** As late as can be, in hours: cert-manager wants it above 5 minutes, and its own choice would be a third of the life. */
const renewBeforeHours = 1

/** The source as a declaration has it; null: its new CA comes from elsewhere. */
export function certManagerOf({ next }: Pick<Declaration, 'next'>): CertManagerSource | null {
  return next.from === 'certManager' ? next : null
}

/** Refuses a rotation that keeps the key in use: cert-manager makes a new one for every new Secret. */
export function refuseKeptKey(declaration: Declaration): void {
  const { strategy } = declaration
  const certificateAlone = declaration.system === 'kyma' && declaration.kyma.compromised === 'certificate'
  if (strategy !== 'renew' && !(strategy === 'emergency' && certificateAlone)) return
  throw new ReanchorError({
    what: 'cert-manager mints a new key, while this rotation keeps the one in use',
    where: { field: 'spec.next.certManager' },
    expected: 'next.generate, which makes a new certificate for the key in use',
    found: `strategy ${strategy}`,
    todo: 'take next.certManager out, or choose strategy graceful',
    exit: exitCodes.refused,
  })
}

/** What `mint` brings, by cluster. Empty where the new CA comes from elsewhere. Pure: the same declaration gives the same objects. */
export function mintsOf(declaration: Declaration): readonly Mint[] {
  const source = certManagerOf(declaration)
  if (source === null) return []
  const all = declaration.sites.map(site => site.name)
  return declaration.sites
    .filter(site => source.site === null || site.name === source.site)
    .map(site => {
      const name = `reanchor-${declaration.name}-${site.name}`
      return {
        site,
        serves: source.site === null ? [site.name] : all,
        namespace: source.namespace,
        name,
        file: join(source.path.replaceAll('{site}', site.name), `${name}.yaml`),
        algorithm: source.issuing.algorithm,
        manifest: {
          apiVersion: 'cert-manager.io/v1',
          kind: 'Certificate',
          metadata: { name, namespace: source.namespace, annotations: kept },
          spec: specOf(declaration, source, site, name),
        },
      }
    })
}

function specOf(
  declaration: Declaration,
  { issuer, issuing }: CertManagerSource,
  site: Site,
  name: string,
): Readonly<Record<string, unknown>> {
  const dns = systemOf(declaration.system).issuerNames?.(declaration) ?? []
  return {
    isCA: true,
    secretName: name,
    ...subjectFields(issuing.subject.replaceAll('{site}', site.name)),
    ...(dns.length === 0 ? {} : { dnsNames: dns }),
    duration: hours(issuing.validityDays * 24),
    renewBefore: hours(renewBeforeHours),
    // Always would leave the Secret with another key than the one that is sealed, once somebody has it issued again by hand.
    privateKey: { ...keyFields[issuing.algorithm], rotationPolicy: 'Never' },
    usages: ['digital signature', 'cert sign', 'crl sign'],
    issuerRef: { name: issuer.name, kind: issuer.kind, group: issuer.group },
  }
}

const keyFields: Readonly<Record<KeyAlgorithm, { readonly algorithm: string; readonly size: number }>> = {
  'ecdsa-p256': { algorithm: 'ECDSA', size: 256 },
  'ecdsa-p384': { algorithm: 'ECDSA', size: 384 },
  'rsa-4096': { algorithm: 'RSA', size: 4096 },
}

/** As Go writes a duration, and so cert-manager. */
function hours(count: number): string {
  return `${count}h0m0s`
}

/** Milliseconds of a Go duration with whole numbers; null: it is none. */
export function goDuration(text: string): number | null {
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000 }
  if (!/^(\d+[hms])+$/.test(text)) return null
  return [...text.matchAll(/(\d+)([hms])/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? 0),
    0,
  )
}

/** What spec.subject of a Certificate has a list for (cert-manager.io/v1, X509Subject), by attribute. */
const subjectLists: Readonly<Record<string, string>> = {
  '2.5.4.6': 'countries',
  '2.5.4.7': 'localities',
  '2.5.4.8': 'provinces',
  '2.5.4.9': 'streetAddresses',
  '2.5.4.10': 'organizations',
  '2.5.4.11': 'organizationalUnits',
}
const commonName = '2.5.4.3'
const serialNumber = '2.5.4.5'

/** The subject in cert-manager's fields. Their order in the certificate is Go's own: a certificate is told by its fingerprint. */
function subjectFields(text: string): Readonly<Record<string, unknown>> {
  const attributes = readName(readDer(parseName(text, 'spec.next.certManager.issuing.subject'))).rdns.flat()
  const subject: Record<string, string | string[]> = {}
  let name: string | null = null
  for (const attribute of attributes) {
    const list = subjectLists[attribute.oid]
    const value = attribute.text ?? ''
    if (attribute.oid === commonName && name === null) name = value
    else if (attribute.oid === serialNumber && subject.serialNumber === undefined) subject.serialNumber = value
    else if (list === undefined) throw noField(text, attribute)
    else subject[list] = [...(subject[list] ?? []), value]
  }
  return {
    ...(name === null ? {} : { commonName: name }),
    ...(Object.keys(subject).length === 0 ? {} : { subject }),
  }
}

function noField(text: string, { oid }: Attribute): ReanchorError {
  return new ReanchorError({
    what: 'a subject that cert-manager has no fields for',
    where: { field: 'spec.next.certManager.issuing.subject' },
    expected: 'one CN and one serialNumber at the most, and C, L, ST, STREET, O, OU',
    found: `${text}, with ${oid}`,
    todo: 'leave that attribute out',
    example: 'CN=mesh-2026 issuing,L={site},O=cluster.local',
  })
}

/** Whether a file holds the Certificate, whatever its comments, its order and its quotes. */
export function holdsManifest(text: string, mint: Mint): boolean {
  const { documents, error } = parseYamlFile(text, mint.file)
  return error === null && documents.length === 1 && differenceOf(mint.manifest, documents[0]?.value) === null
}

/** The first field that is not as wanted, as a path; null: none. Fields that nobody asked for, such as defaults, do not count. */
export function differenceOf(wanted: unknown, found: unknown, path = ''): string | null {
  if (isPlain(wanted)) {
    if (!isPlain(found)) return path === '' ? 'the whole' : path
    for (const [key, value] of Object.entries(wanted)) {
      const different = differenceOf(value, found[key], path === '' ? key : `${path}.${key}`)
      if (different !== null) return different
    }
    return null
  }
  if (Array.isArray(wanted)) {
    const same =
      Array.isArray(found) &&
      found.length === wanted.length &&
      wanted.every((value, index) => differenceOf(value, found[index]) === null)
    return same ? null : path
  }
  if (wanted === found) return null
  if (typeof wanted !== 'string' || typeof found !== 'string') return path
  const duration = goDuration(wanted)
  return duration !== null && duration === goDuration(found) ? null : path
}
