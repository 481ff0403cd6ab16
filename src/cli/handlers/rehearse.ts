import { randomBytes } from 'node:crypto'
import { type Declared, findDeclaration } from '../../commands/declared.ts'
import type { FaultyRehearsal } from '../../commands/faulty.ts'
import { type RunsOutcome, rehearse, rehearseRuns } from '../../commands/rehearse.ts'
import { type ExitCode, exitCodes, ReanchorError } from '../../errors.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, rehearsedLines } from './common.ts'

interface RehearseFlags extends CommonOptions {
  readonly seed: string
  readonly runs?: string
}

export async function rehearseHandler(options: RehearseFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal, true)
  const declared = await findDeclaration(context, chosen(options))
  const say = (line: string): void => {
    if (options.output === 'text') terminal.out(`${line}\n`)
  }
  const random = (size: number): Buffer => randomBytes(size)
  if (options.runs !== undefined) {
    const seed = wholeNumber('--seed', options.seed, 0)
    const runs = wholeNumber('--runs', options.runs, 1)
    return runsResult(await rehearseRuns(context, declared, { seed, runs, random, say }), declared)
  }
  const started = Date.now()
  const outcome = await rehearse(context, declared, { seed: options.seed, random, say })
  const { handshakes, phases, restarts } = outcome.result
  const text = ['', ...outcome.remarks, ...rehearsedLines(outcome, started)].join('\n')
  return {
    rotation: outcome.result.rotation,
    exit: outcome.exit,
    result: {
      handshakes,
      phases: phases.map(({ number, name, step, site }) => ({ number, name, step, site })),
      restarts,
      remarks: outcome.remarks,
    },
    text,
  }
}

function runsResult({ runs, remarks, rotation }: RunsOutcome, { file }: Declared): CommandResult {
  const attempted = sum(runs.map(({ handshakes }) => handshakes.attempted))
  const failed = sum(runs.map(({ handshakes }) => handshakes.failed))
  const finished = runs.filter(run => run.finished).length
  const first = runs.find(run => run.firstFailure !== null)
  const exit: ExitCode = failed > 0 ? exitCodes.refused : finished < runs.length ? exitCodes.waiting : exitCodes.done
  const lines = [
    '',
    ...remarks,
    `${runs.length} runs under faults, ${finished} of them to the closed rotation: ${attempted} handshakes attempted, ${failed} failed`,
    ...(first === undefined ? [] : failureLines(first, file)),
  ]
  return {
    rotation,
    exit,
    result: {
      handshakes: { attempted, failed },
      finished,
      runs: runs.map(({ seed, finished, stoppedBy, steps, waitedFor, handshakes }) => ({
        seed,
        finished,
        stoppedBy,
        steps,
        waitedFor,
        handshakes,
      })),
      firstFailure: first === undefined ? null : failureOf(first),
      remarks,
    },
    text: lines.join('\n'),
  }
}

function failureOf({ seed, firstFailure }: FaultyRehearsal) {
  if (firstFailure === null) return null
  const { at, step, faults, handshake, trace } = firstFailure
  const { link, client, clientLeaf, clientTrusts, server, serverLeaf, serverChain, serverTrusts, error } = handshake
  return {
    seed,
    at,
    step,
    link,
    client,
    clientLeaf,
    clientTrusts,
    server,
    serverLeaf,
    serverChain,
    serverTrusts,
    error,
    faults,
    trace,
  }
}

function failureLines(run: FaultyRehearsal, file: string): readonly string[] {
  const failure = failureOf(run)
  if (failure === null) return []
  const short = (fingerprints: readonly string[]): string => fingerprints.map(each => each.slice(0, 16)).join(', ')
  return [
    `seed ${failure.seed}, the first that failed, after ${failure.step} at ${failure.at}: ${failure.link}, ${failure.client} → ${failure.server}: ${failure.error}`,
    `  client: leaf ${failure.clientLeaf?.slice(0, 16) ?? 'none'}, trusts ${short(failure.clientTrusts)}`,
    `  server: leaf ${failure.serverLeaf.slice(0, 16)}, trusts ${short(failure.serverTrusts)}`,
    ...failure.faults.map(fault => `  out of order then: ${fault}`),
    'what led to it:',
    ...failure.trace.map(({ at, what }) => `  ${at} ${what}`),
    `again: reanchor rehearse --runs 1 --seed ${failure.seed}   (${file})`,
  ]
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}

function wholeNumber(option: string, text: string, least: number): number {
  const found = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (found >= least) return found
  throw new ReanchorError({
    what: `${option} cannot be used so`,
    expected: `a whole number from ${least} on`,
    found: text,
    example: 'reanchor rehearse --seed 1 --runs 20',
    todo: 'correct the option',
  })
}
