import { findStep, type PlanStep, stepFolder, stepsOf } from '../plan/steps.ts'
import type { StepTime } from '../plan/time-left.ts'
import type {
  Digest,
  GateResult,
  Instant,
  Plan,
  PlannedPhase,
  PlannedStep,
  Proof,
  ProvenTransition,
  TrustState,
  Verdict,
} from '../rotation.ts'
import type { UndoWindow } from '../safety/until-when.ts'
import { systemOf } from '../systems/systems.ts'
import { code, listed, plural, prose, sentence, visible } from './escape.ts'
import { spanText } from './span.ts'
import { type TrustChange, trustDiffMarkdown } from './trust-diff.ts'
import { undoSentence } from './undo-text.ts'

/** What a pull request does: `plan` shows a plan, `step` enters a step, `undo` and `nudge` belong to a step, `close` ends the rotation. */
export type PullRequestKind = 'plan' | 'step' | 'undo' | 'nudge' | 'close'

export interface EvidenceReference {
  readonly site: string
  /** File in the repository. */
  readonly file: string
  readonly digest: Digest
  /** When it was seen, by the cluster's clock. */
  readonly seenAt: Instant
  /** Whose word it is; null: it is unsigned. */
  readonly signedBy: string | null
}

/** Everything that a pull request's text is made of. */
export interface PullRequestView {
  readonly plan: Plan
  /** SHA-256 of plan.yaml as committed. */
  readonly planDigest: Digest
  readonly kind: PullRequestKind
  /** Number of the phase and of the step; for `plan` both 0. */
  readonly phase: number
  readonly step: number
  /** The batch: names of the sites that this pull request changes. */
  readonly sites: readonly string[]
  readonly change: TrustChange | null
  /** Gates of what came before; empty where nothing did. */
  readonly gates: readonly GateResult[]
  readonly evidence: readonly EvidenceReference[]
  readonly proof: Proof | null
  /** What a person has left to do, such as deleting `istio-ca-secret`: one sentence each. */
  readonly cleanUp?: readonly string[]
  /** What a person must do before merging: one sentence each. */
  readonly first?: readonly string[]
  /** Sentences that stand first, such as the price of an emergency. */
  readonly warnings?: readonly string[]
  /** How long the step lasts, for who watches; absent: not told. */
  readonly lasts?: StepTime
  /** Until when the step can be taken back; of a plan all its steps, of the closing pull request none. */
  readonly undo: readonly UndoWindow[]
}

export interface Marker {
  readonly plan: Digest
  readonly phase: number
  readonly step: number
}

// GitHub refuses a title of more than 256 characters, GitLab of more than 255.
const longestTitle = 240
// GitHub refuses a body of more than 65,536 characters.
const longestBody = 60_000

export function pullRequestTitle(view: Pick<PullRequestView, 'plan' | 'kind' | 'phase' | 'step' | 'sites'>): string {
  const { plan, kind } = view
  const name = visible(plan.metadata.name)
  const at = (what: string): string => {
    const sites = view.sites.map(visible)
    const whole = `${name}: ${what} · ${sites.join(', ')}`
    if (sites.length === 0) return `${name}: ${what}`
    return whole.length <= longestTitle ? whole : cut(`${name}: ${what} · ${listed(sites, 3)}`, longestTitle)
  }
  if (kind === 'plan') return at('plan the rotation')
  if (kind === 'close') return at('close the rotation')
  const phase = phaseOf(plan, view.phase)
  const place = `(phase ${view.phase} of ${countedPhases(plan)}${stepPart(phase, view.step)})`
  const way = kind === 'step' ? '' : `${kind}: `
  return at(`${way}${visible(phase.title)} ${place}`)
}

function stepPart(phase: PlannedPhase, step: number): string {
  return phase.steps.length > 1 ? `, step ${step} of ${phase.steps.length}` : ''
}

/** The phases that change trust: `adopt` (0) and the closing one are not counted. */
export function countedPhases(plan: Plan): number {
  return plan.phases.filter(phase => phase.number > 0 && phase.steps.some(step => Object.keys(step.sites).length > 0))
    .length
}

function markerText(marker: Marker): string {
  return `<!-- reanchor:plan=${marker.plan} phase=${marker.phase} step=${marker.step} -->`
}

