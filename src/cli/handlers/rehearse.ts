import { randomBytes } from 'node:crypto'
import { findDeclaration } from '../../commands/declared.ts'
import { rehearse } from '../../commands/rehearse.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, rehearsedLines } from './common.ts'

interface RehearseFlags extends CommonOptions {
  readonly seed: string
}

export async function rehearseHandler(options: RehearseFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal, true)
  const declared = await findDeclaration(context, chosen(options))
  const started = Date.now()
  const outcome = await rehearse(context, declared, {
    seed: options.seed,
    random: size => randomBytes(size),
    say: line => {
      if (options.output === 'text') terminal.out(`${line}\n`)
    },
  })
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
