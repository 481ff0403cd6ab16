import type { PhaseTime, TimeLeft } from '../plan/time-left.ts'
import type { CertificateFacts, CertificateRole, Instant, SitePosition, Verdict } from '../rotation.ts'
import type { UndoWindow } from '../safety/until-when.ts'
import type { Drain } from '../verify/drain.ts'
import { drainLines } from './drain-text.ts'
import { listed, plural, visible } from './escape.ts'
import { columns, noPaint, type Paint, wrapped } from './paint.ts'
import { spanText } from './span.ts'
import { undoSentence } from './undo-text.ts'

export interface StatusPhase {
  readonly number: number
  readonly name: string
  readonly title: string
  /** done: every site is past it. now: some site is in it. ahead: none is. */
  readonly mark: 'done' | 'now' | 'ahead'
  readonly steps: number
  /** How long it may be expected to take. */
  readonly takes: PhaseTime
}

export interface StatusSite {
  readonly name: string
  readonly path: string
  readonly position: SitePosition
  /** `2-trust-both/1-data`, where the position is a planned one; else null. */
  readonly label: string | null
  /** Wiring points that are missing, as file and purpose. */
  readonly wiring: readonly string[]
}

export interface StatusPullRequest {
  readonly number: number
  readonly title: string
  readonly state: 'open' | 'merged' | 'closed'
  readonly url: string | null
  /** What `reanchor/gate` says of it; null: nothing was posted, or its forge is out of reach. */
  readonly gate: string | null
}

/** Newest committed evidence of a site. */
export interface StatusEvidence {
  readonly site: string
  readonly file: string
  readonly at: Instant
  /** `unsigned`, `signed by …`, or why it is not counted. */
  readonly authorship: string
}

/** A gate's claim over all sites; `because` names who is behind. */
export interface StatusGate {
  readonly id: string
  readonly site: string
  readonly claim: string
  readonly verdict: Verdict
  readonly because: readonly string[]
  readonly hint: string | null
}

export interface StatusExpiry extends Pick<CertificateFacts, 'subject' | 'sha256' | 'notAfter'> {
  readonly role: CertificateRole
}

/** One screen of `reanchor status`; plain data, and its own JSON. */
export interface StatusView {
  readonly rotation: string
  readonly strategy: string
  readonly paused: boolean
  readonly now: Instant
  readonly phases: readonly StatusPhase[]
  readonly sites: readonly StatusSite[]
  readonly pullRequests: readonly StatusPullRequest[]
  readonly evidence: readonly StatusEvidence[]
  /** Empty where the cluster was not asked. */
  readonly gates: readonly StatusGate[]
  /** Where the gates come from: just now, the committed evidence, or nowhere. */
  readonly seen: { readonly from: 'live' | 'evidence'; readonly at: Instant } | null
  /** How long there is to go on before the old CA ends. */
  readonly time: TimeLeft
  /** How far leaves have left the old root, of each site that was looked at and has one that goes. */
  readonly drain: readonly Drain[]
  /** Until when the step that the foremost sites are at can be taken back. */
  readonly undo: UndoWindow
  readonly expires: readonly StatusExpiry[]
  /** What to do next, one sentence. */
  readonly next: string | null
}

export interface TextOptions {
  readonly paint?: Paint
  /** Columns of the terminal; 100 by default. */
  readonly width?: number
}

const marks: Readonly<Record<StatusPhase['mark'], string>> = { done: '✔', now: '▶', ahead: '·' }
const verdictMarks: Readonly<Record<Verdict, string>> = { holds: '√', pending: '…', violated: '×', unknown: '?' }
const mostSites = 12
const mostNames = 6