/** The marker that a body carries, or null. Only its first line counts: the rest quotes what others wrote. */
export function readMarker(body: string): Marker | null {
  const found = /^<!-- reanchor:plan=([0-9a-f]{64}) phase=(\d+) step=(\d+) -->\s*$/.exec(body.split('\n', 1)[0] ?? '')
  return found === null ? null : { plan: found[1] ?? '', phase: Number(found[2]), step: Number(found[3]) }
}

/** How much of each list is shown; the first level whose text fits is taken. */
interface Detail {
  readonly places: number
  readonly gates: number
  readonly names: number
  readonly rows: number
}

const details: readonly Detail[] = [
  { places: 40, gates: 60, names: 20, rows: 60 },
  { places: 12, gates: 20, names: 8, rows: 20 },
  { places: 3, gates: 8, names: 3, rows: 6 },
]

/** The body in Markdown, at most `limit` characters: what does not fit is counted, never silently left out. */
export function pullRequestBody(view: PullRequestView, limit = longestBody): string {
  for (const detail of details) {
    const body = bodyAt(view, detail)
    if (body.length <= limit) return body
  }
  const body = bodyAt(view, { places: 1, gates: 3, names: 1, rows: 2 })
  return body.length <= limit
    ? body
    : cut(body, limit - 60, '\n\n… cut: `reanchor status` and `reanchor diff` show all.\n')
}

function bodyAt(view: PullRequestView, detail: Detail): string {
  const sections = [
    markerText({ plan: view.planDigest, phase: view.phase, step: view.step }),
    introduction(view),
    ...(view.warnings ?? []).map(warning => `> **${sentence(warning)}**`),
    beforeMerging(view, detail),
    plannedCertificates(view, detail),
    whatChanges(view, detail),
    wiredFiles(view, detail),
    whoIsAffected(view, detail),
    gateBefore(view, detail),
    safety(view, detail),
    drawing(view),
    watch(view),
    undoing(view, detail),
    cleaning(view),
  ]
  return `${sections.filter(section => section !== '').join('\n\n')}\n`
}

function introduction(view: PullRequestView): string {
  const { plan, kind } = view
  const sites =
    view.sites.length === 0
      ? ''
      : ` at ${view.sites.slice(0, 8).map(code).join(', ')}${view.sites.length > 8 ? ` and ${view.sites.length - 8} more` : ''}`
  if (kind === 'plan') {
    return `The plan of rotation ${code(plan.metadata.name)} (${plan.strategy})${sites}: every step, rendered and sealed. Merging it changes nothing that is deployed.`
  }
  if (kind === 'close')
    return `Closes rotation ${code(plan.metadata.name)}: adds the last evidence and removes the sealed copies. Nothing that is deployed changes.`
  const step = stepOf(plan, view.phase, view.step)
  if (kind === 'undo') return `Goes back one step from ${code(labelOf(view))}${sites}. It removes no object.`
  if (kind === 'nudge') return `The same trust as ${code(labelOf(view))}${sites}: ${systemOf(plan.system).words.nudge}.`
  return `${sentence(step?.what ?? '')} This is ${code(labelOf(view))}${sites}.`
}

function beforeMerging(view: PullRequestView, detail: Detail): string {
  const lines = view.first ?? []
  if (lines.length === 0) return ''
  const more = lines.length - detail.rows
  return [
    '### Before you merge',
    '',
    ...lines.slice(0, detail.rows).map(line => `- ${sentence(line)}`),
    ...(more > 0 ? [`- and ${more} more`] : []),
  ].join('\n')
}

function whatChanges(view: PullRequestView, detail: Detail): string {
  if (view.change === null) return ''
  const settings = settingsChanged(view)
  const lines = [
    ...(view.change.none && settings.length > 0
      ? ['No file that holds a certificate changes.']
      : [trustDiffMarkdown(view.change, { most: detail.places, roles: rolesOf(view.plan) }).trimEnd()]),
    ...settings.slice(0, detail.rows),
    ...(settings.length > detail.rows ? [`and ${settings.length - detail.rows} more`] : []),
  ]
  return ['### What changes', ...lines].join('\n\n')
}

/** `old-root` as people read it, by fingerprint. */
function rolesOf({ certificates }: Plan): ReadonlyMap<string, string> {
  return new Map(certificates.map(({ sha256, role }) => [sha256, role.replaceAll('-', ' ')]))
}

