import { randomBytes } from 'node:crypto'
import { demo } from '../../commands/demo.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type FaultName, faultNames } from '../../rehearsal/faults.ts'
import { type FleetInstall, fleetInstalls } from '../../rehearsal/fleet.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'

interface DemoFlags extends CommonOptions {
  readonly dir?: string
  readonly sites: string
  readonly install: string
  readonly fault?: string
  readonly seed: string
}

export async function demoHandler(
  options: DemoFlags,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const system = words[0] ?? 'istio'
  if (system !== 'istio') throw notYet(system)
  const sites = Number(options.sites)
  if (!Number.isInteger(sites) || sites < 1 || sites > 6) {
    throw new ReanchorError({
      what: '--sites is out of range',
      expected: 'a number from 1 to 6',
      found: options.sites,
      example: '--sites 2',
    })
  }
  const started = Date.now()
  const outcome = await demo({
    dir: options.dir ?? null,
    sites,
    install: installOf(options.install),
    fault: faultOf(options.fault),
    seed: options.seed,
    random: size => randomBytes(size),
    say: line => {
      if (options.output === 'text') terminal.out(`${line}\n`)
    },
  })
  const { result } = outcome
  const { attempted, failed, foretold } = result.handshakes
  const restarts = result.restarts.filter(restart => restart.count > 0)
  const lines = [
    '',
    `${new Set(result.phases.map(phase => phase.pr)).size} pull requests merged and verified in ${(outcome.virtualTime / 3_600_000).toFixed(1)} hours of the clusters' time, ${((Date.now() - started) / 1000).toFixed(0)} seconds of yours`,
    `${attempted} handshakes attempted, ${failed} failed${foretold > 0 ? `, ${foretold} foretold` : ''}`,
    `restarts: ${restarts.map(each => `${sites > 1 ? `${each.site}/` : ''}${each.consumer} ${each.count} (planned ${each.planned})`).join(', ')}`,
    ...(result.fault === undefined ? [] : faultLines(result.fault)),
    ...(options.dir === undefined
      ? []
      : [`repository: ${result.repository}`, `age key of the demo: ${result.ageKeyFile}`]),
  ]
  return { rotation: result.rotation, exit: outcome.exit, result, text: lines.join('\n'), bare: true }
}

function faultLines(fault: NonNullable<Awaited<ReturnType<typeof demo>>['result']['fault']>): readonly string[] {
  const { kind, culprit, refusedAt } = fault
  if (refusedAt === null) return [`fault ${kind}: nothing stood in its way`]
  return [
    `fault ${kind}: \`reanchor ${refusedAt.command}\` refused at ${refusedAt.phase} (exit ${refusedAt.exit}) and named ${culprit ?? 'no culprit'}`,
  ]
}

function faultOf(text: string | undefined): FaultName | null {
  if (text === undefined) return null
  const found = faultNames.find(name => name === text)
  if (found !== undefined) return found
  throw new ReanchorError({
    what: 'no such fault',
    expected: faultNames.join(', '),
    found: text,
    example: '--fault never-reloads',
    exit: exitCodes.usage,
  })
}

function installOf(text: string): FleetInstall {
  const found = fleetInstalls.find(name => name === text)
  if (found !== undefined) return found
  throw new ReanchorError({
    what: 'no such way to install Istio',
    expected: fleetInstalls.join(', '),
    found: text,
    example: '--install argocd',
    exit: exitCodes.usage,
  })
}

function notYet(system: string): ReanchorError {
  return new ReanchorError({
    what: `no demo of ${system} in this version`,
    expected: 'istio',
    found: system,
    todo: 'run `reanchor demo istio`',
  })
}
