import { randomFrom } from '../random.ts'
import type { Act } from './acts.ts'
import { type Chance, chanceOf, rememberSignatures } from './chance.ts'
import { killed } from './kill.ts'
import { labelOf, recordRotation, type Subject } from './record.ts'
import { type Meanwhile, twoRunners } from './runners.ts'
import type { PlaceKind } from './stage.ts'
import { crashedAndRunAgain, crashPoints, stopped, undisturbed } from './sweep.ts'

export interface CrashOptions {
  readonly seed: number
  /** 1: every point of every command. Less: as much less of the points, and of the way. */
  readonly scale: number
  readonly say: (line: string) => void
  /** @default all of them */
  readonly subjects?: readonly Subject[]
  /** Whether a part of the crashes is a real SIGKILL; only the built program can. @default true */
  readonly kills?: boolean
}

export interface CrashResult {
  /** Points at which a command was ended and run again. */
  readonly crashPoints: {
    readonly swept: number
    readonly equal: number
    readonly killed: number
    readonly commands: number
  }
  /** Writes of one command around which another ran whole. */
  readonly runners: { readonly interleaved: number; readonly one: number }
  /** Each with where it was and what was wrong. */
  readonly failures: readonly string[]
}

/** Every system, with every flow, strategy and kind of delivery that writes in a way of its own; the first of each system first. */
const subjects: readonly Subject[] = [
  { system: 'istio', variant: null, sites: 1, alike: 3, offlineRoot: true },
  { system: 'linkerd', variant: 'trust-roots', sites: 1, alike: 3, offlineRoot: true },
  { system: 'kyma', variant: 'soon-to-expire', sites: 1, alike: 3 },
  { system: 'cassandra', variant: null, sites: 2, alike: 3 },
  { system: 'istio', variant: 'argocd', sites: 2, alike: 1 },
  { system: 'linkerd', variant: 'upgrade', sites: 1, alike: 1 },
  { system: 'linkerd', variant: 'config-map', sites: 1, alike: 1 },
  { system: 'kyma', variant: 'graceful', sites: 1, alike: 1 },
  { system: 'kyma', variant: 'compromised-key', sites: 1, alike: 1 },
  { system: 'kyma', variant: 'compromised-algorithm', sites: 1, alike: 1 },
  { system: 'cassandra', variant: null, sites: 1, alike: 1 },
  { system: 'cassandra', variant: 'client-ca', sites: 1, alike: 1 },
]

/** Below this scale only the first rotations are taken, and of each only the first pull request after the plan's. */
const wholeWay = 0.2

/** One point in so many is a real SIGKILL of a process of its own, which costs a start of Node. */
const killEvery = 12

interface Tally {
  swept: number
  equal: number
  killed: number
  commands: number
  interleaved: number
  one: number
  readonly failures: string[]
}

export async function runCrashPoints(options: CrashOptions): Promise<CrashResult> {
  const { seed, scale, say } = options
  const tally: Tally = { swept: 0, equal: 0, killed: 0, commands: 0, interleaved: 0, one: 0, failures: [] }
  const chosen = options.subjects ?? (scale < wholeWay ? subjects.slice(0, Math.ceil(scale * 20)) : subjects)
  const steps = scale < wholeWay ? 1 : Number.POSITIVE_INFINITY
  for (const subject of chosen) {
    const chance = chanceOf(seed)
    const forget = rememberSignatures(chance)
    try {
      const began = Date.now()
      const recording = await recordRotation(subject, chance, steps)
      try {
        const before = { ...tally }
        say(`${labelOf(subject)}: ${recording.acts.length} commands that write, recorded in ${seconds(began)} s`)
        // Each command in one of its places, the next one in the next: every command meets every place on its way.
        for (const [index, act] of recording.acts.entries())
          await sweepAct(act, act.places[index % act.places.length] ?? 'local', chance, options, tally)
        say(
          `${labelOf(subject)}: ${tally.swept - before.swept} crash points, ${tally.equal - before.equal} equal; ` +
            `${tally.interleaved - before.interleaved} interleavings, ${tally.one - before.one} with one result; ${seconds(began)} s`,
        )
      } finally {
        recording.remove()
      }
    } finally {
      forget()
    }
  }
  const { swept, equal, killed, commands, interleaved, one, failures } = tally
  return { crashPoints: { swept, equal, killed, commands }, runners: { interleaved, one }, failures }
}

/** Points are taken by chance where the scale is below 1; as many commands are left out as points of a command, since trying one out costs as much. */
async function sweepAct(
  act: Act,
  place: PlaceKind,
  chance: Chance,
  options: CrashOptions,
  tally: Tally,
): Promise<void> {
  const random = randomFrom(options.seed + tally.commands)
  const taken = (): boolean => random.chance(Math.sqrt(Math.min(1, options.scale)))
  tally.commands += 1
  if (!taken()) return
  const wanted = await undisturbed(act, place, chance)
  const fail = (where: string, wrong: readonly string[]) =>
    tally.failures.push(`${act.name}, on ${place}, ${where}\n  ${wrong.join('\n  ')}`)
  if (wanted.end.leftovers.length > 0) fail('undisturbed', wanted.end.leftovers)
  for (const at of crashPoints(wanted)) {
    if (!taken()) continue
    const really = options.kills !== false && tally.swept % killEvery === 0
    const wrong = await crashedAndRunAgain(wanted, chance, at, really ? killed : stopped)
    tally.swept += 1
    if (really) tally.killed += 1
    if (wrong.length === 0) tally.equal += 1
    else fail(`${really ? 'killed' : 'stopped'} ${at.when} write ${at.write}, ${wanted.writes[at.write - 1]}`, wrong)
  }
  for (const meanwhile of meanwhiles(act, place)) {
    for (const index of wanted.writes.keys()) {
      if (!taken()) continue
      const wrong = await twoRunners(wanted, chance, index + 1, meanwhile)
      tally.interleaved += 1
      if (wrong.length === 0) tally.one += 1
      else fail(`another ${meanwhile} before write ${index + 1}, ${wanted.writes[index]}`, wrong)
    }
  }
}

/**
 * What another runner may do in between: nothing for `init`, which writes a file of one's own; have its request merged too. With a remote the base branch
 * is looked at just before the push, which no hook comes between.
 */
function meanwhiles(act: Act, place: PlaceKind): readonly Meanwhile[] {
  if (!act.shared) return []
  if (act.command.kind === 'merge' || place === 'clone') return ['opens']
  return ['opens', 'opens, and somebody merges', 'opens, and somebody merges and removes the branch']
}

function seconds(since: number): string {
  return ((Date.now() - since) / 1000).toFixed(0)
}
