import { writeFileSync } from 'node:fs'
import { reportView } from '../../commands/report.ts'
import { loadRotation, positionsAt } from '../../commands/rotation.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { ReportView } from '../../report/report-view.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, paintFor, widthOf } from './common.ts'

interface ReportFlags extends CommonOptions {
  readonly live: boolean
  readonly html?: string
}

export async function reportHandler(options: ReportFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal, !options.live)
  if (options.live) await context.repository.fetch()
  const rotation = await loadRotation(context.repository, chosen(options))
  const view = await reportView(context, rotation, options.live ? await looksOf(context, rotation) : null)
  if (options.html !== undefined) await writePage(options.html, view)
  return { rotation: rotation.name, exit: exitCodes.done, result: view, text: await textOf(view, options, terminal) }
}

async function looksOf(
  context: Parameters<typeof reportView>[0],
  rotation: Parameters<typeof reportView>[1],
): Promise<Parameters<typeof reportView>[2]> {
  const { lookAtSites } = await import('../../commands/verify.ts')
  return await lookAtSites(context, rotation, await positionsAt(rotation.snapshot, rotation.plan))
}

async function writePage(file: string, view: ReportView): Promise<void> {
  const { reportPage } = await import('../../report/html/page.ts')
  const { assertNoPrivateKey } = await import('../../custody/leak.ts')
  const page = reportPage(view)
  assertNoPrivateKey(page, file)
  try {
    writeFileSync(file, page)
  } catch (cause) {
    throw new ReanchorError({
      what: 'the page cannot be written',
      where: { file },
      expected: 'a file in a folder that this user may write to',
      found: (cause as NodeJS.ErrnoException).code ?? 'an error',
      todo: 'correct --html',
      cause,
    })
  }
}

async function textOf(view: ReportView, { html }: ReportFlags, terminal: Terminal): Promise<string> {
  if (html !== undefined) return `wrote ${html}`
  const { reportText } = await import('../../report/report-text.ts')
  return reportText(view, { paint: await paintFor(terminal), width: widthOf() })
}