/** What a step sets and restarts beside the certificates, told once for all sites where it is the same. */
function settingsChanged(view: PullRequestView): readonly string[] {
  if (view.kind !== 'step') return []
  const { words } = systemOf(view.plan.system)
  const found = new Map<string, string[]>()
  for (const site of view.sites) {
    const now = stepOf(view.plan, view.phase, view.step)?.sites[site]?.state
    const before = stateBefore(view, site)
    if (now === undefined || before === undefined) continue
    for (const line of [
      ...changedKeys(before.settings, now.settings)
        .filter(([key]) => words.toldElsewhere?.(key) !== true)
        .map(([key, from, to]) => `**setting** ${code(key)}: ${settingValue(from)} → ${settingValue(to)}`),
      ...changedKeys(before.restarts, now.restarts).map(
        ([key, from, to]) => `**restart** of ${code(key)}: token ${settingValue(from)} → ${settingValue(to)}`,
      ),
    ])
      found.set(line, [...(found.get(line) ?? []), site])
  }
  return [...found].map(([line, sites]) =>
    sites.length === view.sites.length ? line : `${line} (${sites.slice(0, 8).map(code).join(', ')})`,
  )
}

/** The site's state in the step before; of the first step nothing can be told: what was there before reanchor is not its own. */
function stateBefore(view: PullRequestView, site: string): TrustState | undefined {
  return placeBefore(view)?.step.sites[site]?.state
}

function placeBefore(view: PullRequestView): PlanStep | undefined {
  const at = findStep(view.plan, view.phase, view.step)
  return at === null ? undefined : stepsOf(view.plan)[at.index - 1]
}

type ChangedKey = readonly [key: string, before: string | undefined, after: string | undefined]

function changedKeys(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): readonly ChangedKey[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter(key => before[key] !== after[key])
    .map(key => [key, before[key], after[key]])
}

/** Fingerprints by their first digits, as everywhere in these texts. */
function settingValue(value: string | undefined): string {
  if (value === undefined || value === '') return 'none'
  return code(
    cut(
      value.replace(/\b[0-9a-f]{64}\b/g, sha256 => sha256.slice(0, 12)),
      120,
    ),
  )
}

function whoIsAffected(view: PullRequestView, detail: Detail): string {
  const lines = (view.change?.affected ?? []).map(sentence)
  if (lines.length === 0) return ''
  const more = lines.length - detail.gates
  return [
    '### Who is affected',
    '',
    ...lines.slice(0, detail.gates).map(line => `- ${line}`),
    ...(more > 0 ? [`- and ${more} more`] : []),
  ].join('\n')
}

/** Who is to be trusted: the one thing that a reviewer of a plan must hold against another source. */
function plannedCertificates(view: PullRequestView, detail: Detail): string {
  if (view.kind !== 'plan') return ''
  const { certificates, phases } = view.plan
  const lines = ['### What the plan holds', '', '| role | subject | SHA-256 | key | ends |', '|---|---|---|---|---|']
  for (const each of certificates.slice(0, detail.rows))
    lines.push(
      `| ${prose(each.role)} | ${code(each.subject)} | ${code(each.sha256)} | ${sentence(each.key)} | ${each.notAfter.slice(0, 10)} |`,
    )
  if (certificates.length > detail.rows)
    lines.push(`| | and ${plural(certificates.length - detail.rows, 'more certificate')} | | | |`)
  const to = phases.filter(phase => phase.steps.some(step => Object.keys(step.sites).length > 0))
  lines.push(
    '',
    `Still to come, each with pull requests of its own: ${to.map(phase => `${prose(phase.title)} (${plural(phase.steps.length, 'step')})`).join(', ')}, then the closing one.`,
  )
  return lines.join('\n')
}

/** The users' own files that `adopt` edits, which no later step touches. */
function wiredFiles(view: PullRequestView, detail: Detail): string {
  if (view.kind !== 'step' || view.phase !== 0) return ''
  const points = view.plan.wiring.filter(point => view.sites.includes(point.site))
  if (points.length === 0) return ''
  const more = points.length - detail.rows
  return [
    '### Files outside of the site folders, edited this once',
    '',
    ...points
      .slice(0, detail.rows)
      .map(
        point =>
          `- ${code(point.file)}${point.edit.kind === 'create' ? ' (new)' : ''}: ${sentence(point.purpose)} (${code(point.site)})`,
      ),
    ...(more > 0 ? [`- and ${more} more`] : []),
  ].join('\n')
}

