import type { Context } from '../../commands/context.ts'
import type { DemoOutcome } from '../../commands/demo.ts'
import { noPaint, type Paint, paintWith } from '../../report/paint.ts'
import { systemContext } from '../context.ts'
import type { CommonOptions } from '../options.ts'
import type { Terminal } from '../output.ts'

export async function contextFor(
  options: CommonOptions & { readonly dryRun?: boolean; readonly signingKey?: string },
  terminal: Terminal,
  offline = false,
): Promise<Context> {
  const { repo, dryRun = false, signingKey } = options
  return await systemContext({ repo, dryRun, offline, signingKey }, terminal)
}

export function chosen(options: CommonOptions): { readonly rotation: string | null; readonly base: string | null } {
  return { rotation: options.rotation ?? null, base: options.base ?? null }
}

export async function paintFor(terminal: Terminal): Promise<Paint> {
  if (!terminal.color) return noPaint
  const { default: colors } = await import('picocolors')
  return paintWith(colors.createColors(true))
}

/** How a rehearsal went, in two lines. `started`: milliseconds since 1970. */
export function rehearsedLines({ result, virtualTime }: DemoOutcome, started: number): readonly string[] {
  const { attempted, failed, foretold } = result.handshakes
  const requests = new Set(result.phases.map(phase => phase.pr)).size
  const [virtual, real] = [(virtualTime / 3_600_000).toFixed(1), ((Date.now() - started) / 1000).toFixed(0)]
  return [
    `${requests} pull requests merged and verified in ${virtual} hours of the clusters' time, ${real} seconds of yours`,
    `${attempted} handshakes attempted, ${failed} failed${foretoldText(failed, foretold)}`,
  ]
}

/** How many of the handshakes that failed the plan had said would. */
function foretoldText(failed: number, foretold: number): string {
  if (foretold === 0) return ''
  return failed === foretold ? ', each of them as the plan foretold' : `, of which the plan foretold ${foretold}`
}

export function widthOf(): number {
  return Math.min(process.stdout.columns ?? 100, 140)
}
