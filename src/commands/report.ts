import { findStep, type PlanStep, stepFolder, stepsOf } from '../plan/steps.ts'
import { certificateNames } from '../report/certificate-names.ts'
import { consumerCounts } from '../report/consumer-counts.ts'
import type { Behind, CertificateEnd, Move, ReportEvidence, ReportStep, ReportView } from '../report/report-view.ts'
import type { StatusView } from '../report/status.ts'
import { seenTrust, trustMatrix } from '../report/trust-matrix.ts'
import { positionOf } from '../repository/position.ts'
import type { Evidence, GateResult, Plan } from '../rotation.ts'
import { authorshipText } from '../verify/authorship.ts'
import { instantOf } from '../verify/values.ts'
import { readAttestations } from './attest.ts'
import type { Context } from './context.ts'
import { type CommittedEvidence, committedEvidence, newestEvidence, presentAt } from './evidence.ts'
import { judgedWritten } from './judge-written.ts'
import type { OpenRotation } from './rotation.ts'
import { statusView } from './status.ts'
import type { SiteLook } from './verify.ts'

/** The whole of a rotation as the repository tells it; `looks` adds what was seen live. */
export async function reportView(
  context: Context,
  rotation: OpenRotation,
  looks: readonly SiteLook[] | null,
): Promise<ReportView> {
  const { plan, declaration, snapshot, commit, base } = rotation
  const { systemOf } = await import('../systems/systems.ts')
  const system = systemOf(plan.system)
  const present = await presentAt(context.repository, [commit], context.now())
  const committed = await committedEvidence(snapshot, { plan, signers: declaration.evidence.signers, present })
  const live = (looks ?? []).filter(look => look.unseen === null)
  const all = [...committed.map(each => each.evidence), ...live.map(look => look.evidence)]
  const name = certificateNames(
    plan.certificates,
    all.flatMap(({ certificates }) => certificates),
  )
  const labelled = (evidence: Evidence): string => labelOf(plan, evidence)
  const inOrder = [...committed].sort((a, b) => indexOf(plan, a.evidence) - indexOf(plan, b.evidence))
  const status = await statusView(context, rotation, looks)
  return {
    status,
    system: system.title,
    commit,
    base,
    plannedAt: plan.createdAt,
    steps: stepsOf(plan).map(
      (at): ReportStep => ({
        phase: at.phase.number,
        label: stepFolder(at),
        title: at.phase.title,
        what: at.step.what,
        mark: markOf(plan, status, at),
        matrix: trustMatrix({ plan, model: system.model, name }, at, newestOf(at, inOrder, live)),
      }),
    ),
    moves: await movesOf(context, rotation),
    consumers: [
      ...inOrder.map(({ evidence }) => consumerCounts(evidence, name, { label: labelled(evidence), live: false })),
      ...live.map(({ evidence }) => consumerCounts(evidence, name, { label: labelled(evidence), live: true })),
    ],
    evidence: [
      ...(await writtenReports(present, rotation, inOrder, name)),
      ...live.map(look =>
        evidenceReport(look.evidence, { label: labelled(look.evidence), name, gates: look.verdict.gates }),
      ),
    ],
    certificates: endsOf(plan, all, name, context.now()),
    behind: behindOf(committed, looks),
  }
}

type Names = ReturnType<typeof certificateNames>

function indexOf(plan: Plan, { phase, step }: Pick<Evidence, 'phase' | 'step'>): number {
  return findStep(plan, phase, step)?.index ?? -1
}

function labelOf(plan: Plan, { phase, step }: Pick<Evidence, 'phase' | 'step'>): string {
  const at = findStep(plan, phase, step)
  return at === null ? `phase ${phase}, step ${step}` : stepFolder(at)
}

/** By the site that is furthest behind. */
function markOf(plan: Plan, status: StatusView, at: PlanStep): ReportStep['mark'] {
  const marks = status.phases.find(phase => phase.number === at.phase.number)?.mark ?? 'ahead'
  if (marks !== 'now') return marks
  const reached = status.sites.flatMap(({ position }) =>
    position.kind === 'at' && position.variant !== 'undo'
      ? [findStep(plan, position.phase, position.step)?.index ?? -1]
      : [-1],
  )
  if (reached.every(index => index > at.index)) return 'done'
  return reached.includes(at.index) ? 'now' : 'ahead'
}

/** What counts of a step, by site the newest: a look just now rather than what was committed. */
function newestOf(
  at: PlanStep,
  committed: readonly CommittedEvidence[],
  live: readonly SiteLook[],
): readonly Evidence[] {
  const found = new Map<string, Evidence>()
  const ours = (evidence: Evidence) => evidence.phase === at.phase.number && evidence.step === at.step.number
  for (const { evidence, refused } of committed)
    if (refused === null && ours(evidence)) found.set(evidence.site, evidence)
  for (const { evidence } of live) if (ours(evidence)) found.set(evidence.site, evidence)
  return [...found.values()]
}

