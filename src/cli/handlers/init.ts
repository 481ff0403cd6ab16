import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { filesForWiring } from '../../commands/files.ts'
import { defaultBase } from '../../commands/rotation.ts'
import { type InitFlags, runInit } from '../../declaration/init.ts'
import { exitCodes } from '../../errors.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { contextFor } from './common.ts'
import { knownSystem } from './system.ts'

interface InitOptions extends CommonOptions, Omit<InitFlags, 'base'> {
  readonly yes: boolean
  readonly dryRun: boolean
}

export async function initHandler(
  options: InitOptions,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const system = knownSystem(words[0] ?? '', 'init')
  const context = await contextFor(options, terminal, true)
  const { repository } = context
  const base = options.base ?? (await defaultBase(repository))
  const files = await filesForWiring(repository.snapshot(await repository.head(base)))
  const root = repository.workTree ?? process.cwd()
  const { askOnTerminal } = await import('../../declaration/prompt.ts')
  const result = await runInit({
    system: system.name,
    files,
    flags: { ...options, base },
    existing: path => (existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : null),
    now: context.now(),
    ask: terminal.interactive && !options.yes && options.output === 'text' ? askOnTerminal : null,
  })
  const file = join(root, result.path)
  if (!result.unchanged && !options.dryRun) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, result.text, { flag: 'wx' })
  }
  const wrote = options.dryRun
    ? `dry run: would write ${result.path}\n\n${result.text}`
    : result.unchanged
      ? `${result.path} is there already, and is the same`
      : `wrote ${result.path}`
  return {
    rotation: result.path.split('/')[1] ?? null,
    exit: exitCodes.done,
    result: { path: result.path, text: result.text, remarks: result.remarks, unchanged: result.unchanged },
    text: [wrote, ...result.remarks.map(remark => `  ${remark}`), '', result.nextSteps].join('\n'),
  }
}
