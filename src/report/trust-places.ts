import { createHash } from 'node:crypto'
import { parseAllDocuments } from 'yaml'
import { readCertificate } from '../pki/certificate.ts'
import { holdsPrivateKey } from '../pki/pem.ts'
import type { CertificateFacts, Digest } from '../rotation.ts'

/** What a place is for, as its name and what stands beside it tell. `presented`: the certificate of a server or client, which no one trusts for it. */
export type PlaceRole = 'trusted' | 'issuer' | 'chain' | 'presented' | 'key' | 'other'

/** One value that holds certificates, or a sealed one: a key of an object in a file, or a whole PEM file. */
export interface FoundPlace {
  readonly file: string
  /** `Secret istio-system/cacerts`, or null for a PEM file. */
  readonly object: string | null
  /** Path inside the object, such as `root-cert.pem` or `spec.values.identityTrustAnchorsPEM`; null for a PEM file. */
  readonly key: string | null
  readonly role: PlaceRole
  /** In their order, repeats kept. */
  readonly certificates: readonly CertificateFacts[]
  /** SHA-256 of the sealed text, for a value that only the cluster can open; else null. */
  readonly sealed: Digest | null
  /** SHA-256 of the value as it stands: equal sets with other bytes are still another value for Istio. */
  readonly bytes: Digest
  /** What a reviewer must know: an unreadable block, a private key in the clear. One sentence each. */
  readonly problems: readonly string[]
}

/** `trust/eu-1/cacerts.yaml: Secret istio-system/cacerts: root-cert.pem`. */
export function placeName(place: Pick<FoundPlace, 'file' | 'object' | 'key'>): string {
  return [place.file, place.object, place.key].filter(part => part !== null).join(': ')
}

const marker = '-----BEGIN CERTIFICATE-----'
// Base64 of `-----BEGIN`: how a PEM value begins under `data`.
const encodedMarker = 'LS0tLS1CRUdJTi'
// A bundle of every public CA is under 300 KB; what is far larger is no manifest.
const largestFile = 8 * 1024 * 1024

