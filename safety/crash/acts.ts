import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeDeclared } from '../../src/cli/handlers/init.ts'
import { attest } from '../../src/commands/attest.ts'
import type { Context } from '../../src/commands/context.ts'
import { next } from '../../src/commands/next.ts'
import { plan } from '../../src/commands/plan.ts'
import { ReanchorError } from '../../src/errors.ts'
import { type MergeMethod, openLocalForge } from '../../src/forge/local.ts'
import { openNoForge } from '../../src/forge/none.ts'
import type { Variant } from '../../src/plan/steps.ts'
import { openRepository, type Person, type Repository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import { type Chance, keysOf, randomOf, wrapOf } from './chance.ts'
import type { PlaceKind, Refs, Stage } from './stage.ts'
import { playing, type Tape } from './tape.ts'

/** A command that writes. `run --once` is one `next`. */
export type Command =
  | { readonly kind: 'init'; readonly path: string; readonly text: string }
  | {
      readonly kind: 'plan'
      readonly acceptOutage: boolean
      readonly chain: readonly string[] | null
      /** What `readFile` finds, by path. */
      readonly files: Readonly<Record<string, string>>
    }
  | { readonly kind: 'next'; readonly variant: Variant; readonly abandon: boolean }
  | { readonly kind: 'attest'; readonly name: string; readonly phase: number }
  | { readonly kind: 'merge'; readonly number: number; readonly method: MergeMethod }

/** One command at one point of a rotation, with all that it needs to run there as often as it is wanted. Plain data. */
export interface Act {
  /** Such as `istio 2-trust-both-1-data: next`. */
  readonly name: string
  readonly rotation: string
  readonly command: Command
  /** Where it can run. */
  readonly places: readonly PlaceKind[]
  /** Whether another runner's run of the same command is tried between its writes. */
  readonly shared: boolean
  readonly before: Refs
  /** The bare repository that has the objects. */
  readonly from: string
  /** Files of the work tree, in a clone. */
  readonly workFiles: Readonly<Record<string, string>>
  /** Milliseconds. */
  readonly now: number
  /** By site. */
  readonly tapes: ReadonlyMap<string, Tape>
}

export const author: Person = { name: 'Ada', email: 'ada@example.com' }

export interface Perform {
  readonly onWrite?: WriteHook
  /** Milliseconds after the act's own time. @default 0 */
  readonly later?: number
}

/** Runs the act's command as a process would that knows nothing but what is on the disk. Tells how it ended, in one line. */
export async function perform(act: Act, stage: Stage, chance: Chance, options: Perform = {}): Promise<string> {
  const onWrite = options.onWrite ?? (() => undefined)
  const repository = await openRepository(stage.repo, {
    onWrite,
    ...(stage.kind === 'clone' ? { remote: 'origin' } : {}),
  })
  try {
    return await runCommand(contextAt(act, stage, chance, repository, act.now + (options.later ?? 0)), act, stage)
  } catch (error) {
    if (error instanceof ReanchorError) return `exit ${error.exit}: ${error.what}`
    throw error
  } finally {
    repository.close()
  }
}

function contextAt(act: Act, stage: Stage, chance: Chance, repository: Repository, start: number): Context {
  let time = start
  const now = () => new Date(time)
  const files = act.command.kind === 'plan' ? act.command.files : {}
  return {
    repository,
    now,
    sleep: async milliseconds => {
      time += milliseconds
    },
    random: randomOf(chance),
    keys: keysOf(chance),
    wrapDataKey: wrapOf(chance),
    author,
    openForge: async ({ base }) =>
      stage.kind === 'local' ? await openLocalForge(repository, { now }) : openNoForge(repository, { base }),
    openCluster: async site => playing(act.tapes.get(site.name) ?? new Map()),
    readFile: path => {
      const text = files[path]
      if (text === undefined) throw new Error(`there is no file ${path}`)
      return text
    },
    environment: {},
    progress: () => undefined,
    dryRun: false,
  }
}

/** The command itself, on any context: a stage's, or a live rehearsal's whose answers are written down. */
export async function runCommand(
  context: Context,
  act: Pick<Act, 'command' | 'rotation'>,
  stage: Stage,
): Promise<string> {
  const { command, rotation } = act
  const chosen = { rotation, base: null }
  switch (command.kind) {
    case 'init': {
      const file = join(stage.folder, command.path)
      const unchanged = existsSync(file) && readFileSync(file, 'utf8') === command.text
      await writeDeclared(file, { text: command.text, unchanged }, context.repository.onWrite)
      return 'written'
    }
    case 'plan': {
      const { acceptOutage, chain } = command
      const outcome = await plan(context, { ...chosen, rootKeyOut: stage.rootKeyFile, chain, acceptOutage })
      return outcome.kind
    }
    case 'next': {
      const { variant, abandon } = command
      return (await next(context, { ...chosen, variant, abandon })).outcome.kind
    }
    case 'attest': {
      const { name, phase } = command
      await attest(context, { ...chosen, name, phase, by: 'Ada <ada@example.com>' })
      return 'attested'
    }
    case 'merge': {
      const forge = await openLocalForge(context.repository, { now: context.now })
      const { number, method } = command
      return (await forge.merge(number, { method, by: author, at: context.now() })).state
    }
  }
}
