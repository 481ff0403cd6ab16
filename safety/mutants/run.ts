import { systemNames } from '../../src/systems/systems.ts'
import { randomFrom } from '../random.ts'
import { rootNamed } from './certificates.ts'
import { changeMutators } from './changes.ts'
import { evidenceMutators } from './evidence.ts'
import { harmlessOfRecordings, harmlessOfWorlds } from './harmless.ts'
import { type Failure, failureOf, type Harmless, type Mutant, refusalOf } from './mutant.ts'
import { planMutators } from './plans.ts'
import { recordings } from './recordings.ts'
import { renderings, worldOf } from './world.ts'

export interface MutantOptions {
  readonly seed: number
  readonly scale: number
  say(line: string): void
}

/** How many were made of one class, and of how many systems. */
export interface ClassCount {
  readonly kind: string
  readonly bySystem: Readonly<Record<string, number>>
}

export interface MutantCounts {
  readonly mutants: { readonly made: number; readonly refused: number }
  readonly harmless: { readonly made: number; readonly passed: number }
  readonly classes: readonly ClassCount[]
  readonly failures: readonly Failure[]
}

/** At scale 1: of each class and system, all different. */
const perClass = 50
const harmlessPerClass = 15
/** A class that makes none in so many attempts has nothing to break in this system. */
const attempts = 40

/** Makes unsafe and harmless variants of valid plans, trees and evidence of all systems, and holds what the library says to what they must be. */
export async function runMutants({ seed, scale, say }: MutantOptions): Promise<MutantCounts> {
  const random = randomFrom(seed)
  const stranger = await rootNamed('CN=Somebody else', random)
  const strangers = [stranger.sha256, random.bytes(32).toString('hex')]
  const rendered = renderings().filter(({ plan }) => plan.strategy === 'graceful')
  const recorded = recordings()
  const failures: Failure[] = []
  const classes: ClassCount[] = []
  const count = { made: 0, refused: 0, harmless: 0, passed: 0 }

  const make = async <Made extends Harmless>(
    kind: string,
    wanted: number,
    one: (system: string) => Promise<Made | null> | Made | null,
    judged: (made: Made) => Failure | null,
  ): Promise<{ readonly made: number; readonly right: number }> => {
    const bySystem: Record<string, number> = {}
    let [made, right] = [0, 0]
    for (const system of systemNames) {
      const seen = new Set<string>()
      for (let tries = 0; seen.size < wanted && tries < wanted * attempts; tries++) {
        const variant = await one(system)
        if (variant === null || seen.has(variant.name)) continue
        seen.add(variant.name)
        const failure = judged(variant)
        if (failure === null) right++
        else failures.push(failure)
      }
      bySystem[system] = seen.size
      made += seen.size
    }
    classes.push({ kind, bySystem })
    say(`${kind}: ${right} of ${made}`)
    return { made, right }
  }

  const worldFor = (system: string) =>
    worldOf(random.pick(rendered.filter(({ plan }) => plan.system === system)), random, stranger)
  const recordingFor = (system: string) => random.pick(recorded.filter(each => each.system === system))
  const wanted = Math.max(1, Math.round(perClass * scale))
  const wantedHarmless = Math.max(1, Math.round(harmlessPerClass * scale))

  const unsafe = async (kind: string, one: (system: string) => Promise<Mutant | null> | Mutant | null) => {
    const { made, right } = await make(kind, wanted, one, failureOf)
    count.made += made
    count.refused += right
  }
  for (const [kind, mutate] of [...Object.entries(planMutators), ...Object.entries(changeMutators)])
    await unsafe(kind, system => mutate(worldFor(system), random))
  for (const [kind, mutate] of Object.entries(evidenceMutators))
    await unsafe(kind, system => mutate(recordingFor(system), random, strangers))

  const harmless = async (kind: string, one: (system: string) => Promise<Harmless | null> | Harmless | null) => {
    const { made, right } = await make(`harmless ${kind}`, wantedHarmless, one, refusalOf)
    count.harmless += made
    count.passed += right
  }
  for (const [kind, vary] of Object.entries(harmlessOfWorlds))
    await harmless(kind, system => vary(worldFor(system), random))
  for (const [kind, vary] of Object.entries(harmlessOfRecordings))
    await harmless(kind, system => vary(recordingFor(system), random))

  return {
    mutants: { made: count.made, refused: count.refused },
    harmless: { made: count.harmless, passed: count.passed },
    classes,
    failures,
  }
}
