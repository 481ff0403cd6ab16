import { attest } from '../../commands/attest.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor } from './common.ts'

interface AttestFlags extends CommonOptions {
  readonly phase: string
  readonly by?: string
  readonly dryRun: boolean
}

export async function attestHandler(
  options: AttestFlags,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const phase = Number(options.phase)
  if (!Number.isInteger(phase) || phase < 0) {
    throw new ReanchorError({
      what: '--phase is not a phase',
      expected: 'its number, such as 2',
      found: options.phase,
      todo: 'see `reanchor status`',
    })
  }
  const context = await contextFor(options, terminal)
  const by = options.by ?? `${context.author.name} <${context.author.email}>`
  const { rotation, pullRequest, path } = await attest(context, { ...chosen(options), name: words[0] ?? '', phase, by })
  const number = pullRequest?.number ?? null
  return {
    rotation,
    exit: exitCodes.done,
    result: {
      path,
      pullRequest: pullRequest === null ? null : { number, title: pullRequest.title, url: pullRequest.url },
    },
    text:
      pullRequest === null ? `dry run: would write ${path}` : `opened pull request #${number}: ${pullRequest.title}`,
  }
}
