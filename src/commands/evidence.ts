import { ReanchorError } from '../errors.ts'
import { findStep, rotationFolder } from '../plan/steps.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import type { Evidence, Plan } from '../rotation.ts'
import type { Authorship } from '../verify/authorship.ts'

/** A piece of evidence as a commit has it. */
export interface CommittedEvidence {
  readonly file: string
  readonly evidence: Evidence
  readonly authorship: Authorship
  /** Why it counts for nothing; null: it counts. */
  readonly refused: string | null
}

export interface Judges {
  readonly plan: Plan
  /** Lines of spec.evidence.signers on the base branch; null: they could not be read, so that nobody's evidence counts. */
  readonly signers: readonly string[] | null
  /** No earlier than the real one. */
  readonly present: Date
}

/** All evidence of a rotation on a commit, or that of its last `phases`, by site and then in the order of the steps. */
export async function committedEvidence(
  snapshot: Snapshot,
  judges: Judges,
  phases: number = Number.POSITIVE_INFINITY,
): Promise<readonly CommittedEvidence[]> {
  const name = judges.plan.metadata.name
  const all = [...(await snapshot.list(`${rotationFolder(name)}/evidence`)).keys()].filter(path =>
    path.endsWith('.yaml'),
  )
  if (all.length === 0) return []
  const phaseOf = (path: string): number => Number(/\/(\d+)-[^/]*$/.exec(path)?.[1] ?? 0)
  const last = Math.max(...all.map(phaseOf))
  const paths = all.filter(path => phaseOf(path) > last - phases)
  const { readWrittenEvidence } = await import('../verify/evidence-file.ts')
  const { authorshipOf } = await import('../verify/authorship.ts')
  const { whyForeign } = await import('../verify/judge.ts')
  const texts = await snapshot.readMany(paths)
  const found = paths.flatMap(file =>
    readWrittenEvidence(texts.get(file) ?? '', file).map(({ evidence, signature }): CommittedEvidence => {
      const authorship = authorshipOf(evidence, signature, judges.signers ?? [])
      const refused = whyForeign(judges.plan, evidence, judges.present) ?? whyNotTheirs(authorship, judges.signers)
      return { file, evidence, authorship, refused }
    }),
  )
  return inOrder(judges.plan, found)
}

function whyNotTheirs({ kind, why }: Authorship, signers: readonly string[] | null): string | null {
  if (signers === null) return 'rotation.yaml cannot be read, so that nobody knows whose evidence counts'
  if (kind === 'refused') return why
  return kind === 'unsigned' && signers.length > 0 ? 'it is unsigned, and evidence.signers is set' : null
}

/** Later steps are seen later: evidence that says otherwise was put where it does not belong. */
function inOrder(plan: Plan, found: readonly CommittedEvidence[]): readonly CommittedEvidence[] {
  const indexOf = ({ evidence }: CommittedEvidence): number =>
    findStep(plan, evidence.phase, evidence.step)?.index ?? -1
  const sorted = [...found].sort(
    (a, b) =>
      (a.evidence.site < b.evidence.site ? -1 : a.evidence.site > b.evidence.site ? 1 : 0) || indexOf(a) - indexOf(b),
  )
  let before: CommittedEvidence | null = null
  return sorted.map(one => {
    if (one.refused !== null) return one
    const refused = before === null ? null : whyAfter(before.evidence, one.evidence)
    if (refused === null) before = one
    return { ...one, refused }
  })
}

/** Why evidence cannot have been seen after that of a step before it; null: it can, or is another site's. */
function whyAfter(before: Evidence, { site, to, cluster }: Evidence): string | null {
  if (before.site !== site) return null
  if (Date.parse(to) < Date.parse(before.to))
    return `it is from ${to}, and that of an earlier step is from ${before.to}`
  return before.cluster.uid === cluster.uid
    ? null
    : `it is from cluster ${cluster.uid}, and that of an earlier step is from ${before.cluster.uid}`
}

/** Why evidence does not fit to what is committed of the steps before its own; null: it does. */
export function whyOutOfOrder(plan: Plan, committed: readonly CommittedEvidence[], evidence: Evidence): string | null {
  const index = findStep(plan, evidence.phase, evidence.step)?.index ?? -1
  const earlier = committed.filter(
    one => one.refused === null && (findStep(plan, one.evidence.phase, one.evidence.step)?.index ?? -1) < index,
  )
  return earlier.map(one => whyAfter(one.evidence, evidence)).find(why => why !== null) ?? null
}

/** The newest of each site that counts. */
export function newestEvidence(found: readonly CommittedEvidence[]): ReadonlyMap<string, CommittedEvidence> {
  return new Map(found.filter(one => one.refused === null).map(one => [one.evidence.site, one]))
}

/**
 * The machine's time, or that of the newest of these commits where that is later: in a demo time goes by faster. Whoever writes such a commit can move it,
 * as whoever writes evidence can its own times where nobody has to sign it.
 */
export async function presentAt(repository: Repository, commits: readonly string[], now: Date): Promise<Date> {
  const facts = await Promise.all(commits.map(commit => repository.commitFacts(commit)))
  return new Date(Math.max(now.getTime(), ...facts.map(({ committer }) => committer.at.getTime())))
}

/** Who may sign, as a commit says; null where its rotation.yaml cannot be read. */
export async function signersAt(snapshot: Snapshot, name: string): Promise<readonly string[] | null> {
  const file = `${rotationFolder(name)}/rotation.yaml`
  const text = (await snapshot.read(file)) ?? ''
  const { readDeclaration } = await import('../declaration/read.ts')
  try {
    return (await readDeclaration(text, file)).evidence.signers
  } catch (error) {
    if (error instanceof ReanchorError) return null
    throw error
  }
}
