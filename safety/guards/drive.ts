import { nextWhenReady, type Place, placeOf, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { ReanchorError } from '../../src/errors.ts'
import type { PullRequest } from '../../src/forge/forge.ts'
import { startingRoot } from '../../src/rehearsal/rehearsal.ts'
import type { GateResult } from '../../src/rotation.ts'
import type { TestWorld } from '../../test/rotations/world.ts'

/** How a run ended. It is safe where no handshake failed and nothing is as it must not be. */
export interface Ending {
  readonly ended: 'closed' | 'waits' | 'refused'
  /** The last step that was merged: `swap/data`. */
  readonly at: string
  /** Gates that keep the next step shut, or the words in which a command refused. */
  readonly by: readonly string[]
  readonly failedHandshakes: number
  /** What is as it must not be, other than a failed handshake; one clause each. */
  readonly wrong: readonly string[]
  /** The first failed handshake, in words. */
  readonly first: string | null
}

/** A step's pull request that has opened. */
export interface Opened {
  readonly test: TestWorld
  readonly world: World
  readonly request: PullRequest
  readonly place: Place
  /** `swap/data` */
  readonly step: string
}

export interface Acts {
  /** Virtual milliseconds that the person waits for a step. */
  readonly patience: number
  /** Virtual milliseconds between two looks. @default a third of patience */
  readonly pause?: number
  /** What goes wrong breaks handshakes by itself, which no guard prevents: held to is that no further step opens. */
  readonly breaks?: boolean
  /** Before the step's pull request is merged: where faults strike. A clause says what is as it must not be. */
  opened?(at: Opened): Promise<string | undefined> | string | undefined
  /** After it is merged. */
  merged?(at: Opened): Promise<void> | void
  /** At the end of all. */
  wrong?(test: TestWorld, ended: Ending['ended']): Promise<readonly string[]> | readonly string[]
}

const minute = 60_000

/** A person who merges whatever opens, and stops where reanchor refuses, or waits for longer than the person does. */
export async function mergeAll(test: TestWorld, acts: Acts): Promise<Ending> {
  const { world } = test
  const wrong: string[] = []
  let at = 'the start'
  const end = async (ended: Ending['ended'], by: readonly string[]): Promise<Ending> => {
    wrong.push(...((await acts.wrong?.(test, ended)) ?? []), ...(ended === 'closed' ? stillTrusting(test) : []))
    const ending = await endingOf(world, { ended, at, by, wrong })
    return acts.breaks === true ? { ...ending, failedHandshakes: 0, first: null } : ending
  }
  try {
    await planAndMerge(world)
    for (;;) {
      const outcome = await nextWhenReady(world, acts.patience, acts.pause ?? acts.patience / 3)
      if (acts.breaks !== true && broken(world)) return await end('waits', [])
      if (outcome.kind === 'done') return await end('closed', [])
      if (outcome.kind === 'waiting') return await end('waits', shutBy(outcome.gates))
      if (outcome.pullRequest === null) throw new Error('there is no pull request to merge')
      const request = outcome.pullRequest
      const place = await placeOf(world, request)
      const opened: Opened = { test, world, request, place, step: `${place.name}/${place.stepName}` }
      const clause = await acts.opened?.(opened)
      if (clause !== undefined) wrong.push(clause)
      if (wrong.length > 0) return await end('waits', [])
      at = opened.step
      await recordMerge(world, request)
      await acts.merged?.(opened)
    }
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return await end('refused', [`${error.what}: ${error.found ?? ''}`])
  }
}

/** Lets a while pass in which what was merged last reaches everyone, and meets all with all. */
export async function endingOf(
  world: World,
  so: Pick<Ending, 'ended' | 'at' | 'by'> & { readonly wrong?: readonly string[] },
): Promise<Ending> {
  const { handshakes } = world.rehearsal
  if (!broken(world)) {
    await world.rehearsal.run(20 * minute)
    await handshakes.round()
  }
  const failures = failuresOf(world)
  const [failure] = failures
  return {
    ...so,
    wrong: so.wrong ?? [],
    failedHandshakes: failures.length,
    first:
      failure === undefined
        ? null
        : `${failure.phase}: ${failure.link}: ${failure.client} → ${failure.server}: ${failure.error}`,
  }
}

/** Who trusts the CA that the clusters began with, after the rotation away from it is closed. */
function stillTrusting({ world }: TestWorld): readonly string[] {
  const old = new Set([...world.rehearsal.sites.values()].map(startingRoot))
  const found = world.rehearsal.handshakes.parties.find(({ endpoint }) =>
    endpoint.material.trusts.some(root => old.has(root)),
  )
  return found === undefined ? [] : [`the rotation is closed while ${found.id} still trusts the old CA`]
}

/** A handshake failed already: nothing more is to be shown. */
function broken(world: World): boolean {
  return failuresOf(world).length > 0
}

/** Handshakes that one side refused. One that a busy machine gave no answer to in time says nothing of trust. */
export function failuresOf({ rehearsal }: World) {
  return rehearsal.handshakes.failures.filter(({ foretold, error }) => !foretold && !/no answer within/.test(error))
}

export function shutBy(gates: readonly GateResult[]): readonly string[] {
  const open = gates.filter(({ verdict }) => verdict !== 'holds')
  return [...new Set(open.map(({ id, verdict, because }) => `${id} (${verdict}): ${(because[0] ?? '').slice(0, 160)}`))]
}

/** Whether an ending is one that a rotation may have. */
export function isSafe({ failedHandshakes, wrong }: Ending): boolean {
  return failedHandshakes === 0 && wrong.length === 0
}
