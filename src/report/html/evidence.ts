import { plural } from '../escape.ts'
import type { ReportEvidence, ReportView } from '../report-view.ts'
import { html, type Markup, nothing } from './markup.ts'
import { seenText } from './matrix.ts'
import { cutLines, day, table, time, unfolding, verdictMark } from './parts.ts'

/** What was seen, look by look; each unfolds to its gates, its groups and every exception by name. */
export function evidencePart({ evidence }: ReportView): Markup {
  if (evidence.length === 0) return html`<p class="soft">No evidence is committed yet.</p>`
  const [whole, rest] = evidence.length <= mostWhole ? [evidence, []] : parted(evidence)
  return html`${whole.map((each, index) => unfolding(title(each), content(each, index)))}
${
  rest.length === 0
    ? nothing
    : html`<p>Of a fleet only looks at which something did not hold, or somebody was an exception, unfold, the newest ${mostWhole} of them. All of it is in the files.</p>
${restTable(rest)}`
}`
}

/** A page of more looks than this would be too large to open. */
const mostWhole = 60

/** Those that are worth a look of one's own, as many as fit, and the rest. */
function parted(evidence: readonly ReportEvidence[]): readonly [readonly ReportEvidence[], readonly ReportEvidence[]] {
  const odd = ({ exceptions, gates, counts }: ReportEvidence): boolean =>
    !counts || exceptions.length > 0 || gates.some(gate => gate.verdict !== 'holds')
  const whole = new Set(evidence.filter(odd).slice(-mostWhole))
  return [[...whole], evidence.filter(each => !whole.has(each))]
}

function restTable(rest: readonly ReportEvidence[]): Markup {
  const gatesText = ({ gates }: ReportEvidence): string =>
    `${gates.filter(gate => gate.verdict === 'holds').length} of ${gates.length} held`
  return table(
    {
      id: 'evidence-table',
      caption: 'The other looks',
      columns: [{ title: 'Look' }, { title: 'When' }, { title: 'Gates' }, { title: 'Observation' }],
    },
    rest.map(each => [
      html`${each.label} <small class="soft">at ${each.site}</small>`,
      time(each.to),
      gatesText(each),
      html`<code>${each.observation.slice(0, 12)}</code>`,
    ]),
  )
}

function title({ label, site, to, gates, counts, file }: ReportEvidence): Markup {
  const held = gates.filter(gate => gate.verdict === 'holds').length
  return html`${label} at ${site} <small>${file === null ? 'just now, ' : ''}${time(to)}, ${held} of ${plural(gates.length, 'gate')} held${counts ? '' : ', does not count'}</small>`
}

function content(each: ReportEvidence, index: number): Markup {
  const { delivery } = each
  return html`<ul>
<li>Authorship: ${each.authorship}</li>
<li>Observation <code>${each.observation}</code>${each.file === null ? nothing : html`, in <code>${each.file}</code>`}</li>
<li>Cluster <code>${each.cluster}</code>, from ${time(each.from)} to ${time(each.to)}${each.complete ? '' : ', and a list came back incomplete'}</li>
<li>Delivered by ${delivery.kind === 'none' ? 'nobody that was looked at' : html`${delivery.object}, ${delivery.ready ? 'ready' : 'not ready'}`}${delivery.revision === null ? '' : html`, at <code>${delivery.revision.slice(0, 12)}</code>`}</li>
</ul>
${table(
  {
    id: `gates-${index}`,
    caption: `Gates of ${each.label} at ${each.site}, as of that look`,
    columns: [{ title: 'Claim' }, { title: 'Verdict' }, { title: 'Counted' }, { title: 'Because' }],
  },
  each.gates.map(gate => [
    gate.claim,
    verdictMark(gate.verdict),
    gate.counted === null ? 'not by number' : `${gate.counted.conform} of ${gate.counted.of}`,
    html`${cutLines(gate.because)}${gate.hint === null || gate.verdict === 'holds' ? nothing : html`<p class="soft">${gate.hint}</p>`}`,
  ]),
)}
${table(
  {
    id: `groups-${index}`,
    caption: `Consumers of ${each.site} that were seen alike`,
    columns: [{ title: 'Owner' }, { title: 'Class' }, { title: 'Seen' }, { title: 'Leaves end' }],
  },
  each.groups.map(group => [
    group.owner,
    group.consumer,
    seenText(group.seen),
    group.leavesExpire === null ? 'no leaf' : html`${day(group.leavesExpire.first)} to ${day(group.leavesExpire.last)}`,
  ]),
)}
${
  each.exceptions.length === 0
    ? html`<p>No exceptions.</p>`
    : table(
        {
          id: `exceptions-${index}`,
          caption: `Exceptions of ${each.site}, by name`,
          columns: [{ title: 'Name' }, { title: 'Class' }, { title: 'Verdict' }, { title: 'What was seen' }],
        },
        each.exceptions.map(({ name, consumer, verdict, detail }) => [name, consumer, verdictMark(verdict), detail]),
      )
}`
}
