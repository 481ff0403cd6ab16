import type { Instant, Verdict } from '../../rotation.ts'
import { plural } from '../escape.ts'
import type { CertificateName } from '../report-view.ts'
import { constant, html, type Markup, nothing, type Value } from './markup.ts'

/** A verdict as word, sign and colour: none of them stands alone. */
export function verdictMark(verdict: Verdict): Markup {
  const signs: Readonly<Record<Verdict, string>> = { holds: '✔', pending: '…', violated: '✕', unknown: '?' }
  return html`<span class="verdict ${verdict}"><span aria-hidden="true">${signs[verdict]}</span> ${verdict}</span>`
}

/** The old CA has a dashed frame and an open circle, the new one a full frame and a full circle. */
export function certificateChip({ name, sha256, side }: CertificateName): Markup {
  return chip(side, html`${name} <code>${sha256.slice(0, 8)}</code>`)
}

export function chip(side: CertificateName['side'], content: Value): Markup {
  const signs = { old: '○', new: '●', other: '◇' } as const
  return html`<span class="chip ${side}"><span aria-hidden="true">${signs[side]}</span> ${content}</span>`
}

/** The CA of each site, where they are one kind: one chip that says how many. */
export function issuers(certificates: readonly CertificateName[]): Markup {
  const [first] = certificates
  if (first === undefined || certificates.length === 1) return chips(certificates)
  const { name, side } = first
  if (certificates.some(each => each.name !== name || each.side !== side)) return chips(certificates)
  return html`${chip(side, html`${name}, ${certificates.length} of them`)}`
}

export function chips(certificates: readonly CertificateName[]): Markup {
  return html`${certificates.map((each, index) => html`${index === 0 ? '' : html`<span class="plus"> and </span>`}${certificateChip(each)}`)}`
}

export function time(at: Instant): Markup {
  return html`<time datetime="${at}">${at.slice(0, 10)} ${at.slice(11, 16)} UTC</time>`
}

export function day(at: Instant): Markup {
  return html`<time datetime="${at}">${at.slice(0, 10)}</time>`
}

/** `in 40 days`, `today`, `12 days ago` */
export function daysText(days: number): string {
  if (days === 0) return 'within a day'
  return days < 0 ? `${plural(-days, 'day')} ago` : `in ${plural(days, 'day')}`
}

export interface Column {
  readonly title: string
  /** Numbers stand at the right. */
  readonly number?: true
}

/** A table that scrolls by itself where it is wider than the page, by keyboard too. The first cell of each row is its header. `id`: unique in the page. */
export function table(
  { id, caption, columns }: { readonly id: string; readonly caption: Value; readonly columns: readonly Column[] },
  rows: readonly (readonly Value[])[],
): Markup {
  const numbered = (index: number) => (columns[index]?.number === true ? ' class="number"' : '')
  const cell = (value: Value, index: number): Markup =>
    index === 0 ? html`<th scope="row">${value}</th>` : html`<td${constant(numbered(index))}>${value}</td>`
  return html`<div class="scroll" role="region" tabindex="0" aria-labelledby="${id}">
<table>
<caption id="${id}">${caption}</caption>
<thead><tr>${columns.map(({ title }, index) => html`<th scope="col"${constant(numbered(index))}>${title}</th>`)}</tr></thead>
<tbody>
${rows.map(row => html`<tr>${row.map(cell)}</tr>\n`)}</tbody>
</table>
</div>`
}

export function section(id: string, title: string, ...content: readonly Value[]): Markup {
  return html`<section id="${id}" aria-labelledby="${id}-title">
<h2 id="${id}-title">${title}</h2>
${content}
</section>`
}

export function unfolding(summary: Value, content: Value, open = false): Markup {
  return html`<details${open ? constant(' open') : ''}><summary>${summary}</summary>
<div class="unfolded">
${content}
</div>
</details>`
}

/** Names, cut where they are many; the rest unfolds. */
export function nameList(names: readonly string[], most = 6): Markup {
  if (names.length <= most) return html`${names.join(', ')}`
  return html`${names.slice(0, most).join(', ')}<details class="inline"><summary>and ${names.length - most} more</summary>${names.slice(most).join(', ')}</details>`
}

export function lines(texts: readonly string[]): Markup {
  return html`<ul>${texts.map(text => html`<li>${text}</li>`)}</ul>`
}

/** Reasons as a list; the later ones of a long one unfold. */
export function cutLines(texts: readonly string[], most = 5): Markup {
  if (texts.length <= most) return texts.length === 0 ? nothing : lines(texts)
  return html`${lines(texts.slice(0, most))}<details class="inline"><summary>and ${texts.length - most} more</summary>${lines(texts.slice(most))}</details>`
}
