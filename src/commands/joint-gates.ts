import type { CommitStatus } from '../forge/forge.ts'
import type { Repository } from '../repository/repository.ts'
import type { Plan } from '../rotation.ts'
import { concernOf } from './concern.ts'
import { type GateWord, gateContext, goodUntil, isOurs, type PostGate, postWord } from './gate-status.ts'

/** A rotation that could not be judged in this round. `plan` null: not even its plan could be read. */
export interface Unjudged {
  readonly rotation: string
  readonly plan: Plan | null
  readonly why: string
}

export interface JointGates {
  readonly post: PostGate
  /** Posts one status for each request, once all rotations have had their word. */
  finish(unjudged: readonly Unjudged[]): Promise<void>
}

/**
 * Where several rotations are open, each has a word on every pull request, and there is one status. A rotation's own request is judged by that rotation
 * alone, with all that it changes; any other by the rotations whose files it touches, and by all of them where it touches none's.
 */
export function jointGates(repository: Repository): JointGates {
  const words: GateWord[] = []
  return {
    post: async word => void words.push(word),
    async finish(unjudged) {
      const heads = new Set(words.map(({ request }) => request.head))
      for (const head of heads) {
        const all = words.filter(({ request }) => request.head === head)
        const own = all.find(({ rotation, request }) => isOurs(rotation, request))
        if (own !== undefined) {
          await postWord(own)
          continue
        }
        const [first] = all
        if (first === undefined) continue
        const paths = await changedBy(repository, first)
        const touches = (plan: Plan) => paths.some(concernOf(plan))
        const concerned = all.filter(({ rotation }) => touches(rotation.plan))
        const missing = unjudged.find(({ plan }) => plan === null || touches(plan))
        const status = jointStatus(
          (concerned.length > 0 ? concerned : all).map(word => word.status),
          missing ?? null,
        )
        await postWord({ ...first, status, observation: null })
      }
    },
  }
}

async function changedBy(repository: Repository, { rotation, request }: GateWord): Promise<readonly string[]> {
  if ((await repository.resolve(request.head)) === null) return []
  const fork = (await repository.mergeBase(rotation.commit, request.head)) ?? rotation.commit
  return [...(await repository.changedPaths(fork, request.head)).keys()]
}

/** The worst of several words; of green ones that which ends first. Green needs that everybody had a word. Pure. */
export function jointStatus(
  words: readonly CommitStatus[],
  missing: Pick<Unjudged, 'rotation' | 'why'> | null,
): CommitStatus {
  const order: readonly CommitStatus['state'][] = ['failure', 'pending', 'success']
  const [worst] = [...words].sort(
    (one, other) => order.indexOf(one.state) - order.indexOf(other.state) || (endOf(one) < endOf(other) ? -1 : 1),
  )
  if (worst !== undefined && (worst.state !== 'success' || missing === null)) return worst
  const why = missing === null ? 'nobody has judged it' : `rotation ${missing.rotation} was not judged: ${missing.why}`
  return { context: gateContext, state: 'pending', description: [...why].slice(0, 140).join('') }
}

/** Sorts behind every date where there is none. */
function endOf(status: CommitStatus): string {
  return goodUntil(status) ?? '9999'
}
