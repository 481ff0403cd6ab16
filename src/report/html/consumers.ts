import { consumerRows } from '../consumer-counts.ts'
import type { ConsumerCounts, ReportView } from '../report-view.ts'
import { html, type Markup } from './markup.ts'
import { table, time } from './parts.ts'

/** How consumers moved from the old CA to the new, look by look. The bars repeat what the columns say. */
export function consumers({ consumers: counts }: ReportView): Markup {
  if (counts.length === 0)
    return html`<p class="soft">No evidence is committed yet: the first rides in the pull request after <code>adopt</code>.</p>`
  return html`<ul class="legend">
<li>${swatch('old')} old alone</li><li>${swatch('both')} old and new</li><li>${swatch('new')} new alone</li><li>${swatch('rest')} neither, or not seen</li>
</ul>
${table(
  {
    id: 'consumers-table',
    caption: 'Consumers at each look, by what they present and what they trust',
    columns: [
      { title: 'Look' },
      { title: 'Present' },
      { title: 'old', number: true },
      { title: 'new', number: true },
      { title: 'Trust' },
      { title: 'old', number: true },
      { title: 'both', number: true },
      { title: 'new', number: true },
      { title: 'Consumers', number: true },
      { title: 'Exceptions', number: true },
    ],
  },
  consumerRows(counts).map(row),
)}`
}

function row(each: ConsumerCounts) {
  const { presents, trusts, consumers: all } = each
  return [
    html`${each.label} <small class="soft">at ${each.site}${each.live ? ', just now' : ''}, ${time(each.at)}</small>`,
    bar(all, { old: presents.old, both: 0, new: presents.new }),
    presents.old,
    presents.new,
    bar(all, trusts),
    trusts.old,
    trusts.both,
    trusts.new,
    all,
    each.exceptions,
  ]
}

type Part = 'old' | 'both' | 'new' | 'rest'

/** Old is hatched one way, both the other way and new is plain: the parts differ without their colours. */
function bar(all: number, parts: Readonly<Record<'old' | 'both' | 'new', number>>): Markup {
  const rest = Math.max(0, all - parts.old - parts.both - parts.new)
  const total = Math.max(1, all)
  let at = 0
  const pieces: Markup[] = []
  for (const [part, count] of [...Object.entries(parts), ['rest', rest] as const] as [Part, number][]) {
    const width = Math.round((count / total) * 1000) / 10
    if (width > 0) pieces.push(piece(part, at, width))
    at += width
  }
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">${pieces}</svg>`
}

function piece(part: Part, at: number, width: number): Markup {
  const lines: Markup[] = []
  if (part === 'old' || part === 'both')
    for (let x = at + 2; x < at + width - 1; x += 4)
      lines.push(
        html`<line class="hatch" x1="${x}" y1="0" x2="${part === 'old' ? x : Math.min(x + 4, at + width)}" y2="10" vector-effect="non-scaling-stroke"/>`,
      )
  return html`<rect class="${part}" x="${at}" y="0" width="${width}" height="10"/>${lines}`
}

function swatch(part: Part): Markup {
  return html`<svg width="28" height="10" viewBox="0 0 28 10" class="bar-swatch bar" aria-hidden="true" focusable="false">${piece(part, 0, 28)}</svg>`
}