interface ClaimRow {
  readonly id: string
  readonly claim: string
  readonly verdict: Verdict
  readonly sites: number
  readonly of: number
  readonly conform: number
  readonly counted: boolean
  readonly because: readonly string[]
}

const verdictRank: Readonly<Record<Verdict, number>> = { violated: 0, unknown: 1, pending: 2, holds: 3 }

function gateBefore(view: PullRequestView, detail: Detail): string {
  if (view.gates.length === 0 && view.evidence.length === 0) return ''
  const rows = claimRows(view.gates)
  const before = stepBefore(view)
  const lines = ['### What was seen before this', '']
  if (rows.length > 0) {
    const open = rows.filter(row => row.verdict !== 'holds')
    const whose = before === null ? 'the step before' : `${code(before)}, the step before`
    const said =
      open.length === 0 ? `All ${rows.length} claims hold` : `${open.length} of ${rows.length} claims do not hold`
    lines.push(`${said}. They are about ${whose}: what they call planned is what that step planned.`, '')
    const many = rows.some(row => row.sites > 1)
    const table = [
      many ? '| verdict | claim | counted | sites |' : '| verdict | claim | counted |',
      many ? '|---|---|---|---|' : '|---|---|---|',
      ...rows
        .slice(0, detail.gates)
        .map(
          row =>
            `| **${row.verdict}** | ${sentence(row.claim)} (${code(row.id)}) | ${countedText(row)} |${many ? ` ${row.sites} |` : ''}`,
        ),
      ...(rows.length > detail.gates
        ? [`| | and ${plural(rows.length - detail.gates, 'more claim')} | |${many ? ' |' : ''}`]
        : []),
    ]
    // What holds is there to be looked up; what does not is there to be read.
    if (open.length === 0)
      lines.push('<details><summary>Each claim, and what was counted</summary>', '', ...table, '', '</details>', '')
    else lines.push(...table, '')
  }
  const named = rows.flatMap(row => row.because.map(because => `- ${code(row.id)}: ${sentence(because)}`))
  if (named.length > 0) {
    lines.push('Named exceptions:', '', ...named.slice(0, detail.names))
    if (named.length > detail.names) lines.push(`- and ${named.length - detail.names} more, in the evidence`)
    lines.push('')
  }
  const shown = view.evidence.slice(0, detail.rows)
  for (const evidence of shown)
    lines.push(
      `- ${code(evidence.site)}: ${code(evidence.file)}, SHA-256 ${code(evidence.digest)}, seen at ${evidence.seenAt}, ${evidence.signedBy === null ? 'unsigned' : `signed by ${prose(evidence.signedBy)}`}`,
    )
  if (view.evidence.length > shown.length)
    lines.push(`- and evidence of ${plural(view.evidence.length - shown.length, 'more site')}`)
  return lines.join('\n').trimEnd()
}

/** None where nothing is counted: that nobody is declared is not that all were seen. */
function countedText({ counted, conform, of }: ClaimRow): string {
  if (!counted) return ''
  return of === 0 ? 'none there' : `${conform} of ${of}`
}

/** The step that these gates are about; null where nothing, or not a step, precedes. */
function stepBefore(view: PullRequestView): string | null {
  if (view.kind === 'undo' || view.kind === 'nudge') return labelOf(view)
  const before =
    view.kind === 'close'
      ? stepsOf(view.plan).findLast(({ step }) => Object.keys(step.sites).length > 0)
      : placeBefore(view)
  return before === undefined ? null : stepFolder(before)
}

/** One row per claim, all sites taken together; what does not hold comes first. */
function claimRows(gates: readonly GateResult[]): readonly ClaimRow[] {
  const rows = new Map<string, ClaimRow>()
  for (const gate of gates) {
    const row = rows.get(gate.id)
    rows.set(gate.id, {
      id: gate.id,
      claim: gate.claim,
      verdict: row === undefined || verdictRank[gate.verdict] < verdictRank[row.verdict] ? gate.verdict : row.verdict,
      sites: (row?.sites ?? 0) + 1,
      of: (row?.of ?? 0) + (gate.counted?.of ?? 0),
      conform: (row?.conform ?? 0) + (gate.counted?.conform ?? 0),
      counted: (row?.counted ?? false) || gate.counted !== null,
      because: [...(row?.because ?? []), ...gate.because.map(because => `${gate.site}: ${because}`)],
    })
  }
  return [...rows.values()].sort((a, b) => verdictRank[a.verdict] - verdictRank[b.verdict])
}

