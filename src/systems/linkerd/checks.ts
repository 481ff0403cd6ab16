import type { Certificate } from '../../pki/certificate.ts'
import { commonName } from '../../pki/names.ts'
import { findPaths } from '../../pki/path.ts'
import type { Fingerprint } from '../../rotation.ts'
import { anchorProblem, issuerProblem } from './algorithms.ts'
import type { VersionRules } from './version.ts'

/**
 * The nine identity checks of `linkerd check --proxy`, in its words (linkerd2 pkg/healthcheck/healthcheck.go), from what was seen. Two things
 * are done otherwise: bundles are compared as sets, so that an order or a blank makes no pod “must be restarted”, and the pods of
 * the control plane are compared in every version.
 */
export interface IdentityCheck {
  readonly category: 'linkerd-identity' | 'linkerd-identity-data-plane'
  readonly description: string
  /** `https://linkerd.io/checks/#…` */
  readonly hint: string
  readonly result: 'success' | 'warning' | 'error'
  /** As linkerd prints it below the description, lines joined by newlines; null for success. */
  readonly error: string | null
}

export interface IdentityView {
  readonly now: Date
  readonly rules: VersionRules
  /** Why the configuration cannot be used, in linkerd2's words; null: anchors and issuer were read. */
  readonly configProblem: string | null
  readonly anchors: readonly Certificate[]
  readonly issuer: Certificate | null
  /** What identity sends with a leaf beside the issuer. */
  readonly chain: readonly Certificate[]
  /** Every pod with a proxy that runs: the anchors that it started with. */
  readonly pods: readonly { readonly name: string; readonly anchors: readonly Fingerprint[] | null }[]
}

const hintBase = 'https://linkerd.io/checks/#'
const warnDays = 60

interface Outcome {
  readonly description: string
  readonly anchor: string
  /** What a failure means; `fatal` ends the category, as later checks would only repeat it. */
  readonly kind: 'fatal' | 'warning' | 'error'
  readonly error: string | null
}

/** Later checks of a category are left out behind a fatal one, as `linkerd check` does. */
export function identityChecks(view: IdentityView): readonly IdentityCheck[] {
  const checks: IdentityCheck[] = []
  for (const make of identityOutcomes) {
    const outcome = make(view)
    checks.push(checkOf('linkerd-identity', outcome))
    if (outcome.kind === 'fatal' && outcome.error !== null) break
  }
  checks.push(checkOf('linkerd-identity-data-plane', dataPlane(view)))
  return checks
}

function checkOf(category: IdentityCheck['category'], outcome: Outcome): IdentityCheck {
  const failed = outcome.kind === 'warning' ? 'warning' : 'error'
  return {
    category,
    description: outcome.description,
    hint: `${hintBase}${outcome.anchor}`,
    result: outcome.error === null ? 'success' : failed,
    error: outcome.error,
  }
}

const identityOutcomes: readonly ((view: IdentityView) => Outcome)[] = [
  view => ({
    description: 'certificate config is valid',
    anchor: 'l5d-identity-cert-config-valid',
    kind: 'fatal',
    error: view.configProblem,
  }),
  view => ({
    description: `trust ${view.rules.words} are using supported crypto algorithm`,
    anchor: anchorsHint(view, 'use-supported-crypto'),
    kind: 'fatal',
    error: listed(view.rules.words === 'roots' ? 'Invalid roots:' : 'Invalid trustAnchors:', view, each =>
      anchorProblem(each, view.rules),
    ),
  }),
  view => ({
    description: `trust ${view.rules.words} are within their validity period`,
    anchor: anchorsHint(view, 'are-time-valid'),
    kind: 'fatal',
    error: listed(view.rules.words === 'roots' ? 'Invalid roots:' : 'Invalid anchors:', view, each =>
      periodProblem(each, view.now),
    ),
  }),
  view => ({
    description: `trust ${view.rules.words} are valid for at least ${warnDays} days`,
    anchor: anchorsHint(view, 'not-expiring-soon'),
    kind: 'warning',
    error: listed(view.rules.words === 'roots' ? 'Roots expiring soon:' : 'Anchors expiring soon:', view, each =>
      expiryWarning(each, view.now),
    ),
  }),
  view => ({
    description: 'issuer cert is using supported crypto algorithm',
    anchor: 'l5d-identity-issuer-cert-uses-supported-crypto',
    kind: 'fatal',
    error: prefixed('issuer certificate ', view.issuer, issuer => issuerProblem(issuer, view.rules)),
  }),
  view => ({
    description: 'issuer cert is within its validity period',
    anchor: 'l5d-identity-issuer-cert-is-time-valid',
    kind: 'fatal',
    error: prefixed('issuer certificate is ', view.issuer, issuer => periodProblem(issuer, view.now)),
  }),
  view => ({
    description: `issuer cert is valid for at least ${warnDays} days`,
    anchor: 'l5d-identity-issuer-cert-not-expiring-soon',
    kind: 'warning',
    error: prefixed('issuer certificate ', view.issuer, issuer => expiryWarning(issuer, view.now)),
  }),
  view => ({
    description: `issuer cert is issued by the trust ${view.rules.words === 'roots' ? 'root' : 'anchor'}`,
    anchor: `l5d-identity-issuer-cert-issued-by-trust-${view.rules.words === 'roots' ? 'root' : 'anchor'}`,
    kind: 'error',
    error: issuedByAnchor(view),
  }),
]

