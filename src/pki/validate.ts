import { ReanchorError } from '../errors.ts'
import type { Fingerprint } from '../rotation.ts'
import { type Certificate, readCertificate, sha256Hex } from './certificate.ts'
import { type ExpectedName, findPaths, type PathReason, type Profile, type Purpose } from './path.ts'
import { readPem } from './pem.ts'

/** JSON in. Texts are PEM; `at` is RFC 3339. */
export interface ValidatePathInput {
  readonly leaf: string
  readonly intermediates: readonly string[]
  readonly anchors: readonly string[]
  readonly at: string
  readonly purpose: Purpose
  readonly name?: ExpectedName | undefined
  /** `strict` unless said otherwise: the rules of RFC 5280 for certificates, not only what verifiers in use insist on. */
  readonly profile?: Profile
}

/** JSON out. */
export type ValidatePathResult =
  | {
      readonly ok: true
      /** SHA-256 of each certificate, leaf to anchor: the shortest path, of equals the first by fingerprint. */
      readonly path: readonly Fingerprint[]
    }
  | {
      readonly ok: false
      readonly reason: PathReason
      /** SHA-256 of the certificate at fault (of its DER, even where that is no certificate); null where none is. */
      readonly certificate: Fingerprint | null
      /** One phrase for people; may change between versions. */
      readonly detail: string
    }

/**
 * Whether a leaf chains to one of the anchors at an instant, for a purpose and a name. Synchronous, and never throws for
 * what stands in the certificates: that is a reason (docs/path-reasons.md).
 */
export function validatePath(input: ValidatePathInput): ValidatePathResult {
  const problem = inputProblem(input)
  if (problem !== null) return { ok: false, reason: 'input', certificate: null, detail: problem }

  const leaf = readAll([input.leaf])
  const [first, ...more] = leaf.certificates
  const broken = leaf.malformed[0]
  if (broken !== undefined) return broken
  if (first === undefined || more.length > 0) {
    return {
      ok: false,
      reason: 'input',
      certificate: null,
      detail: `the leaf is ${leaf.certificates.length} certificates instead of one`,
    }
  }

  const intermediates = readAll(input.intermediates)
  const anchors = readAll(input.anchors)
  const { paths, failure } = findPaths(first, intermediates.certificates, anchors.certificates, {
    at: new Date(input.at),
    purpose: input.purpose,
    profile: input.profile ?? 'strict',
    ...(input.name === undefined || input.name === null ? {} : { name: input.name }),
  })
  const [path] = paths
  if (path !== undefined) return { ok: true, path: path.map(certificate => certificate.sha256) }
  // A certificate that cannot be read does no harm beside a path that holds; without one it may be what is missing.
  const unreadable = anchors.malformed[0] ?? intermediates.malformed[0]
  if (unreadable !== undefined && failure?.reason === 'untrusted') return unreadable
  return { ok: false, ...(failure ?? { reason: 'untrusted', certificate: null, detail: 'no path' }) }
}

type Malformed = Extract<ValidatePathResult, { ok: false }>

function readAll(pems: readonly string[]): { readonly certificates: Certificate[]; readonly malformed: Malformed[] } {
  const certificates: Certificate[] = []
  const malformed: Malformed[] = []
  for (const pem of pems) {
    try {
      const blocks = readPem(pem, { strict: false }).blocks
      if (blocks.length === 0)
        malformed.push({ ok: false, reason: 'malformed', certificate: null, detail: 'no PEM block' })
      for (const { der } of blocks) {
        try {
          certificates.push(readCertificate(der))
        } catch (error) {
          malformed.push({ ok: false, reason: 'malformed', certificate: sha256Hex(der), detail: detailOf(error) })
        }
      }
    } catch (error) {
      malformed.push({ ok: false, reason: 'malformed', certificate: null, detail: detailOf(error) })
    }
  }
  return { certificates, malformed }
}

function detailOf(error: unknown): string {
  if (!(error instanceof ReanchorError)) throw error
  return error.found === undefined ? error.what : `${error.what}: ${error.found}`
}

/** The library is called from JavaScript too: what the types promise is looked at. */
function inputProblem(input: ValidatePathInput): string | null {
  const { leaf, intermediates, anchors, at, purpose, name } = input
  const texts = (list: unknown) => Array.isArray(list) && list.every(text => typeof text === 'string')
  if (typeof leaf !== 'string' || !texts(intermediates) || !texts(anchors))
    return 'leaf, intermediates and anchors are PEM texts'
  const instant = typeof at === 'string' && /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(at)
  if (!instant || Number.isNaN(Date.parse(at))) return `at is no RFC 3339 instant: ${JSON.stringify(at)}`
  if (purpose !== 'server' && purpose !== 'client')
    return `purpose is neither server nor client: ${JSON.stringify(purpose)}`
  if (name === undefined || name === null) return null
  if (!['DNS', 'IP', 'URI'].includes(name.kind) || typeof name.value !== 'string')
    return 'name is {kind: DNS, IP or URI, value: text}'
  return null
}
