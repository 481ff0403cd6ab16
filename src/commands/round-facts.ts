import type { RoundFacts, RoundSeen } from '../runner/metrics.ts'
import type { Context } from './context.ts'
import { isOurs } from './gate-status.ts'
import type { NextOutcome } from './next.ts'
import { loadRotation, type OpenRotation, positionsAt } from './rotation.ts'
import type { Round } from './run.ts'

/** What a round is worth in numbers: read from Git and the forge again, from clusters not. */
export async function roundFacts(context: Context, base: string | null, round: Round): Promise<RoundFacts> {
  const name = round.kind === 'told' ? round.rotation.name : round.rotation
  const seen =
    round.kind === 'told'
      ? await seenOf(context, round.rotation, round.outcome)
      : await unseen(context, base, name).catch(() => null)
  return {
    rotation: name ?? '',
    outcome: round.kind === 'told' ? round.outcome.kind : round.kind,
    at: context.now().getTime() / 1000,
    took: round.took / 1000,
    seen,
  }
}

async function seenOf(context: Context, rotation: OpenRotation, outcome: NextOutcome): Promise<RoundSeen> {
  const looks = outcome.kind === 'done' ? [] : outcome.looks
  return {
    plan: rotation.plan,
    paused: rotation.declaration.paused,
    positions: await positionsAt(rotation.snapshot, rotation.plan),
    gates: looks.flatMap(look => look.verdict.gates),
    behind: Object.fromEntries(
      looks.map(({ site, evidence }) => [
        site,
        new Set(evidence.exceptions.map(({ consumer, name }) => `${consumer} ${name}`)).size,
      ]),
    ),
    pullRequests: await agesOf(context, rotation).catch(() => []),
  }
}

/** Of a round that ended before anything was looked at: what Git tells, and no gate. */
async function unseen(context: Context, base: string | null, name: string | null): Promise<RoundSeen | null> {
  if (name === null) return null
  return await seenOf(context, await loadRotation(context.repository, { rotation: name, base }), { kind: 'done' })
}

async function agesOf(context: Context, rotation: OpenRotation): Promise<RoundSeen['pullRequests']> {
  const forge = await context.openForge(rotation.declaration)
  const ours = (await forge.listOpen(rotation.base)).filter(request => isOurs(rotation, request))
  const found: { readonly number: number; readonly since: number }[] = []
  for (const { number, head } of ours) {
    if ((await context.repository.resolve(head)) === null) continue
    const { committer } = await context.repository.commitFacts(head)
    found.push({ number, since: committer.at.getTime() / 1000 })
  }
  return found
}