function safety(view: PullRequestView, detail: Detail): string {
  const { proof, kind } = view
  if (proof === null || kind === 'close') return ''
  const label = labelOf(view)
  const of = (row: ProvenTransition): boolean => kind === 'plan' || row.to === label || row.to.startsWith(`${label} `)
  const rows = proof.transitions.filter(of)
  const lines = ['### Safety', '']
  if (rows.length > 0) {
    lines.push(
      'Computed, not tried: every handshake between the two steps of a row, whoever has taken the second one up by then and whoever has not.',
      '',
    )
    lines.push('| from | to | sites | mixes | handshakes | | good until |', '|---|---|---|---|---|---|---|')
    for (const row of rows.slice(0, detail.rows)) {
      const site = row.site === '*' ? 'across sites' : code(row.site)
      lines.push(
        `| ${code(row.from)} | ${code(row.to)} | ${site} | ${row.mixes} | ${row.handshakes} | ${row.counterexample === null ? 'safe' : '**breaks**'} | ${row.goodUntil?.slice(0, 10) ?? ''} |`,
      )
    }
    if (rows.length > detail.rows)
      lines.push(
        `| and ${plural(rows.length - detail.rows, 'more transition')} | | | | | ${rows.slice(detail.rows).every(row => row.counterexample === null) ? 'safe' : '**breaks**'} | |`,
      )
  } else if (kind === 'step' && view.phase === 0) lines.push('Nothing that verifies or presents a certificate changes.')
  else lines.push('The proof given here says nothing about this step: see `reanchor prove`.')
  const counterexample = rows.find(row => row.counterexample !== null)?.counterexample
  if (counterexample !== undefined && counterexample !== null)
    lines.push('', `> **${sentence(counterexample.sentence)}**`)
  for (const note of proof.notes.slice(0, detail.names)) lines.push('', `Note: ${sentence(note)}`)
  return lines.join('\n')
}

function drawing(view: PullRequestView): string {
  const phases = view.plan.phases
  const present = view.kind === 'plan' ? -1 : view.phase
  const nodes = phases.map(phase => `  p${phase.number}["${mermaidText(phase.title)}"]`)
  const arrows = phases.length > 1 ? [`  ${phases.map(phase => `p${phase.number}`).join(' --> ')}`] : []
  const done = phases.filter(phase => phase.number < present).map(phase => `p${phase.number}`)
  const marks = [
    ...(done.length > 0 ? [`  class ${done.join(',')} done`] : []),
    ...(phases.some(phase => phase.number === present) ? [`  class p${present} now`] : []),
  ]
  return [
    '### Where this stands',
    '',
    '```mermaid',
    'flowchart LR',
    ...nodes,
    ...arrows,
    '  classDef done stroke-dasharray:3',
    '  classDef now stroke-width:4px',
    ...marks,
    '```',
  ].join('\n')
}

