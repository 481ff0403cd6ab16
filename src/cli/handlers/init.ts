import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { filesForWiring } from '../../commands/files.ts'
import { defaultBase } from '../../commands/rotation.ts'
import { forgeOfRemote, type InitFlags, runInit } from '../../declaration/init.ts'
import { exitCodes } from '../../errors.ts'
import { clearUnfinished, writeOnce } from '../../files/write-once.ts'
import type { Repository } from '../../repository/repository.ts'
import type { WriteHook } from '../../repository/write-hook.ts'
import type { HostedForgeChoice } from '../../rotation.ts'
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
    forge: await forgeOf(repository),
  })
  const file = join(root, result.path)
  if (!options.dryRun) await writeDeclared(file, result, repository.onWrite)
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

/** A remote that cannot be used is said by the command that uses it. */
async function forgeOf({ remote, remoteUrl }: Repository): Promise<HostedForgeChoice | null> {
  const url = remote === null ? null : await remoteUrl(remote, 'push').catch(() => null)
  return url === null ? null : forgeOfRemote(url, process.env)
}

/** Whole or not at all: half a declaration would be refused as somebody's own when `init` runs again. */
export async function writeDeclared(
  file: string,
  declared: { readonly text: string; readonly unchanged: boolean },
  onWrite: WriteHook,
): Promise<void> {
  if (declared.unchanged) {
    if (existsSync(file)) clearUnfinished(file)
    return
  }
  mkdirSync(dirname(file), { recursive: true })
  await writeOnce(file, declared.text, { mode: null, onWrite, withoutLinks: 'rename' })
}
