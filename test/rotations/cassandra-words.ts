import type { World } from '../../src/commands/demo.ts'
import { next } from '../../src/commands/next.ts'

/** A word as it would stand on the base branch, whoever wrote it there. */
export async function commitWord(
  { repository, rotation, context }: World,
  word: { readonly name: string; readonly phase: number; readonly bundle: string },
): Promise<void> {
  const parent = await repository.head('main')
  const commit = await repository.commit({
    parent,
    changes: new Map([
      [`rotations/${rotation}/attestations/by-hand.yaml`, JSON.stringify({ kind: 'Attestation', ...word })],
    ]),
    message: 'A word',
    trailers: {},
    author: context.author,
    at: context.now(),
  })
  await repository.publish([{ ref: 'refs/heads/main', from: parent, to: commit }])
}

/** Gates of Cassandra that do not hold, as `next` tells them, or `abandon`. */
export async function waiting(
  { context, rotation }: World,
  options: { readonly abandon?: boolean } = {},
): Promise<Readonly<Record<string, string>>> {
  const { outcome } = await next(context, { rotation, base: null, variant: 'step', ...options })
  if (outcome.kind !== 'waiting') return {}
  return Object.fromEntries(
    outcome.gates
      .filter(({ id, verdict }) => id.startsWith('cassandra/') && verdict !== 'holds')
      .map(({ id, because, hint }) => [id, `${because.join('; ')} | ${hint}`]),
  )
}
