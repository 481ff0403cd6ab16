import { randomBytes } from 'node:crypto'
import { demo } from '../../commands/demo.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type FaultName, faultNames } from '../../rehearsal/faults.ts'
import type { DemoSystem } from '../../rehearsal/system.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { rehearsedLines } from './common.ts'
import { knownSystem } from './system.ts'

interface DemoFlags extends CommonOptions {
  readonly dir?: string
  readonly sites?: string
  readonly regions?: string
  readonly install?: string
  readonly flow?: string
  readonly scenario?: string
  readonly fault?: string
  readonly seed: string
}

export async function demoHandler(
  options: DemoFlags,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const system = knownSystem(words[0] ?? 'istio', 'demo')
  const { demo: usual } = await system.rehearsal()
  const sites = sitesOf(options, usual)
  const fault = faultOf(options.fault)
  const variant = fault === null ? variantOf(options, usual) : struckVariant(variantOf(options, usual), usual)
  const started = Date.now()
  const outcome = await demo({
    dir: options.dir ?? null,
    system: system.name,
    sites,
    variant,
    fault,
    seed: options.seed,
    random: size => randomBytes(size),
    say: line => {
      if (options.output === 'text') terminal.out(`${line}\n`)
    },
  })
  const { result } = outcome
  const restarts = result.restarts.filter(restart => restart.count > 0)
  const lines = [
    '',
    ...rehearsedLines(outcome, started),
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

function sitesOf(options: DemoFlags, usual: DemoSystem): number {
  const flag = options.regions === undefined ? 'sites' : 'regions'
  if (options.sites !== undefined && options.regions !== undefined)
    throw new ReanchorError({
      what: '--sites and --regions say the same',
      expected: 'one of them',
      found: `--sites ${options.sites} --regions ${options.regions}`,
      todo: 'leave one out',
    })
  const text = options.sites ?? options.regions
  if (text === undefined) return usual.usualSites
  const sites = Number(text)
  const most = usual.sites.length
  if (Number.isInteger(sites) && sites >= 1 && sites <= most) return sites
  throw new ReanchorError({
    what: `--${flag} is out of range`,
    expected: `a number from 1 to ${most}`,
    found: text,
    example: `--${flag} ${most}`,
  })
}

function faultOf(text: string | undefined): FaultName | null {
  if (text === undefined) return null
  const found = faultNames.find(name => name === text)
  if (found !== undefined) return found
  throw new ReanchorError({
    what: 'no such fault',
    expected: faultNames.join(', '),
    found: text,
    example: `--fault ${faultNames[0]}`,
    exit: exitCodes.usage,
  })
}

/** The variant that was chosen, or the first in which faults are acted out. */
function struckVariant(chosen: string | null, { faults, variantFlag, variants }: DemoSystem): string | null {
  const able = variants.filter(variant => faults(variant) !== null)
  const found = [chosen, ...(chosen === null ? able : [])].find(variant => faults(variant) !== null)
  if (found !== undefined) return found
  throw new ReanchorError({
    what: `no fault is acted out in ${chosen ?? 'this demo'}`,
    expected: able.length === 0 ? 'no --fault' : `--${variantFlag} ${able.join(' or ')}`,
    found: '--fault',
    exit: exitCodes.usage,
  })
}

/** The demo's variant; null: the usual one. */
function variantOf(options: DemoFlags, { variantFlag, variants }: DemoSystem): string | null {
  for (const flag of ['install', 'flow', 'scenario'] as const) {
    const text = options[flag]
    if (text === undefined || (flag === variantFlag && variants.includes(text))) continue
    throw new ReanchorError({
      what: flag === variantFlag ? `no such ${variantWords[flag]}` : `--${flag} is not of this system’s demo`,
      expected:
        flag === variantFlag ? variants.join(', ') : variantFlag === null ? 'no such option' : `--${variantFlag}`,
      found: flag === variantFlag ? text : `--${flag} ${text}`,
      ...(variantFlag === null ? {} : { example: `--${variantFlag} ${variants.at(-1)}` }),
      exit: exitCodes.usage,
    })
  }
  return variantFlag === null ? null : (options[variantFlag] ?? null)
}

const variantWords = { install: 'way to install Istio', flow: 'flow', scenario: 'scenario' } as const