export function statusText(view: StatusView, options: TextOptions = {}): string {
  const paint = options.paint ?? noPaint
  const width = options.width ?? 100
  const lines: string[] = []
  const heading = (text: string): void => {
    lines.push('', paint.strong(text))
  }

  const paused = view.paused ? paint.wait(', paused') : ''
  lines.push(`${paint.strong(visible(view.rotation))} (${view.strategy}${paused})`)

  heading('phases')
  for (const phase of view.phases) {
    const text = `${marks[phase.mark]} ${phase.number} ${visible(phase.title)}`
    const shown =
      phase.mark === 'done' ? paint.good(text) : phase.mark === 'now' ? paint.strong(text) : paint.faint(text)
    const takes = phase.mark === 'done' ? '' : `(${takesText(phase.takes)})`
    const fits = text.length + takes.length + 4 <= width
    lines.push(`  ${shown}${takes !== '' && fits ? `  ${paint.faint(takes)}` : ''}`)
    if (!fits) lines.push(paint.faint(wrapped(`      ${takes}`, width, '      ')))
  }

  heading('sites')
  for (const line of siteLines(view.sites, paint)) lines.push(`  ${line}`)

  if (view.pullRequests.length > 0) {
    heading('pull requests')
    for (const request of view.pullRequests.slice(0, mostSites)) {
      const state = request.state === 'open' ? paint.wait(request.state) : paint.faint(request.state)
      lines.push(
        `  #${request.number} ${state} ${visible(request.title)}${request.url === null ? '' : ` ${paint.faint(visible(request.url))}`}`,
      )
      if (request.gate !== null) lines.push(wrapped(`    reanchor/gate: ${visible(request.gate)}`, width, '      '))
    }
    if (view.pullRequests.length > mostSites)
      lines.push(paint.faint(`  and ${view.pullRequests.length - mostSites} more`))
  }

  if (view.evidence.length > 0) {
    heading('newest evidence')
    for (const { site, at, authorship } of view.evidence.slice(0, mostSites))
      lines.push(wrapped(`  ${visible(site)}: seen at ${at}, ${visible(authorship)}`, width, '    '))
    if (view.evidence.length > mostSites)
      lines.push(paint.faint(`  and ${view.evidence.length - mostSites} more sites`))
  }

  heading(
    view.seen === null
      ? 'gates: not looked at (`reanchor verify`, or `status --live`)'
      : `gates, ${view.seen.from === 'live' ? 'seen now' : `from evidence of ${view.seen.at}`}`,
  )
  for (const line of gateLines(view.gates, paint, width)) lines.push(line)

  if (view.drain.length > 0) {
    heading('old root')
    for (const drain of view.drain.slice(0, mostSites)) lines.push(...drainText(drain, view.expires, paint, width))
    if (view.drain.length > mostSites) lines.push(paint.faint(`  and ${view.drain.length - mostSites} more sites`))
  }

  heading('undo')
  lines.push(undoLine(view.undo, paint, width))

  if (view.expires.length > 0) {
    heading('certificates')
    const rows = view.expires.map(certificate => [
      certificate.role,
      visible(certificate.subject),
      certificate.sha256.slice(0, 12),
      `ends ${certificate.notAfter.slice(0, 10)}`,
      daysText(certificate.notAfter, view.now),
    ])
    const shown = columns(rows)
    if (shown.every(line => line.length + 2 <= width)) lines.push(...shown.map(line => `  ${line}`))
    else for (const [role, subject, ...rest] of rows) lines.push(`  ${role}  ${subject}`, `    ${rest.join('  ')}`)
  }
  const time = timeText(view.time, view.now)
  if (time !== null) {
    heading('time')
    const text = wrapped(`  ${time}`, width, '  ')
    lines.push(view.time.state === 'too-late' ? paint.bad(text) : view.time.state === 'hurry' ? paint.wait(text) : text)
  }
  if (view.next !== null) lines.push('', wrapped(`next: ${visible(view.next)}`, width, '      '))
  return `${lines.join('\n')}\n`
}

/** `usually 1 day 10 minutes, 10 minutes of it gates` */
export function takesText({ gates, usual }: PhaseTime): string {
  return `usually ${spanText(usual)}${gates === 0 ? '' : `, ${spanText(gates)} of it gates`}`
}