/** Every place in a file's text that holds certificates or sealed values. A file that holds none, or is no YAML, gives none. */
export function readTrustPlaces(file: string, text: string): readonly FoundPlace[] {
  if (text.length > largestFile) return []
  if (file.endsWith('/trust.txt') || file === 'trust.txt') return []
  const interesting =
    text.includes(marker) ||
    text.includes('PRIVATE KEY-----') ||
    text.includes(encodedMarker) ||
    text.includes('ENC[') ||
    /^kind: *["']?(?:Sealed|External)Secret/m.test(text)
  if (!interesting) return []
  if (!/\.(ya?ml|json)$/.test(file)) return holdsPem(text) ? [pemPlace(file, text)] : []
  return manifestPlaces(file, text)
}

function pemPlace(file: string, text: string): FoundPlace {
  return placeOf(file, null, null, roleOf(file.slice(file.lastIndexOf('/') + 1)), text)
}

function manifestPlaces(file: string, text: string): readonly FoundPlace[] {
  const places: FoundPlace[] = []
  for (const object of documentsOf(text)) {
    if (!isMap(object)) continue
    const name = objectName(object)
    const sealed = object.kind === 'SealedSecret'
    const leaves = [...leavesOf(object)].filter(({ path }) => path[0] !== 'sops')
    const nameOf = (path: readonly string[]): string => keyName(inSecret(object.kind, path))
    const remote = remotePlaces(file, name, object)
    places.push(...remote)
    const keys = new Set([...leaves.map(({ path }) => nameOf(path)), ...remote.flatMap(({ key }) => key ?? [])])
    for (const { path, value } of leaves) {
      const key = nameOf(path)
      const role = signs(key, keys) ? 'issuer' : roleOf(key)
      if (value.startsWith('ENC[') || (sealed && path[1] === 'encryptedData')) {
        const digest = sha256(value)
        places.push({
          file,
          object: name,
          key,
          role,
          certificates: [],
          sealed: digest,
          bytes: digest,
          problems: [],
        })
        continue
      }
      const plain = plainValue(object.kind, path, value)
      if (plain !== null) places.push(placeOf(file, name, key, role, plain))
    }
  }
  return places
}

/** Values that an ExternalSecret takes from a store: sealed, as far as a reader of Git goes. */
function remotePlaces(
  file: string,
  name: string,
  { kind, spec }: Readonly<Record<string, unknown>>,
): readonly FoundPlace[] {
  if (kind !== 'ExternalSecret' || !isMap(spec) || !Array.isArray(spec.data)) return []
  return spec.data.filter(isMap).map(({ secretKey, remoteRef }) => {
    const key = String(secretKey)
    const digest = sha256(JSON.stringify(remoteRef) ?? '')
    return { file, object: name, key, role: roleOf(key), certificates: [], sealed: digest, bytes: digest, problems: [] }
  })
}

/** The value as the cluster will hold it, where it holds PEM; null otherwise. */
function plainValue(kind: unknown, path: readonly string[], value: string): string | null {
  if (holdsPem(value)) return value
  if (kind !== 'Secret' && path[0] !== 'binaryData') return null
  if (!/^[A-Za-z0-9+/=\s]+$/.test(value)) return null
  const decoded = Buffer.from(value, 'base64').toString('latin1')
  return holdsPem(decoded) ? decoded : null
}

function placeOf(file: string, object: string | null, key: string | null, role: PlaceRole, text: string): FoundPlace {
  const { certificates, problems } = readPemLeniently(text)
  const presents = (role === 'issuer' || role === 'other') && certificates[0]?.ca === false
  return {
    file,
    object,
    key,
    role: presents ? 'presented' : role,
    certificates,
    sealed: null,
    bytes: sha256(text),
    problems,
  }
}

const cache = new Map<string, CertificateFacts | null>()

/** Every certificate in a text, in order. What cannot be read is named instead of thrown: a review must show the rest. */
function readPemLeniently(text: string): {
  readonly certificates: readonly CertificateFacts[]
  readonly problems: readonly string[]
} {
  const certificates: CertificateFacts[] = []
  const problems: string[] = []
  // JSON inside a ConfigMap writes a newline as \n.
  const unescaped = text.includes('\\n') ? text.replace(/\\r\\n|\\n/g, '\n') : text
  if (holdsPrivateKey(unescaped))
    problems.push('a private key stands here in the clear: it must be replaced, and must not be merged')
  let block = 0
  for (const found of unescaped.matchAll(
    /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)(-----END (?:TRUSTED |X509 )?CERTIFICATE-----)?/g,
  )) {
    block++
    const [, body = '', end] = found
    const facts = end === undefined ? null : certificateOf(body.replace(/\s+/g, ''))
    if (facts === null)
      problems.push(`certificate ${block} cannot be read${end === undefined ? ': its END line is missing' : ''}`)
    else certificates.push(facts)
  }
  return { certificates, problems }
}

function certificateOf(base64: string): CertificateFacts | null {
  const known = cache.get(base64)
  if (known !== undefined) return known
  let facts: CertificateFacts | null
  try {
    const read = readCertificate(Buffer.from(base64, 'base64'))
    const { sha256, spki, subject, issuer, serial, notBefore, notAfter, key, ski, aki, ca, pathLength, pem } = read
    facts = { sha256, spki, subject, issuer, serial, notBefore, notAfter, key, ski, aki, ca, pathLength, pem }
  } catch {
    facts = null
  }
  // The same few certificates stand in every site's files; hostile input must not make the memory grow.
  if (cache.size > 4096) cache.clear()
  cache.set(base64, facts)
  return facts
}

function holdsPem(text: string): boolean {
  return text.includes(marker) || holdsPrivateKey(text)
}

/** A certificate whose private key stands in the same object: `ca.crt` beside `ca.key`, as Kyma's connector and Cassandra's operator sign with. */
function signs(key: string, keys: ReadonlySet<string>): boolean {
  return /\.(crt|pem)$/.test(key) && keys.has(key.replace(/\.(crt|pem)$/, '.key'))
}

