import type { ExitCode } from '../errors.ts'
import { exitCodes } from '../errors.ts'
import type { Evidence, GateResult, Instant, Verdict } from '../rotation.ts'
import { worst } from './verdict.ts'

/** One line for a terminal while a site is looked at: `eu-1: read proxies, 300 of 1200`. */
export function progressText(
  site: string,
  progress: { readonly stage: string; readonly done: number; readonly of: number | null },
): string {
  const { stage, done, of } = progress
  return `${site}: ${stage}, ${of === null ? `${done} so far` : `${done} of ${of}`}`
}

/** What `verify` prints, as data: the text is made from the same. */
export interface VerifyView {
  readonly verdict: Verdict
  readonly retryAt: Instant | null
  readonly sites: readonly SiteView[]
}

export interface SiteView {
  readonly site: string
  readonly verdict: Verdict
  readonly phase: number
  readonly step: number
  readonly observedAt: Instant | null
  readonly consumers: number
  readonly exceptions: number
  readonly observation: string | null
  readonly gates: readonly GateResult[]
}

export function verifyView(gates: readonly GateResult[], evidence: readonly Evidence[]): VerifyView {
  const names = [...new Set(gates.map(gate => gate.site))]
  const sites = names.map(site =>
    siteView(
      site,
      gates,
      evidence.find(one => one.site === site),
    ),
  )
  const times = gates.flatMap(({ retryAt }) => (retryAt === null ? [] : [retryAt]))
  const verdict = worst(gates.map(gate => gate.verdict))
  times.sort((one, other) => Date.parse(one) - Date.parse(other))
  // No gate at all is no reason to go on.
  return {
    verdict: gates.length === 0 ? 'unknown' : verdict,
    retryAt: verdict === 'holds' ? null : (times[0] ?? null),
    sites,
  }
}

function siteView(site: string, gates: readonly GateResult[], evidence: Evidence | undefined): SiteView {
  const ours = gates.filter(gate => gate.site === site)
  return {
    site,
    verdict: worst(ours.map(gate => gate.verdict)),
    phase: evidence?.phase ?? 0,
    step: evidence?.step ?? 0,
    observedAt: evidence?.to ?? null,
    consumers: evidence?.groups.reduce((sum, group) => sum + group.count, 0) ?? 0,
    exceptions: evidence?.exceptions.length ?? 0,
    observation: evidence?.observation ?? null,
    gates: ours,
  }
}

/** DESIGN: 0 all gates hold, 3 waiting, 4 a gate is violated or evidence is missing. */
export function exitOf(verdict: Verdict): ExitCode {
  if (verdict === 'holds') return exitCodes.done
  return verdict === 'pending' ? exitCodes.waiting : exitCodes.violated
}

export interface RenderOptions {
  /** Signs of Unicode, or ASCII for terminals without. @default true */
  readonly unicode?: boolean
  /** By site: how far its leaves have left the old root, a line and who is behind. @default nothing is said */
  readonly drained?: ReadonlyMap<string, readonly string[]>
  /** Colours a verdict's sign. @default none */
  readonly paint?: (verdict: Verdict, sign: string) => string
}

const unicodeSigns: Readonly<Record<Verdict, string>> = { holds: '✔', pending: '…', violated: '×', unknown: '‼' }
const asciiSigns: Readonly<Record<Verdict, string>> = {
  holds: '[ok]',
  pending: '[..]',
  violated: '[no]',
  unknown: '[??]',
}

/** A section per site, one claim per line; under each that does not hold why, and what can be done. Ends with one newline. */
export function verifyText(view: VerifyView, options: RenderOptions = {}): string {
  const signs = options.unicode === false ? asciiSigns : unicodeSigns
  const rule = options.unicode === false ? '-' : '─'
  const lines: string[] = []
  for (const site of view.sites) {
    const title = `${site.site === '' ? 'rotation' : site.site}: phase ${site.phase}, step ${site.step}`
    lines.push(title, rule.repeat(title.length))
    for (const gate of site.gates) {
      const sign = signs[gate.verdict]
      lines.push(
        `${options.paint === undefined ? sign : options.paint(gate.verdict, sign)} ${gate.claim}${countText(gate)}`,
      )
      if (gate.verdict === 'holds') continue
      const indent = ' '.repeat(sign.length + 1)
      for (const because of gate.because) lines.push(`${indent}${printable(because)}`)
      if (gate.retryAt !== null) lines.push(`${indent}look again at ${gate.retryAt}`)
      if (gate.hint !== null) lines.push(`${indent}hint: ${printable(gate.hint)}`)
    }
    const drained = options.drained?.get(site.site) ?? []
    if (drained.length > 0) lines.push('', ...drained.map(line => printable(line)))
    if (site.observation !== null) {
      const exceptions = site.exceptions === 1 ? '1 exception' : `${site.exceptions} exceptions`
      lines.push(
        '',
        `${site.consumers} consumers seen, ${exceptions}, at ${site.observedAt ?? ''} (observation ${site.observation.slice(0, 12)})`,
      )
    }
    lines.push('')
  }
  lines.push(conclusion(view))
  return `${lines.join('\n')}\n`
}

function countText({ counted, verdict }: GateResult): string {
  if (counted === null) return ''
  // A claim about nobody holds, and a tick alone would say more than was seen.
  if (counted.of === 0) return ' (none was seen)'
  return verdict === 'holds' && counted.conform === counted.of
    ? ` (${counted.of})`
    : ` (${counted.conform} of ${counted.of})`
}

function conclusion(view: VerifyView): string {
  const gates = view.sites.flatMap(site => site.gates)
  const holding = gates.filter(gate => gate.verdict === 'holds').length
  const score = `${holding} of ${gates.length} gates hold`
  if (view.verdict === 'holds') return `Verdict: holds. ${score}; the next step may open.`
  const next =
    view.retryAt === null
      ? 'The next step stays shut until this is resolved.'
      : `The next step stays shut; look again at ${view.retryAt}.`
  return `Verdict: ${view.verdict}. ${score}. ${next}`
}

/** Names come from a cluster: nothing in them may steer a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: taking control characters out is the purpose
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '?')
}
