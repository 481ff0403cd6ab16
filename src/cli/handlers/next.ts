import { type NextOutcome, next } from '../../commands/next.ts'
import { type ExitCode, exitCodes } from '../../errors.ts'
import type { Evidence, GateResult, Plan } from '../../rotation.ts'
import type { Drain } from '../../verify/drain.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, paintFor } from './common.ts'

interface NextFlags extends CommonOptions {
  readonly nudge: boolean
  readonly dryRun: boolean
}

export async function nextHandler(options: NextFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal)
  const { rotation, outcome } = await next(context, { ...chosen(options), variant: options.nudge ? 'nudge' : 'step' })
  return { rotation: rotation.name, ...(await describeOutcome(outcome, terminal)) }
}

export async function undoHandler(options: NextFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal)
  const { rotation, outcome } = await next(context, { ...chosen(options), variant: 'undo' })
  return { rotation: rotation.name, ...(await describeOutcome(outcome, terminal)) }
}

export async function abandonHandler(options: NextFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal)
  const { rotation, outcome } = await next(context, { ...chosen(options), variant: 'step', abandon: true })
  return { rotation: rotation.name, ...(await describeOutcome(outcome, terminal)) }
}

export async function describeOutcome(
  outcome: NextOutcome,
  terminal: Terminal,
): Promise<Omit<CommandResult, 'rotation'>> {
  switch (outcome.kind) {
    case 'done':
      return { exit: exitCodes.done, result: { kind: 'done' }, text: 'done: the rotation is closed' }
    case 'open': {
      const { number, title, url } = outcome.pullRequest
      return {
        exit: exitCodes.waiting,
        result: { kind: 'open', pullRequest: { number, title, url }, gates: gatesOf(outcome.looks) },
        text: `pull request #${number} is open: ${title}\nmerge it, let it roll out, then run this again`,
      }
    }
    case 'opened':
    case 'dry-run': {
      const { pullRequest, title, branch } = outcome
      const number = pullRequest?.number ?? null
      return {
        exit: exitCodes.done,
        result: {
          kind: outcome.kind,
          pullRequest: { number, title, url: pullRequest?.url ?? null },
          branch,
          body: outcome.body,
          gates: gatesOf(outcome.looks),
        },
        text:
          outcome.kind === 'opened'
            ? `opened pull request #${number}: ${title}`
            : `dry run: would open ${title}\n\n${outcome.body}`,
      }
    }
    case 'waiting':
      return {
        exit: waitingExit(outcome.verdict),
        result: { kind: 'waiting', verdict: outcome.verdict, gates: outcome.gates },
        text: await gatesText(
          outcome.gates,
          outcome.looks.map(look => look.evidence),
          terminal,
        ),
      }
  }
}

/** Pending is waiting; what is violated or was not seen is evidence that is missing. */
export function waitingExit(verdict: 'pending' | 'violated' | 'unknown'): ExitCode {
  return verdict === 'pending' ? exitCodes.waiting : exitCodes.violated
}

interface ShownDrains {
  readonly of: readonly Drain[]
  readonly certificates: Plan['certificates']
}

export async function gatesText(
  gates: readonly GateResult[],
  evidence: readonly Evidence[],
  terminal: Terminal,
  drains: ShownDrains = { of: [], certificates: [] },
): Promise<string> {
  const { verifyText, verifyView } = await import('../../verify/render.ts')
  const paint = await paintFor(terminal)
  const colors = { holds: paint.good, pending: paint.wait, unknown: paint.bad, violated: paint.bad }
  const { drainLines } = await import('../../report/drain-text.ts')
  const drained = new Map(drains.of.map(drain => [drain.site, drainLines(drain, drains.certificates)]))
  return verifyText(verifyView(gates, evidence), {
    drained,
    unicode: process.env.TERM !== 'linux',
    paint: (verdict, sign) => colors[verdict](sign),
  })
}

function gatesOf(
  looks: readonly { readonly verdict: { readonly gates: readonly GateResult[] } }[],
): readonly GateResult[] {
  return looks.flatMap(look => look.verdict.gates)
}
