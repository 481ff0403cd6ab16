import { loadRotation } from '../../commands/rotation.ts'
import { exitCodes } from '../../errors.ts'
import { proveText } from '../../report/prove-text.ts'
import { provePlan } from '../../safety/prove.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, paintFor, widthOf } from './common.ts'

export async function proveHandler(options: CommonOptions, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal, true)
  const { plan, name } = await loadRotation(context.repository, chosen(options))
  const proof = provePlan(plan)
  return {
    rotation: name,
    exit: proof.safe ? exitCodes.done : exitCodes.refused,
    result: proof,
    text: proveText(proof, { paint: await paintFor(terminal), width: widthOf() }),
  }
}