function anchorsHint({ rules }: IdentityView, rest: string): string {
  return `l5d-identity-${rules.words === 'roots' ? 'roots' : 'trustAnchors'}-${rest}`
}

function listed(head: string, view: IdentityView, problem: (anchor: Certificate) => string | null): string | null {
  const rows = view.anchors.flatMap(anchor => {
    const found = problem(anchor)
    return found === null ? [] : [`    * ${decimal(anchor.serial)} ${commonNameOf(anchor)} ${found}`]
  })
  return rows.length === 0 ? null : [head, ...rows].join('\n')
}

function prefixed(
  prefix: string,
  issuer: Certificate | null,
  problem: (issuer: Certificate) => string | null,
): string | null {
  if (issuer === null) return null
  const found = problem(issuer)
  // A message that names the issuer itself is not prefixed once more.
  return found === null ? null : found.startsWith(prefix) ? found : `${prefix}${found}`
}

function periodProblem({ parts, notBefore, notAfter }: Certificate, now: Date): string | null {
  if (parts.notBefore > now) return `not valid before: ${notBefore}`
  return parts.notAfter < now ? `not valid anymore. Expired on ${notAfter}` : null
}

/** linkerd adds 60 days of the calendar (Go's AddDate), in UTC here. */
function expiryWarning({ parts, notAfter }: Certificate, now: Date): string | null {
  const limit = new Date(now)
  limit.setUTCDate(limit.getUTCDate() + warnDays)
  return limit > parts.notAfter ? `will expire on ${notAfter}` : null
}

function issuedByAnchor({ issuer, anchors, chain, now }: IdentityView): string | null {
  if (issuer === null || anchors.some(anchor => anchor.sha256 === issuer.sha256)) return null
  const between = chain.filter(each => each.sha256 !== issuer.sha256)
  const { paths, failure } = findPaths(issuer, between, anchors, { at: now, purpose: 'server' })
  if (paths.length > 0) return null
  // Go's own words, which the verification of linkerd2 passes on.
  if (failure === null || failure.reason === 'untrusted') return 'x509: certificate signed by unknown authority'
  return `x509: ${failure.detail}`
}

function dataPlane({ pods, anchors }: IdentityView): Outcome {
  const wanted = setText(anchors.map(anchor => anchor.sha256))
  const behind = pods.filter(pod => pod.anchors === null || setText(pod.anchors) !== wanted)
  const rows = behind.map(pod => `    * ${pod.name}`)
  return {
    description: 'data plane proxies certificate match CA',
    anchor: 'l5d-identity-data-plane-proxies-certs-match-ca',
    kind: 'warning',
    error:
      rows.length === 0
        ? null
        : ['Some pods do not have the current trust bundle and must be restarted:', ...rows].join('\n'),
  }
}

function setText(fingerprints: readonly Fingerprint[]): string {
  return [...new Set(fingerprints)].sort().join(' ')
}

/** Serials are up to 20 octets, more than a number holds. */
function decimal(serial: string): string {
  return BigInt(`0x${serial}`).toString()
}

function commonNameOf(certificate: Certificate): string {
  const found = certificate.parts.subject.rdns.flat().find(({ oid }) => oid === commonName)
  return found?.text ?? ''
}

const marks: Readonly<Record<IdentityCheck['result'], string>> = { success: '√', warning: '‼', error: '×' }

/** As `linkerd check` prints it on a terminal: for people, and never read back. */
export function checksText(checks: readonly IdentityCheck[]): string {
  const lines: string[] = []
  let category = ''
  for (const check of checks) {
    if (check.category !== category) {
      if (category !== '') lines.push('')
      category = check.category
      lines.push(category, '-'.repeat(category.length))
    }
    lines.push(`${marks[check.result]} ${check.description}`)
    if (check.error === null) continue
    for (const line of check.error.split('\n')) lines.push(`    ${line}`)
    lines.push(`    see ${check.hint} for hints`)
  }
  return `${lines.join('\n')}\n`
}

/** As `linkerd check --output json` gives it. */
export function checksJson(checks: readonly IdentityCheck[]): unknown {
  const categories = [...new Set(checks.map(check => check.category))].map(categoryName => ({
    categoryName,
    checks: checks
      .filter(check => check.category === categoryName)
      .map(({ description, hint, error, result }) =>
        error === null ? { description, result } : { description, hint, error, result },
      ),
  }))
  return { success: checks.every(check => check.result !== 'error'), categories }
}
