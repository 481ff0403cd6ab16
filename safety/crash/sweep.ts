import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import { type Act, perform } from './acts.ts'
import type { Chance } from './chance.ts'
import { differences, type End, endOf, type PlaceKind, type Stage, stageAt } from './stage.ts'

/** Where a command ends: before or after one of its writes, counted from 1. */
export interface CrashPoint {
  readonly write: number
  readonly when: 'before' | 'after'
}

/** What a command does where nothing disturbs it. */
export interface Undisturbed {
  readonly act: Act
  readonly place: PlaceKind
  /** Its writes, in order. */
  readonly writes: readonly string[]
  readonly end: End
  readonly told: string
}

export async function undisturbed(act: Act, place: PlaceKind, chance: Chance): Promise<Undisturbed> {
  return await onStage(act, place, async stage => {
    const writes: string[] = []
    const told = await perform(act, stage, chance, {
      onWrite: (what, when) => void (when === 'before' && writes.push(what)),
    })
    return { act, place, writes, end: endOf(stage), told }
  })
}

/** Before the first write, and after each: what lies between two writes is one state of the disk, however near to which of them. */
export function crashPoints({ writes }: Pick<Undisturbed, 'writes'>): readonly CrashPoint[] {
  const after = writes.map((_, index) => ({ write: index + 1, when: 'after' as const }))
  return writes.length === 0 ? [] : [{ write: 1, when: 'before' }, ...after]
}

/** How a command is ended at a point. */
export type Crash = (act: Act, stage: Stage, chance: Chance, at: CrashPoint) => Promise<void>

/** Ends the command at the point, runs it again, and says what is not as if it had not been ended; empty where all of it is. */
export async function crashedAndRunAgain(
  wanted: Undisturbed,
  chance: Chance,
  at: CrashPoint,
  crash: Crash = stopped,
): Promise<readonly string[]> {
  const { act, place } = wanted
  return await onStage(act, place, async stage => {
    await crash(act, stage, chance, at)
    const told = await perform(act, stage, chance)
    const wrong = differences(wanted.end, endOf(stage))
    return endsWell(told) || told === wanted.told ? wrong : [`run again, it ended with ${told}`, ...wrong]
  })
}

/** The command has come to its end, opened or found open. Whether what is there is right is for the refs to say. */
function endsWell(told: string): boolean {
  return !told.startsWith('exit ')
}

/**
 * Leaves the command at the point for good, as a process that is killed is left: nothing that it has still to do happens, no `finally` either. Its
 * memory stays until this process ends.
 */
export const stopped: Crash = async (act, stage, chance, at) => {
  let reached = (): void => undefined
  const there = new Promise<'stopped'>(resolve => {
    reached = () => resolve('stopped')
  })
  const onWrite = holdAt(at, () => {
    reached()
    return new Promise(() => undefined)
  })
  const ended = await Promise.race([perform(act, stage, chance, { onWrite }), there])
  if (ended !== 'stopped') throw new Error(`${act.name} ended before write ${at.write}: ${ended}`)
}

/** A hook that calls `then` at one point of a command, and holds the command until that is done. */
export function holdAt(at: CrashPoint, then: () => Promise<void>): WriteHook {
  let count = 0
  return async (_, when) => {
    if (when === 'before') count += 1
    if (count === at.write && when === at.when) await then()
  }
}

export async function onStage<T>(act: Act, place: PlaceKind, run: (stage: Stage) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-stage-'))
  try {
    return await run(stageAt(folder, place, act.before, act.from, act.workFiles))
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}