function mermaidText(text: string): string {
  return visible(text)
    .replace(/[^A-Za-z0-9 .,:()/+-]/g, char => (char.charCodeAt(0) < 128 ? ' ' : char))
    .replace(/`/g, ' ')
}

function watch(view: PullRequestView): string {
  if (view.kind === 'plan' || view.kind === 'close') return ''
  const { words } = systemOf(view.plan.system)
  const phase = phaseOf(view.plan, view.phase)
  const lines = [
    ...restarting(view),
    ...lasting(view),
    ...words.watch(phase.name, view.plan),
    ...(view.phase === 0 ? [] : [words.alarm]),
  ]
  lines.push('`reanchor verify --wait` tells who has taken it up and who has not.')
  return ['### What to watch while it rolls out', '', ...lines.map(line => `- ${sentence(line)}`)].join('\n')
}

/** Who restarts at the merge, told once for all sites. Of `adopt` the system's own words tell it, and of ways back the introduction. */
function restarting(view: PullRequestView): readonly string[] {
  if (view.kind !== 'step' || view.phase === 0) return []
  const { words } = systemOf(view.plan.system)
  const who = new Set<string>()
  for (const site of view.sites) {
    const now = stepOf(view.plan, view.phase, view.step)?.sites[site]?.state
    const before = stateBefore(view, site)
    if (now === undefined || before === undefined) return []
    for (const each of words.restarting?.(before, now) ?? []) who.add(each)
    for (const [key] of changedKeys(before.restarts, now.restarts)) who.add(code(key))
  }
  return [who.size === 0 ? 'Nothing restarts at this merge.' : `Restarts at this merge: ${listed([...who], 8)}.`]
}

/** From the last change on, as no one knows how long workloads take to roll. */
function lasting({ kind, lasts, plan }: PullRequestView): readonly string[] {
  if (lasts === undefined || kind !== 'step') return []
  const { gates, renewal } = lasts
  const renewed = renewal === 0 ? '' : `; leaves that nobody hurries are renewed within ${spanText(renewal)}`
  const leaf = plan.leafHours * 3_600_000
  const overdue = leaf === 0 || renewal === 0 ? '' : ` What is pending ${spanText(leaf)} after that counts as violated.`
  return [
    `Its gate holds ${spanText(gates)} after the last change at the earliest${renewed}: watch until then.${overdue}`,
  ]
}

function undoing(view: PullRequestView, detail: Detail): string {
  const head = '### How to undo\n\n'
  if (view.kind === 'close')
    return `${head}There is no way back from here: it takes the copies of all steps away, and going back to the old root is a new rotation.`
  if (view.kind === 'plan')
    return `${head}Close or revert this pull request: nothing is deployed.${undoTable(view.undo, detail)}`
  if (view.kind === 'undo')
    return `${head}${sentence('`reanchor next` enters the step again. Going back further is `reanchor undo` once more, when this has reached everyone: `reanchor status --live` tells from when that is safe.')}`
  const [window] = view.undo
  if (window === undefined) return ''
  const told = sentence(undoSentence(window))
  if (window.verdict !== 'holds') return `${head}${told}`
  return `${head}${sentence('`reanchor undo` opens the pull request that goes back one step.')} ${told} ${sentence('`reanchor status --live` holds that against what runs then, and a `git revert` is judged by `reanchor check` before it is merged.')}`
}

/** Of a plan: until when each of its steps can be taken back, as far as certificates bound it. */
function undoTable(windows: readonly UndoWindow[], detail: Detail): string {
  if (windows.length === 0) return ''
  const rows = windows
    .slice(0, detail.rows)
    .map(({ step, verdict, until, before, because }) =>
      verdict === 'holds'
        ? `| ${code(step ?? '')} | ${until ?? 'no date'} | ${before === 'close' ? 'the closing pull request' : code(before ?? '')} | ${sentence(because)} |`
        : `| ${code(step ?? '')} | **never** | | ${sentence(because)} |`,
    )
  const more = windows.length - rows.length
  return [
    '',
    '',
    'Once a step is merged, `reanchor undo` takes it back until a date, or until the next one is merged:',
    '',
    '| step | until | or until the merge of | because |',
    '|---|---|---|---|',
    ...rows,
    ...(more > 0 ? [`| and ${plural(more, 'more step')} | | | |`] : []),
  ].join('\n')
}

function cleaning(view: PullRequestView): string {
  const lines = view.cleanUp ?? []
  return lines.length === 0 ? '' : ['### Left to clean up', '', ...lines.map(line => `- ${sentence(line)}`)].join('\n')
}

function labelOf(view: Pick<PullRequestView, 'plan' | 'phase' | 'step'>): string {
  const phase = view.plan.phases.find(found => found.number === view.phase)
  const step = phase?.steps.find(found => found.number === view.step)
  return `${view.phase}-${phase?.name ?? ''}/${view.step}-${step?.name ?? ''}`
}

function stepOf(plan: Plan, phase: number, step: number): PlannedStep | undefined {
  return plan.phases.find(found => found.number === phase)?.steps.find(found => found.number === step)
}

function phaseOf(plan: Plan, number: number): PlannedPhase {
  return (
    plan.phases.find(phase => phase.number === number) ?? {
      number,
      name: `phase-${number}`,
      title: `phase ${number}`,
      steps: [],
    }
  )
}

/** Cut at a whole character. */
function cut(text: string, most: number, end = '…'): string {
  return text.length <= most ? text : `${text.slice(0, most - end.length).replace(/[\ud800-\udbff]$/, '')}${end}`
}
