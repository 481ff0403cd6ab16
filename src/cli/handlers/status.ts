import { loadRotation, positionsAt } from '../../commands/rotation.ts'
import { statusView } from '../../commands/status.ts'
import { exitCodes } from '../../errors.ts'
import { statusText } from '../../report/status.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, paintFor, widthOf } from './common.ts'

interface StatusFlags extends CommonOptions {
  readonly live: boolean
}

export async function statusHandler(options: StatusFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal, !options.live)
  if (options.live) await context.repository.fetch()
  const rotation = await loadRotation(context.repository, chosen(options))
  const looks = options.live ? await liveLooks(context, rotation) : null
  const view = await statusView(context, rotation, looks)
  return {
    rotation: rotation.name,
    exit: exitCodes.done,
    result: view,
    text: statusText(view, { paint: await paintFor(terminal), width: widthOf() }),
  }
}

async function liveLooks(context: Parameters<typeof statusView>[0], rotation: Parameters<typeof statusView>[1]) {
  const { lookAtSites } = await import('../../commands/verify.ts')
  return await lookAtSites(context, rotation, await positionsAt(rotation.snapshot, rotation.plan))
}
