import { plural } from '../escape.ts'
import type { MatrixRow, ReportStep, ReportView, SeenTrust } from '../report-view.ts'
import { trustCourse } from '../trust-matrix.ts'
import { html, type Markup, type Value } from './markup.ts'
import { chip, chips, issuers, nameList, table, unfolding } from './parts.ts'

/** Who presents and who trusts what: one table for the course, and one for each step by place. */
export function matrix(view: ReportView): Markup {
  return html`<ul class="legend">
<li>${chip('old', 'old')} dashed: the CA that goes</li>
<li>${chip('new', 'new')} full: the CA that comes</li>
<li>${chip('other', 'other')} dotted: not of the plan</li>
</ul>
${course(view)}
<h3>By place</h3>
${view.steps.map((step, index) =>
  unfolding(
    html`${step.label} <small>${step.title}, <span class="mark ${step.mark}">${step.mark}</span></small>`,
    places(step, index),
    step.mark === 'now',
  ),
)}`
}

/** The whole course in one table: rows of the same step that differ by site alone are told apart by name. */
function course({ steps }: ReportView): Markup {
  const rows = steps.flatMap((step): readonly (readonly Value[])[] =>
    trustCourse(step.matrix).map(({ sites, presents, trusts }, _, all) => [
      html`${step.label}${all.length === 1 ? '' : html` <small class="soft">${nameList(sites, 3)}</small>`}`,
      html`<span class="mark ${step.mark}">${step.mark}</span>`,
      presents === null ? 'nothing' : html`leaves of ${issuers(presents)}`,
      trusts === null ? 'nothing' : chips(trusts),
    ]),
  )
  return table(
    {
      id: 'course-table',
      caption: 'What is presented and what is trusted once each step has reached everyone',
      columns: [{ title: 'Step' }, { title: 'State' }, { title: 'Holders present' }, { title: 'Verifiers trust' }],
    },
    rows,
  )
}

function places(step: ReportStep, index: number): Markup {
  return table(
    {
      id: `place-table-${index}`,
      caption: `Who presents and who trusts what after ${step.label}, as planned and as seen`,
      columns: [{ title: 'Place' }, { title: 'Presents' }, { title: 'Trusts' }, { title: 'Seen' }],
    },
    step.matrix.map(row => [
      html`${row.party} <small class="soft">at ${nameList(row.sites, 3)}</small>`,
      row.presents === null ? 'nothing of this CA' : issuers(row.presents),
      row.trusts === null ? 'nobody by this CA' : chips(row.trusts),
      seenCell(row),
    ]),
  )
}

function seenCell({ seen }: MatrixRow): Markup {
  if (seen.length === 0) return html`<span class="soft">not looked at, or none there</span>`
  return html`<ul>${seen.map(each => html`<li>${seenText(each)}</li>`)}</ul>`
}

export function seenText({ count, presents, trusts }: SeenTrust): Markup {
  const says = [
    presents === null ? null : html`presenting leaves of ${issuers(presents)}`,
    trusts === null ? null : html`trusting ${trusts.length === 0 ? 'nothing' : chips(trusts)}`,
  ].filter(each => each !== null)
  const text = says.length === 0 ? [html`that showed neither`] : says
  return html`${plural(count, 'consumer')} ${text.map((each, index) => html`${index === 0 ? '' : ', '}${each}`)}`
}
