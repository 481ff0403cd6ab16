import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ReanchorError } from '../../src/errors.ts'
import { inPool } from '../../src/verify/pool.ts'
import { randomFrom } from '../random.ts'
import { testBuild } from './build.ts'
import { type Ending, isSafe } from './drive.ts'
import { type Guard, type Replacement, withoutGuard } from './guard.ts'
import { guards, quickScenarios } from './guards.ts'

export interface GuardsOptions {
  readonly seed: number
  /** Below 1: that part of the list, chosen by the seed, and at least one guard. */
  readonly scale: number
  readonly say: (line: string) => void
  /** Names of guards, or of scenarios, to run alone. @default all that scale leaves */
  readonly only?: readonly string[]
  /** Guards at a time. @default 2 */
  readonly width?: number
}

export interface GuardsResult {
  readonly total: number
  readonly caught: number
  /** One sentence for each guard that is not caught, or that could not be judged. */
  readonly failures: readonly string[]
}

/** Where `dist` lies: this file is dist/safety/guards/run.js. */
const root = fileURLToPath(new URL('../../..', import.meta.url))
const patience = 15 * 60_000
const run = promisify(execFile)

/**
 * Each guard's scenario with the guard in, which must end safely, and in a test build without it, which must not. A run is a process of its own, so
 * that no module of one build is in another; what several guards share is run once.
 */
export async function runGuards(options: GuardsOptions): Promise<GuardsResult> {
  const chosen = chosenOf(options)
  const seed = String(options.seed)
  const runs = new Map<string, Promise<Ending>>()
  const ending = (scenario: string, replacements: readonly Replacement[]): Promise<Ending> => {
    const key = createHash('sha256')
      .update(JSON.stringify([scenario, replacements]))
      .digest('hex')
    const known = runs.get(key) ?? inTestBuild(scenario, seed, replacements)
    runs.set(key, known)
    return known
  }
  const failures: string[] = []
  let caught = 0
  await inPool(chosen, options.width ?? 2, async guard => {
    const beside = guard.beside?.replacements ?? []
    const failure = await judged(
      guard,
      async () => [
        await ending(guard.caughtBy, beside),
        await ending(guard.caughtBy, [...beside, ...withoutGuard(guard)]),
      ],
      options.say,
    )
    if (failure === null) caught += 1
    else failures.push(`${guard.name}: ${failure}`)
  })
  return { total: chosen.length, caught, failures: failures.sort() }
}

function chosenOf({ seed, scale, only }: GuardsOptions): readonly Guard[] {
  if (only !== undefined) {
    const strange = only.find(wanted => !guards.some(({ name, caughtBy }) => wanted === name || wanted === caughtBy))
    if (strange === undefined)
      return guards.filter(({ name, caughtBy }) => only.includes(name) || only.includes(caughtBy))
    throw new ReanchorError({
      what: '--only names no guard',
      expected: 'names of guards, or of the scenarios that catch them, with commas between',
      found: strange,
      todo: 'see the table of guards in docs/safety.md',
    })
  }
  if (scale >= 1) return guards
  // A small part is for every push: of the scenarios that are over in no time.
  const quick = guards.filter(({ caughtBy }) => quickScenarios.has(caughtBy))
  const wanted = Math.max(1, Math.round(guards.length * scale))
  return randomFrom(seed)
    .shuffled(wanted <= quick.length ? quick : guards)
    .slice(0, wanted)
}

/** Null: caught. Else why it is not. */
async function judged(
  guard: Guard,
  runs: () => Promise<readonly [Ending, Ending]>,
  say: (line: string) => void,
): Promise<string | null> {
  try {
    const [inside, without] = await runs()
    const failure = verdictOf(guard, inside, without)
    say(
      `${failure === null ? 'caught' : 'NOT CAUGHT'} ${guard.name} by ${guard.caughtBy}: ${failure ?? whatHappened(without)}`,
    )
    return failure
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error)
    say(`NOT JUDGED ${guard.name}: ${failure}`)
    return failure
  }
}

/** Null: the guard is caught by these two runs. */
export function verdictOf(guard: Guard, inside: Ending, without: Ending): string | null {
  if (!isSafe(inside)) return `its scenario does not end safely with the guard in: ${whatHappened(inside)}`
  const idle = (guard.gates ?? []).filter(id => !inside.by.some(reason => reason.startsWith(`${id} (`)))
  if (idle.length > 0) return `${idle.join(', ')} does not keep the step shut; these do: ${inside.by.join('; ')}`
  if (isSafe(without))
    return `without it the scenario ends as safely: ${without.ended} at ${without.at}: ${without.by.join('; ')}`
  return null
}

function whatHappened({ failedHandshakes, first, wrong }: Ending): string {
  if (wrong.length > 0) return wrong.join('; ')
  return `${failedHandshakes} failed handshakes, first ${first ?? 'none'}`
}

async function inTestBuild(scenario: string, seed: string, replacements: readonly Replacement[]): Promise<Ending> {
  const build = testBuild(root, replacements)
  try {
    const { stdout } = await run(process.execPath, [build.child, scenario, seed], {
      timeout: patience,
      maxBuffer: 64 * 1024 * 1024,
    })
    return JSON.parse(stdout) as Ending
  } catch (error) {
    const { stderr = '' } = error as { readonly stderr?: string }
    throw new Error(`${scenario} did not run to its end: ${stderr.slice(-1500) || String(error)}`, { cause: error })
  } finally {
    build.remove()
  }
}
