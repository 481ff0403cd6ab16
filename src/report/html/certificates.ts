import type { CertificateEnd, ReportView } from '../report-view.ts'
import { html, type Markup } from './markup.ts'
import { certificateChip, day, daysText, table } from './parts.ts'

/** Days below which an end is worth a word. */
const soon = 30

/** When every CA ends, the first to end first. */
export function certificatesPart({ certificates }: ReportView): Markup {
  return table(
    {
      id: 'certificates-table',
      caption: 'Every CA of the plan and of the evidence, the first to end first',
      columns: [
        { title: 'CA' },
        { title: 'Ends' },
        { title: 'Days left' },
        { title: 'Subject' },
        { title: 'Key' },
        { title: 'SHA-256' },
      ],
    },
    certificates.map(each => [
      certificateChip(each),
      day(each.notAfter),
      daysCell(each),
      each.subject,
      each.key,
      html`<code>${each.sha256}</code>`,
    ]),
  )
}

function daysCell({ daysLeft }: CertificateEnd): Markup {
  if (daysLeft < 0)
    return html`<span class="verdict violated"><span aria-hidden="true">✕</span> ended ${daysText(daysLeft)}</span>`
  if (daysLeft < soon)
    return html`<span class="verdict pending"><span aria-hidden="true">!</span> soon, ${daysText(daysLeft)}</span>`
  return html`${daysText(daysLeft)}`
}
