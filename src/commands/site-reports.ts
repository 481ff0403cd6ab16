import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { Repository } from '../repository/repository.ts'
import type { Evidence, ReportsChoice } from '../rotation.ts'
import { readWrittenEvidence, type WrittenEvidence, writeSignedEvidence } from '../verify/evidence-file.ts'
import type { Context } from './context.ts'

/**
 * Where a Job in a cluster leaves what it saw: a ref on the remote that holds one commit without a parent, with a file for every rotation. The newest takes the
 * place of the one before, so nothing grows, and a branch's protection, its CI and its history are not concerned.
 */
export function reportRef({ ref }: ReportsChoice): string {
  return `refs/reanchor/${ref}`
}

function fileOf(rotation: string): string {
  return `${rotation}.yaml`
}

/** The report of a rotation as it was pushed last. Null: there is none. Throws ReanchorError (4) where the file is no evidence of one site. */
export async function readReport(
  repository: Repository,
  choice: ReportsChoice,
  rotation: string,
): Promise<WrittenEvidence | null> {
  const ref = reportRef(choice)
  const commit = await repository.refNow(ref)
  const text = commit === null ? null : await repository.snapshot(commit).read(fileOf(rotation))
  if (text === null) return null
  const file = `${ref}:${fileOf(rotation)}`
  const documents = readStrictly(text, file)
  const [written] = documents
  if (written !== undefined && documents.length === 1) return written
  throw unreadableReport(file, `${documents.length} documents`)
}

/** What is pushed there is somebody else's, and a look goes on without it. */
function readStrictly(text: string, file: string): readonly WrittenEvidence[] {
  try {
    return readWrittenEvidence(text, file)
  } catch (error) {
    if (error instanceof ReanchorError) throw unreadableReport(file, `${error.what}: ${error.found ?? ''}`)
    throw error
  }
}

function unreadableReport(file: string, found: string): ReanchorError {
  return new ReanchorError({
    what: 'the report cannot be read',
    where: { file },
    expected: 'one document of kind Evidence, as `reanchor observe` pushes it',
    found,
    todo: 'see who pushes it, and that the Job runs the same version of reanchor',
    exit: exitCodes.violated,
  })
}

/** How often somebody else may come first before it is given up. */
const attempts = 5

/**
 * Pushes what was seen of one site, with a file for each rotation. A newer look of the same rotation that another Job has pushed meanwhile stays; files of
 * rotations that are not `open` any more go. Gives what the ref holds afterwards.
 */
export async function publishReports(
  context: Context,
  choice: ReportsChoice,
  seen: readonly Evidence[],
  open: readonly string[],
): Promise<string> {
  const { repository, author, signer = null } = context
  const ref = reportRef(choice)
  const texts = new Map<string, string>()
  for (const evidence of seen) {
    const text = await writeSignedEvidence([evidence], signer)
    assertNoPrivateKey(text, `${ref}:${fileOf(evidence.rotation)}`)
    texts.set(evidence.rotation, text)
  }
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const found = await repository.refNow(ref)
    const files = new Map<string, string>()
    for (const rotation of open) {
      const before = found === null ? null : await repository.snapshot(found).read(fileOf(rotation))
      const text = texts.get(rotation) ?? null
      const kept = text === null || isNewer(before, seen, rotation, context.now()) ? before : text
      if (kept !== null) files.set(fileOf(rotation), kept)
    }
    const site = seen[0]?.site ?? choice.ref
    const to = await repository.commit({
      parent: null,
      changes: files,
      message: `report of ${site}`,
      trailers: { 'Reanchor-Evidence': seen.map(each => `${each.rotation}=${each.observation}`).join(' ') },
      author,
      at: context.now(),
    })
    if ((await repository.publish([{ ref, from: found, to }])).ok) return to
  }
  throw new ReanchorError({
    what: 'the report could not be pushed: somebody else was first each time',
    where: { object: ref },
    expected: 'one Job for each site',
    found: `${attempts} pushes that came too late`,
    todo: 'see that no two Jobs report for the same site',
    exit: exitCodes.waiting,
    transient: true,
  })
}

/** Whether what is there was seen after what is to take its place. What cannot be read, or is from a time to come, is nothing to keep. */
function isNewer(before: string | null, seen: readonly Evidence[], rotation: string, now: Date): boolean {
  const ours = seen.find(each => each.rotation === rotation)
  if (before === null || ours === undefined) return false
  try {
    const [there] = readWrittenEvidence(before, rotation)
    const at = there === undefined ? Number.NaN : Date.parse(there.evidence.to)
    return at > Date.parse(ours.to) && at <= now.getTime() + 60_000
  } catch {
    return false
  }
}
