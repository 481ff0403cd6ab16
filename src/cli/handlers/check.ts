import { check } from '../../commands/check.ts'
import { exitCodes } from '../../errors.ts'
import { trustDiffText } from '../../report/trust-diff.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor } from './common.ts'

export async function checkHandler(
  options: CommonOptions,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const context = await contextFor(options, terminal, true)
  const outcome = await check(context, { ...chosen(options), range: words[0] ?? null })
  const { verdict } = outcome
  // With one verdict the sentence above says it all; most sentences begin with their sites' names.
  const named = ({ sites, sentence }: (typeof verdict.sites)[number]) =>
    sites[0] !== undefined && sentence.startsWith(sites[0]) ? sentence : `${sites.join(', ')}: ${sentence}`
  const sites = verdict.sites.length < 2 ? [] : verdict.sites.map(site => `  ${site.safe ? '✔' : '×'} ${named(site)}`)
  const lines = [
    verdict.change.none ? 'no change of trust' : trustDiffText(verdict.change).trimEnd(),
    '',
    `${verdict.safe ? 'safe' : 'NOT SAFE'}: ${verdict.sentence}`,
    ...sites,
    ...(verdict.goodUntil === null ? [] : [`good until ${verdict.goodUntil}`]),
  ]
  return {
    rotation: outcome.rotation,
    exit: verdict.safe ? exitCodes.done : exitCodes.refused,
    result: { base: outcome.base, head: outcome.head, ...verdict },
    text: lines.join('\n'),
  }
}