/** When each site's folder came to a planned tree, oldest first, as far back as this clone's history goes. */
async function movesOf({ repository }: Context, { plan, commit }: OpenRotation): Promise<readonly Move[]> {
  const paths = plan.sites.map(site => site.path)
  const last = new Map<string, string>()
  const moves: Move[] = []
  for (const facts of [...(await repository.log(commit, { paths }))].reverse()) {
    const snapshot = repository.snapshot(facts.id)
    const changed = [...(await repository.changedPaths(facts.parents[0] ?? null, facts.id)).keys()]
    const folders = new Set(changed.flatMap(foldersAbove))
    for (const { name, path } of plan.sites) {
      if (!folders.has(path)) continue
      const position = positionOf(await snapshot.readFolderBytes(path), plan, name, () => null)
      if (position.kind !== 'at') continue
      const label = labelOf(plan, position)
      const key = `${label} ${position.variant}`
      if (last.get(name) === key) continue
      last.set(name, key)
      moves.push({ site: name, label, variant: position.variant, at: instantOf(facts.committer.at), commit: facts.id })
    }
  }
  return moves
}

function foldersAbove(path: string): readonly string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}

async function writtenReports(
  present: Date,
  rotation: OpenRotation,
  committed: readonly CommittedEvidence[],
  name: Names,
): Promise<readonly ReportEvidence[]> {
  const { readWrittenEvidence } = await import('../verify/evidence-file.ts')
  const texts = await rotation.snapshot.readMany(new Set(committed.map(({ file }) => file)))
  const words = await readAttestations(rotation.snapshot, rotation.name)
  const gates = new Map<string, readonly GateResult[]>()
  for (const [file, text] of texts) {
    const written = readWrittenEvidence(text, file)
    gates.set(file, judgedWritten(rotation, written, null, { committed, words, present }).gates)
  }
  return committed.map(({ file, evidence, authorship, refused }) => ({
    ...evidenceReport(evidence, {
      label: labelOf(rotation.plan, evidence),
      name,
      gates: (gates.get(file) ?? []).filter(gate => gate.site === evidence.site),
    }),
    file,
    authorship: refused === null ? authorshipText(authorship) : `not counted: ${refused}`,
    counts: refused === null,
  }))
}

function evidenceReport(
  evidence: Evidence,
  { label, name, gates }: { readonly label: string; readonly name: Names; readonly gates: readonly GateResult[] },
): ReportEvidence {
  const { site, from, to, observation, complete, cluster, exceptions } = evidence
  const { kind, object, ready, revision, message } = evidence.delivery
  return {
    site,
    label,
    file: null,
    from,
    to,
    observation,
    authorship: 'seen just now',
    counts: true,
    complete,
    cluster: cluster.uid,
    delivery: { kind, object, ready, revision, message },
    gates: gates.map(({ id, claim, verdict, because, hint, counted }) => ({
      id,
      claim,
      verdict,
      because,
      hint,
      counted,
    })),
    groups: evidence.groups.map(group => ({
      consumer: group.consumer,
      owner: group.owner,
      seen: seenTrust(group, name),
      leavesExpire: group.leavesExpire,
    })),
    exceptions,
  }
}

/** Every CA that the plan or evidence names, the first to end first. */
function endsOf(plan: Plan, evidence: readonly Evidence[], name: Names, now: Date): readonly CertificateEnd[] {
  const files = new Map(plan.certificates.map(({ sha256, file }) => [sha256, file]))
  const seen = evidence.flatMap(({ certificates }) => certificates.filter(({ ca }) => ca))
  const all = new Map([...seen, ...plan.certificates].map(each => [each.sha256, each]))
  return [...all.values()]
    .map(({ sha256, key, notAfter }) => ({
      ...name(sha256),
      key,
      notAfter,
      daysLeft: Math.floor((Date.parse(notAfter) - now.getTime()) / 86_400_000),
      file: files.get(sha256) ?? null,
    }))
    .sort((a, b) => Date.parse(a.notAfter) - Date.parse(b.notAfter))
}

/** Of a look just now; without one, of the newest evidence of each site that counts. */
function behindOf(committed: readonly CommittedEvidence[], looks: readonly SiteLook[] | null): readonly Behind[] {
  if (looks !== null)
    return looks.flatMap(({ site, evidence, unseen }): readonly Behind[] =>
      unseen === null
        ? exceptionsOf(evidence)
        : [
            {
              site,
              consumer: 'cluster',
              name: site,
              why: `${unseen.what}: ${unseen.found ?? ''}`,
              verdict: 'unknown',
              ends: null,
            },
          ],
    )
  return [...newestEvidence(committed).values()].flatMap(({ evidence }) => exceptionsOf(evidence))
}

function exceptionsOf({ site, exceptions }: Evidence): readonly Behind[] {
  return exceptions.map(({ consumer, name, detail, verdict, ends }) => ({
    site,
    consumer,
    name,
    why: detail,
    verdict,
    ends: ends ?? null,
  }))
}