function roleOf(name: string): PlaceRole {
  const lower = name.toLowerCase()
  // Linkerd's issuer has its key as `key.pem`, or `keyPEM` among the values of a chart.
  if (/(ca-key|\.key$|private|(^|\.)key\.?pem$)/.test(lower)) return 'key'
  if (/cert-chain/.test(lower)) return 'chain'
  if (/root|anchor|bundle|ca\d*\.crt|cacerts?$|trust/.test(lower)) return 'trusted'
  if (/ca-cert|issu|tls\.crt|crt\.?pem/.test(lower)) return 'issuer'
  return 'other'
}

/** A value of the Secret that a controller makes of this object is called as it is there. */
function inSecret(kind: unknown, path: readonly string[]): readonly string[] {
  const under = (kind === 'SealedSecret' || kind === 'ExternalSecret' ? secretParts[kind] : []).find(part =>
    part.every((key, index) => path[index] === key),
  )
  return under === undefined ? path : ['data', ...path.slice(under.length)]
}

const secretParts = {
  SealedSecret: [
    ['spec', 'template', 'data'],
    ['spec', 'encryptedData'],
  ],
  ExternalSecret: [['spec', 'target', 'template', 'data']],
} as const

function keyName(path: readonly string[]): string {
  return ['data', 'stringData', 'binaryData'].includes(path[0] ?? '') ? path.slice(1).join('.') : path.join('.')
}

function objectName(object: Readonly<Record<string, unknown>>): string {
  const metadata = isMap(object.metadata) ? object.metadata : {}
  const kind = typeof object.kind === 'string' ? object.kind : 'object'
  const name = typeof metadata.name === 'string' ? metadata.name : ''
  const namespace = typeof metadata.namespace === 'string' ? `${metadata.namespace}/` : ''
  return name === '' ? kind : `${kind} ${namespace}${name}`
}

function documentsOf(text: string): readonly unknown[] {
  try {
    // Aliases are left unresolved beyond a few: a YAML bomb in a pull request must not take the check down.
    return parseAllDocuments(text, { logLevel: 'silent', prettyErrors: false }).flatMap(document =>
      document.errors.length > 0 ? [] : [document.toJS({ maxAliasCount: 100 }) as unknown],
    )
  } catch {
    return []
  }
}

function* leavesOf(
  value: unknown,
  path: readonly string[] = [],
): Generator<{ readonly path: readonly string[]; readonly value: string }> {
  if (typeof value === 'string') {
    const inner = jsonOf(value) ?? valuesOf(value)
    if (inner === null) yield { path, value }
    else yield* leavesOf(inner, path)
    return
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) yield* leavesOf(item, [...path, itemName(item) ?? String(index)])
    return
  }
  if (isMap(value)) for (const [key, item] of Object.entries(value)) yield* leavesOf(item, [...path, key])
}

/** Linkerd up to 2.6 keeps its trust anchors in JSON inside a ConfigMap. */
function jsonOf(text: string): Readonly<Record<string, unknown>> | null {
  if (!text.trimStart().startsWith('{') || !text.includes('CERTIFICATE')) return null
  try {
    const value: unknown = JSON.parse(text)
    return isMap(value) ? value : null
  } catch {
    return null
  }
}

/** Values of a Helm chart as text inside a ConfigMap or an Application. A PEM bundle is a text that parses as YAML too, but to no map. */
function valuesOf(text: string): Readonly<Record<string, unknown>> | null {
  if (!/^[A-Za-z_][\w-]*:/m.test(text) || !text.includes('CERTIFICATE')) return null
  const [values, ...others] = documentsOf(text)
  return others.length === 0 && isMap(values) ? values : null
}

/** Items of lists such as `env` or `parameters` are known by their name: their place in the list may change. */
function itemName(item: unknown): string | null {
  return isMap(item) && typeof item.name === 'string' ? item.name : null
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function sha256(text: string): Digest {
  return createHash('sha256').update(text).digest('hex')
}
