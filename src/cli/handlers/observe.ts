import type { Context } from '../../commands/context.ts'
import { type ObserveOutcome, observe } from '../../commands/observe.ts'
import { exitCodes } from '../../errors.ts'
import type { ClusterChoice } from '../../rotation.ts'
import { type CommonOptions, duration } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor } from './common.ts'
import { gatesText, waitingExit } from './next.ts'

interface ObserveFlags extends CommonOptions {
  readonly site: string
  readonly context?: string
  readonly wait: boolean
  readonly timeout: string
  readonly hook: boolean
  readonly waitingOk: boolean
  readonly dryRun: boolean
  readonly signingKey?: string
}

export async function observeHandler(options: ObserveFlags, terminal: Terminal): Promise<CommandResult> {
  const timeout = duration(options.timeout, '--timeout')
  const own: ClusterChoice =
    options.context === undefined ? { kind: 'inCluster' } : { kind: 'context', context: options.context }
  const outcome = await observe(fromInside(await contextFor(options, terminal), options.site, own), {
    ...chosen(options),
    site: options.site,
    wait: options.wait ? timeout : null,
    hook: options.hook,
  })
  const exit = outcome.verdict === 'holds' ? exitCodes.done : waitingExit(outcome.verdict)
  const [only] = outcome.rotations
  return {
    rotation: outcome.rotations.length === 1 ? (only?.name ?? null) : null,
    exit: options.waitingOk && exit === exitCodes.waiting ? exitCodes.done : exit,
    result: resultOf(outcome),
    text: await textOf(outcome, options.dryRun, terminal),
  }
}

/** The site's own cluster is the one that this runs in; what lies in others is read as declared. */
function fromInside(context: Context, site: string, own: ClusterChoice): Context {
  return {
    ...context,
    openCluster: async asked => await context.openCluster(asked.name === site ? { ...asked, cluster: own } : asked),
  }
}

function resultOf({ site, verdict, rotations, passed }: ObserveOutcome) {
  return {
    site,
    verdict,
    rotations: rotations.map(({ name, look, pushed }) => ({
      rotation: name,
      verdict: look.verdict.verdict,
      gates: look.verdict.gates,
      evidence: look.evidence,
      pushed,
    })),
    passed,
  }
}

async function textOf(outcome: ObserveOutcome, dryRun: boolean, terminal: Terminal): Promise<string> {
  const lines: string[] = []
  for (const { name, look, pushed } of outcome.rotations) {
    lines.push(await gatesText(look.verdict.gates, [look.evidence], terminal))
    if (look.unseen !== null) lines.push(`${name}: nothing was seen, so nothing is reported`)
    else if (pushed !== null) lines.push(`${name}: reported at ${pushed.ref}`)
    else lines.push(`${name}: nothing is pushed: ${dryRun ? '--dry-run' : 'its `cluster` has no `reports`'}`)
  }
  for (const { rotation, why } of outcome.passed) lines.push(`${rotation}: nothing to look at: ${why}`)
  if (lines.length === 0) lines.push('no rotation is open, so there is nothing to look at')
  return lines.join('\n')
}
