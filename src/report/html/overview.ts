import { listed, plural } from '../escape.ts'
import type { ReportView } from '../report-view.ts'
import { undoSentence } from '../undo-text.ts'
import { html, type Markup, nothing, sentence } from './markup.ts'
import { day, daysText, time } from './parts.ts'

/** The few things that one wants to know first. */
export function overview(view: ReportView): Markup {
  const { status, behind, certificates } = view
  const now = status.phases.filter(({ mark }) => mark === 'now')
  const done = status.phases.filter(({ mark }) => mark === 'done').length
  const [first] = certificates
  const off = status.sites.filter(
    ({ position, wiring }) => wiring.length > 0 || !['at', 'absent'].includes(position.kind),
  )
  return html`<dl class="facts">
<div class="${off.length > 0 ? 'is-bad' : 'is-good'}"><dt>Where it stands</dt><dd>${whereText(view)} <small>${done} of ${plural(status.phases.length, 'phase')} behind every site${off.length > 0 ? `; ${listed(off.map(site => site.name))} off the plan` : ''}</small></dd></div>
<div class="${behind.length > 0 ? 'is-wait' : 'is-good'}"><dt>Behind</dt><dd>${behind.length === 0 ? 'Nobody who was seen' : plural(behind.length, 'consumer')} <small>${status.seen === null ? 'by the committed evidence' : html`seen ${time(status.seen.at)}`}</small></dd></div>
<div class="${undoClass(view)}"><dt>Undo</dt><dd>${undoWord(view)} <small>${status.undo.step === null ? '' : `of ${status.undo.step}`}</small></dd></div>
${first === undefined ? nothing : html`<div class="${first.daysLeft < 30 ? 'is-bad' : 'is-good'}"><dt>First CA to end</dt><dd>${daysText(first.daysLeft)} <small>${first.name}, ${day(first.notAfter)}</small></dd></div>`}
</dl>
${status.paused ? html`<p class="notice is-wait">The rotation is paused: nothing is opened until it goes on.</p>` : nothing}
${status.next === null ? nothing : html`<p class="notice"><strong>Next:</strong> ${sentence(status.next)}</p>`}
${now.length > 1 ? html`<p class="soft">Sites are in ${plural(now.length, 'phase')} at the same time.</p>` : nothing}`
}

function whereText({ status }: ReportView): string {
  if (status.phases.every(({ mark }) => mark === 'done')) return 'Closed'
  const now = status.phases.find(({ mark }) => mark === 'now')
  if (now !== undefined) return `Phase ${now.number}: ${now.title}`
  return status.sites.every(({ position }) => position.kind === 'absent') ? 'Not begun' : 'Between phases'
}

function undoWord({ status }: ReportView): string {
  const { verdict, before, until, from } = status.undo
  if (before === null) return 'No way back'
  if (verdict === 'holds') return until === null ? 'Safe now' : `Safe until ${until.slice(0, 10)}`
  if (verdict === 'pending') return from === null ? 'Not yet safe' : `Safe from ${from.slice(0, 10)} on`
  return verdict === 'unknown' ? 'Not known' : 'Not safe'
}

function undoClass({ status: { undo } }: ReportView): string {
  if (undo.verdict === 'holds') return 'is-good'
  return undo.before !== null && undo.verdict === 'violated' ? 'is-bad' : 'is-wait'
}

export function undoPart({ status }: ReportView): Markup {
  const { undo } = status
  const kind = undo.verdict === 'holds' ? 'is-good' : undo.before === null ? '' : undoClass({ status } as ReportView)
  return html`<p class="notice ${kind}">${sentence(undoSentence(undo))}</p>
${undo.verdict === 'holds' && undo.judged === 'plan' ? html`<p class="soft">So says the plan. <code>reanchor report --live</code> asks what runs.</p>` : nothing}`
}
