import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { ReanchorError } from '../src/errors.ts'
import { runCases } from './cases.ts'
import { runCrashPoints } from './crash/run.ts'
import { runGuards } from './guards/run.ts'
import { runMutants } from './mutants/run.ts'
import { rehearsals } from './rehearsals/rehearsals.ts'
import { wire } from './wire/wire.ts'

/**
 * `npm run safety`: what the library says, held to variants of which it is known what they are, to real TLS stacks, and to rotations in which one of
 * its guards is missing. Progress on stderr, one JSON line on stdout; 1 where something was let through, refused in vain, disagreed about or caught by
 * nothing, 2 where it was called wrongly.
 */
const parts = ['mutants', 'wire', 'rehearsals', 'crashPoints', 'guards'] as const
type Part = (typeof parts)[number]

interface Options {
  readonly seed: number
  readonly scale: number
  readonly cases: string | null
  readonly parts: readonly Part[]
  /** Names of guards, or of their scenarios. */
  readonly only: readonly string[] | null
}

/** Failures that are named; the rest is counted. */
const named = 40

try {
  process.exitCode = await main(optionsOf(process.argv.slice(2)))
} catch (error) {
  if (!(error instanceof ReanchorError)) throw error
  say(error.message)
  process.exitCode = 2
}

async function main({ seed, scale, cases, parts: chosen, only }: Options): Promise<number> {
  if (cases !== null) return casesOf(cases)
  const line: Record<string, unknown> = {}
  let wrong = 0
  if (chosen.includes('mutants')) {
    const { mutants, harmless, failures } = await runMutants({ seed, scale, say })
    for (const { mutant, expected, found } of failures.slice(0, named))
      say(`${mutant}\n  expected ${expected.join(' or ')}, found ${found.join(', ')}`)
    wrong += failures.length
    Object.assign(line, { mutants, harmless })
  }
  if (chosen.includes('wire')) {
    const { mixes, disagreements, ...more } = await wire({ seed, scale, say })
    wrong += disagreements
    line.wire = { mixes, disagreements, ...more }
  }
  if (chosen.includes('rehearsals')) {
    const counts = await rehearsals({ seed, scale, width: availableParallelism(), say })
    wrong += counts.failedHandshakes
    line.rehearsals = counts
  }
  if (chosen.includes('crashPoints')) {
    const { failures, ...counts } = await runCrashPoints({ seed, scale, say })
    for (const failure of failures.slice(0, named)) say(failure)
    wrong += failures.length
    Object.assign(line, counts)
  }
  if (chosen.includes('guards')) {
    const { total, caught, failures } = await runGuards({ seed, scale, say, ...(only === null ? {} : { only }) })
    for (const failure of failures) say(failure)
    wrong += failures.length
    line.guards = { total, caught }
  }
  process.stdout.write(`${JSON.stringify(line)}\n`)
  return wrong === 0 ? 0 : 1
}

function casesOf(folder: string): number {
  const results = runCases(folder)
  const failed = results.filter(({ failure }) => failure !== null)
  for (const { file, name, failure } of failed) say(`${file}: ${name}\n  found ${failure}`)
  process.stdout.write(
    `${JSON.stringify({ cases: { run: results.length, asExpected: results.length - failed.length } })}\n`,
  )
  return failed.length === 0 ? 0 : 1
}

function optionsOf(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      seed: { type: 'string', default: '1' },
      scale: { type: 'string', default: '1' },
      cases: { type: 'string' },
      parts: { type: 'string', default: parts.join() },
      only: { type: 'string' },
    },
  })
  const seed = Number(values.seed)
  const scale = Number(values.scale)
  if (!Number.isInteger(seed) || seed < 0) throw usage('--seed', 'a whole number from 0 on', values.seed)
  if (!(scale > 0 && scale <= 100)) throw usage('--scale', 'a number above 0, up to 100', values.scale)
  const chosen = values.parts.split(',')
  const unknown = chosen.find(part => !parts.some(known => known === part))
  if (unknown !== undefined) throw usage('--parts', `some of ${parts.join()}`, unknown)
  const cases = values.cases ?? null
  if (cases !== null && !existsSync(cases)) throw usage('--cases', 'a folder', `${cases}, which does not exist`)
  const only = values.only?.split(',') ?? null
  return { seed, scale, cases, parts: parts.filter(part => chosen.includes(part)), only }
}

function usage(option: string, expected: string, found: string): ReanchorError {
  return new ReanchorError({ what: `${option} cannot be used so`, expected, found })
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}
