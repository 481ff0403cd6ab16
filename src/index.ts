/**
 * reanchor as a library: a pure core, JSON in and JSON out. Nothing here reads a clock, a cluster, a file or Git.
 *
 * The cdk8s constructs, for apps of your own, are a module of their own (`reanchor/phases/istio`): who only proves a plan or
 * judges a gate does not load cdk8s.
 */
import { exitCodes, ReanchorError } from './errors.ts'
import type { Evidence, Instant, Plan } from './rotation.ts'
import { type Judgement, type JudgeOptions, judge } from './verify/judge.ts'

export type { ErrorParts, ExitCode, Where } from './errors.ts'
export { exitCodes, ReanchorError } from './errors.ts'
export type { ExpectedName, Purpose } from './pki/path.ts'
export type { PathReason } from './pki/reasons.ts'
export { pathReasons } from './pki/reasons.ts'
export type { ValidatePathInput, ValidatePathResult } from './pki/validate.ts'
export { validatePath } from './pki/validate.ts'
export type { CertificateChange, CertificateFate, PlaceChange, TrustChange } from './report/trust-diff.ts'
export { describeChange } from './report/trust-diff.ts'
export type * from './rotation.ts'
export type { ChangeReason, ChangeVerdict, LiveSite, LiveTrust, SiteChange } from './safety/check.ts'
export { checkChange } from './safety/check.ts'
export type { ProveOptions } from './safety/prove.ts'
export { provePlan } from './safety/prove.ts'
export type { Judgement, JudgeOptions } from './verify/judge.ts'

/**
 * Whether the next step may open: every gate of the step holds at every site of it. `evidence` is one site's or all of them;
 * `now` is RFC 3339 (or a Date). The step that is judged is the one that the first evidence is about, unless `options` names another.
 *
 * Throws a ReanchorError where `now` is no instant. Evidence that is stale, partial, damaged or of another cluster is no error but
 * the verdict `unknown`, which never opens a step.
 */
export function judgeGate(
  plan: Plan,
  evidence: Evidence | readonly Evidence[],
  now: Instant | Date,
  options: JudgeOptions = {},
): Judgement {
  const at = new Date(now)
  if (Number.isNaN(at.getTime())) {
    throw new ReanchorError({
      what: 'the instant to judge at cannot be read',
      where: { field: 'now' },
      expected: 'RFC 3339, such as 2026-11-22T06:00:00Z',
      found: String(now),
      todo: 'give the present time',
      exit: exitCodes.usage,
    })
  }
  return judge(plan, isList(evidence) ? evidence : [evidence], at, options)
}

function isList(evidence: Evidence | readonly Evidence[]): evidence is readonly Evidence[] {
  return Array.isArray(evidence)
}
