import { readFileSync } from 'node:fs'
import { defaultBase } from '../../commands/rotation.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { textconv } from '../../report/textconv.ts'
import { describeChange, trustDiffText } from '../../report/trust-diff.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { contextFor } from './common.ts'

interface DiffFlags extends CommonOptions {
  readonly textconv?: string
}

export async function diffHandler(
  options: DiffFlags,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  if (options.textconv !== undefined) {
    const text = textconv(readFileSync(options.textconv, 'utf8'), options.textconv)
    return { rotation: null, exit: exitCodes.done, result: { text }, text }
  }
  const context = await contextFor(options, terminal, true)
  const { repository } = context
  const range = (words[0] ?? `${options.base ?? (await defaultBase(repository))}..HEAD`).split('..')
  const [from, to] = range
  if (range.length !== 2 || from === undefined || to === undefined || from.startsWith('-')) {
    throw new ReanchorError({
      what: 'not a range of commits',
      expected: 'REV..REV',
      found: words[0] ?? '',
      example: 'reanchor diff main~1..main',
      todo: 'correct the argument',
    })
  }
  const [before, after] = [await repository.commitAt(from), await repository.commitAt(to)]
  const paths = [...(await repository.changedPaths(before, after)).keys()].filter(
    path => !/^rotations\/[^/]+\/phases\//.test(path),
  )
  const change = describeChange(
    Object.fromEntries(await repository.snapshot(before).readMany(paths)),
    Object.fromEntries(await repository.snapshot(after).readMany(paths)),
  )
  return { rotation: null, exit: exitCodes.done, result: change, text: trustDiffText(change) }
}
