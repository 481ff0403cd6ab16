import type { Context } from '../../commands/context.ts'
import { noPaint, type Paint, paintWith } from '../../report/paint.ts'
import { systemContext } from '../context.ts'
import type { CommonOptions } from '../options.ts'
import type { Terminal } from '../output.ts'

export async function contextFor(
  options: CommonOptions & { readonly dryRun?: boolean },
  terminal: Terminal,
  offline = false,
): Promise<Context> {
  return await systemContext({ repo: options.repo, dryRun: options.dryRun ?? false, offline }, terminal)
}

export function chosen(options: CommonOptions): { readonly rotation: string | null; readonly base: string | null } {
  return { rotation: options.rotation ?? null, base: options.base ?? null }
}

export async function paintFor(terminal: Terminal): Promise<Paint> {
  if (!terminal.color) return noPaint
  const { default: colors } = await import('picocolors')
  return paintWith(colors.createColors(true))
}

/** How many of the handshakes that failed the plan had said would. */
export function foretoldText(failed: number, foretold: number): string {
  if (foretold === 0) return ''
  return failed === foretold ? ', each of them as the plan foretold' : `, of which the plan foretold ${foretold}`
}

export function widthOf(): number {
  return Math.min(process.stdout.columns ?? 100, 140)
}
