import type { Instant } from '../../rotation.ts'
import { plural } from '../escape.ts'
import type { Move, ReportEvidence, ReportStep, ReportView } from '../report-view.ts'
import { positionWords, type StatusPhase, takesText } from '../status.ts'
import { html, type Markup, nothing, sentence } from './markup.ts'
import { lines, nameList, table, time, unfolding } from './parts.ts'

const signs: Readonly<Record<StatusPhase['mark'], string>> = { done: '✔', now: '▶', ahead: '·' }
const words: Readonly<Record<StatusPhase['mark'], string>> = { done: 'done', now: 'now', ahead: 'ahead' }

/** Phases in their order, with when each site came to each of their steps. */
export function timeline(view: ReportView): Markup {
  return html`<ol class="timeline">
${view.status.phases.map(phase => phaseItem(view, phase))}</ol>`
}

function phaseItem(view: ReportView, phase: StatusPhase): Markup {
  const steps = view.steps.filter(step => step.phase === phase.number)
  return html`<li>
<span class="dot ${phase.mark}" aria-hidden="true">${signs[phase.mark]}</span>
<h3>${phase.number} ${phase.title} <span class="mark ${phase.mark}">${words[phase.mark]}</span></h3>
${phase.mark === 'done' ? nothing : html`<p class="soft">Takes ${takesText(phase.takes)}.</p>`}
${steps.map(step => stepPart(view, step))}</li>
`
}

function stepPart({ moves, evidence }: ReportView, step: ReportStep): Markup {
  const events = [
    ...moves.filter(move => move.label === step.label).map(moved),
    ...evidence.filter(each => each.label === step.label && each.counts).map(looked),
  ]
  const what = html`<p>${sentence(step.what)}</p>`
  if (events.length === 0) return what
  const rows = together(events)
  const list = html`<ul>${rows.map(({ at, sites, text }) => html`<li>${time(at)}: <strong>${nameList(sites)}</strong> ${sentence(text)}</li>`)}</ul>`
  return html`${what}${rows.length > 8 ? unfolding(html`${step.label} <small>${plural(rows.length, 'event')}</small>`, list) : list}`
}

interface Event {
  readonly at: Instant
  readonly sites: readonly string[]
  readonly text: string
}

function moved({ site, variant, commit, at }: Move): Event {
  const way = { step: 'came to this step', undo: 'was taken back', nudge: 'was nudged' }[variant]
  return { at, sites: [site], text: `${way} with commit \`${commit.slice(0, 12)}\`` }
}

function looked({ site, to, gates }: ReportEvidence): Event {
  const open = gates.filter(gate => gate.verdict !== 'holds').length
  const text =
    open === 0 ? 'was looked at: every gate held' : `was looked at: ${plural(open, 'gate did', 'gates did')} not hold`
  return { at: to, sites: [site], text }
}

/** What happened to several sites in the same minute is one line. */
function together(events: readonly Event[]): readonly Event[] {
  const found = new Map<string, Event>()
  for (const event of events) {
    const key = `${event.at.slice(0, 16)} ${event.text}`
    const before = found.get(key)
    found.set(key, before === undefined ? event : { ...before, sites: [...before.sites, ...event.sites] })
  }
  return [...found.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))
}

/** Where each site is now. Sites that stand alike are one row. */
export function sitesPart({ status, moves }: ReportView): Markup {
  const groups = new Map<string, { names: string[]; where: Markup; since: string | null }>()
  for (const site of status.sites) {
    const { text, fine, more } = positionWords(site)
    const since = moves.findLast(move => move.site === site.name)?.at ?? null
    const key = fine ? `${text} ${since}` : site.name
    const group = groups.get(key)
    if (group !== undefined) group.names.push(site.name)
    else
      groups.set(key, {
        names: [site.name],
        where: fine
          ? html`${text}`
          : html`<span class="verdict violated"><span aria-hidden="true">✕</span> off the plan</span> ${text}${more.length === 0 ? nothing : lines(more)}`,
        since,
      })
  }
  return table(
    {
      id: 'sites-table',
      caption: 'Where each site stands in Git, and since when',
      columns: [{ title: 'Sites' }, { title: 'At' }, { title: 'Since' }],
    },
    [...groups.values()].map(({ names, where, since }) => [
      nameList(names),
      where,
      since === null ? 'not told by this clone' : time(since),
    ]),
  )
}

export function requestsPart({ status }: ReportView): Markup {
  if (status.pullRequests.length === 0) return nothing
  return table(
    {
      id: 'requests-table',
      caption: 'Open pull requests of this rotation',
      columns: [{ title: 'Pull request' }, { title: 'State' }, { title: 'reanchor/gate' }],
    },
    status.pullRequests.map(({ number, title, state, gate }) => [
      `#${number} ${title}`,
      state,
      gate ?? 'nothing posted',
    ]),
  )
}