function siteLines(sites: readonly StatusSite[], paint: Paint): readonly string[] {
  // Sites that stand alike on a planned step are one line; one that is off the plan always has its own.
  const groups = new Map<string, { names: string[]; text: string; fine: boolean; more: readonly string[] }>()
  for (const site of sites) {
    const { text, fine, more } = positionWords(site)
    const key = fine ? text : `${site.name} ${text}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { names: [visible(site.name)], text, fine, more })
    else group.names.push(visible(site.name))
  }
  const shown = [...groups.values()].sort((a, b) => Number(a.fine) - Number(b.fine))
  const lines = shown.slice(0, mostSites).flatMap(group => {
    const text = group.fine ? group.text : paint.bad(group.text)
    return [
      `${listed(group.names)}: ${text}`,
      ...group.more.slice(0, mostNames).map(line => `    ${line}`),
      ...(group.more.length > mostNames ? [`    and ${group.more.length - mostNames} more`] : []),
    ]
  })
  if (shown.length > mostSites) lines.push(paint.faint(`and ${shown.length - mostSites} more groups of sites`))
  return lines
}

/** `2-trust-both/1-data`, or what is wrong, with the files or wiring points that are. */
export function positionWords(site: StatusSite): { text: string; fine: boolean; more: readonly string[] } {
  const missing = site.wiring.map(point => `wiring missing: ${visible(point)}`)
  const { position } = site
  if (position.kind === 'at') {
    const way = position.variant === 'step' ? '' : ` ${position.variant}`
    const label = `${site.label ?? `phase ${position.phase}, step ${position.step}`}${way}`
    return { text: missing.length === 0 ? label : `mixed (${label})`, fine: missing.length === 0, more: missing }
  }
  if (position.kind === 'absent') return { text: 'not adopted yet', fine: true, more: missing }
  if (position.kind === 'mixed') {
    const files = position.files.map(
      file => `${visible(file.path)}: ${file.matches === null ? 'matches no step' : `as in ${visible(file.matches)}`}`,
    )
    return { text: `mixed: ${visible(position.why)}`, fine: false, more: [...files, ...missing] }
  }
  return {
    text: `${visible(site.path)} matches no planned step`,
    fine: false,
    more: [...position.changed.map(change => `${change.what} ${visible(change.path)}`), ...missing],
  }
}

function gateLines(gates: readonly StatusGate[], paint: Paint, width: number): readonly string[] {
  const order: readonly Verdict[] = ['violated', 'unknown', 'pending']
  const lines: string[] = []
  const holding = gates.filter(gate => gate.verdict === 'holds').length
  if (holding > 0)
    lines.push(
      `  ${paint.good(`${verdictMarks.holds} ${plural(holding, 'gate')} ${holding === 1 ? 'holds' : 'hold'}`)}`,
    )
  for (const verdict of order) {
    for (const gate of gates.filter(found => found.verdict === verdict).slice(0, mostSites)) {
      const colour = verdict === 'violated' ? paint.bad : paint.wait
      lines.push(
        colour(
          wrapped(
            `  ${verdictMarks[verdict]} ${visible(gate.site)}: ${visible(gate.claim)} (${verdict})`,
            width,
            '    ',
          ),
        ),
      )
      for (const because of gate.because.slice(0, mostNames))
        lines.push(wrapped(`      ${visible(because)}`, width, '      '))
      if (gate.because.length > mostNames) lines.push(`      and ${gate.because.length - mostNames} more`)
      if (gate.hint !== null) lines.push(paint.faint(wrapped(`      ${visible(gate.hint)}`, width, '      ')))
    }
  }
  return lines
}

/** Null where nobody needs the old CA any more. */
function timeText(time: TimeLeft, now: Instant): string | null {
  const { state, ends, startBy, lastStart, least, usual, requests } = time
  if (state === 'none-needed' || ends === null || startBy === null || lastStart === null) return null
  const what =
    requests === 0
      ? 'Once this step’s gates hold nobody needs the old CA'
      : `${plural(requests, 'pull request')} to merge until nobody needs the old CA`
  const ahead = `${what}, which ends ${ends.slice(0, 10)} (${daysText(ends, now)}): ${spanText(least)} at the least, usually ${spanText(usual)}.`
  if (state === 'in-time')
    return `${ahead} Go on by ${startBy.slice(0, 10)} (${daysText(startBy, now)}), or at the latest by ${lastStart.slice(0, 10)}.`
  if (state === 'hurry')
    return `${ahead} It is late: merge each when it opens, and have holders renew at once; after ${lastStart} there is no way without an outage.`
  return `${ahead} It is too late for a way without an outage since ${lastStart}; \`reanchor inspect\` tells which strategies still fit.`
}

function drainText(drain: Drain, known: readonly StatusExpiry[], paint: Paint, width: number): readonly string[] {
  const [first = '', ...names] = drainLines(drain, known)
  const mark = !drain.begun
    ? '·'
    : drain.left > 0
      ? verdictMarks.pending
      : drain.unseen > 0
        ? verdictMarks.unknown
        : verdictMarks.holds
  const colour = mark === '·' ? paint.faint : mark === verdictMarks.holds ? paint.good : paint.wait
  return [
    colour(wrapped(`  ${mark} ${visible(drain.site)}: ${first}`, width, '    ')),
    ...names.map(name => wrapped(`    ${name}`, width, '      ')),
  ]
}

function undoLine(window: UndoWindow, paint: Paint, width: number): string {
  const { verdict, judged, before } = window
  const mark = before === null ? '·' : verdictMarks[verdict]
  const ask = verdict === 'holds' && judged === 'plan' ? ' So says the plan; `status --live` asks what runs.' : ''
  const text = wrapped(`  ${mark} ${visible(undoSentence(window))}${ask}`, width, '    ')
  if (verdict === 'holds') return paint.good(text)
  return before === null ? paint.faint(text) : verdict === 'violated' ? paint.bad(text) : paint.wait(text)
}

/** `in 40 days`, `12 days ago`. */
export function daysText(date: Instant, now: Instant): string {
  const days = Math.floor((Date.parse(date) - Date.parse(now)) / 86_400_000)
  return days < 0 ? `${plural(-days, 'day')} ago` : `in ${plural(days, 'day')}`
}
