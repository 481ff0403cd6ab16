import type { ReportView } from '../report-view.ts'
import type { StatusGate } from '../status.ts'
import { html, type Markup, nothing } from './markup.ts'
import { cutLines, day, table, time, verdictMark } from './parts.ts'

/** Who does not do yet what the step asks, by name. */
export function behindPart({ status, behind }: ReportView): Markup {
  const open = status.gates.filter(gate => gate.verdict !== 'holds')
  const asOf =
    status.seen === null
      ? html`<p class="soft">From the newest committed evidence, which rides in a pull request once its gates hold: it names who was excepted then. <code>reanchor report --live</code> tells who is behind now.</p>`
      : html`<p class="soft">Seen ${time(status.seen.at)}.</p>`
  const names =
    behind.length === 0
      ? html`<p>Nobody who was seen is behind.</p>`
      : table(
          {
            id: 'behind-table',
            caption: 'Who is behind, by name',
            columns: [
              { title: 'Name' },
              { title: 'Class' },
              { title: 'Site' },
              { title: 'Verdict' },
              { title: 'Why' },
              { title: 'Old leaf ends' },
            ],
          },
          behind.map(each => [
            each.name,
            each.consumer,
            each.site,
            verdictMark(each.verdict),
            each.why,
            each.ends === null ? 'not told' : day(each.ends),
          ]),
        )
  return html`${asOf}${names}${open.length === 0 ? nothing : gatesTable(open)}`
}

function gatesTable(open: readonly StatusGate[]): Markup {
  return table(
    {
      id: 'open-gates-table',
      caption: 'Gates that do not hold',
      columns: [{ title: 'Claim' }, { title: 'Site' }, { title: 'Verdict' }, { title: 'Because' }],
    },
    open.map(gate => [
      gate.claim,
      gate.site,
      verdictMark(gate.verdict),
      html`${cutLines(gate.because)}${gate.hint === null ? nothing : html`<p class="soft">${gate.hint}</p>`}`,
    ]),
  )
}
