import { type CheckOutcome, check, type SeenEvidence } from '../../commands/check.ts'
import { exitCodes } from '../../errors.ts'
import { annotationsOf, findingsOf, named, sarifOf } from '../../report/check-findings.ts'
import { trustDiffText } from '../../report/trust-diff.ts'
import { authorshipText } from '../../verify/authorship.ts'
import type { CommonOptions, OutputFormat } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { packageVersion } from '../version.ts'
import { chosen, contextFor } from './common.ts'

export async function checkHandler(
  options: CommonOptions,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const context = await contextFor(options, terminal, true)
  const outcome = await check(context, { ...chosen(options), range: words[0] ?? null })
  const { verdict } = outcome
  return {
    rotation: outcome.rotation,
    exit: verdict.safe ? exitCodes.done : exitCodes.refused,
    result: { base: outcome.base, head: outcome.head, ...verdict, evidence: outcome.evidence },
    text: textIn(options.output, outcome),
  }
}

function textIn(format: OutputFormat, { verdict, folders, evidence }: CheckOutcome): string {
  if (format === 'sarif') return JSON.stringify(sarifOf(findingsOf(verdict, folders), packageVersion()), null, 2)
  if (format === 'annotations') return annotationsOf(findingsOf(verdict, folders), verdict)
  // With one verdict the sentence above says it all.
  const sites = verdict.sites.length < 2 ? [] : verdict.sites.map(site => `  ${site.safe ? '✔' : '×'} ${named(site)}`)
  return [
    verdict.change.none ? 'no change of trust' : trustDiffText(verdict.change).trimEnd(),
    '',
    `${verdict.safe ? 'safe' : 'NOT SAFE'}: ${verdict.sentence}`,
    ...sites,
    ...(verdict.goodUntil === null ? [] : [`good until ${verdict.goodUntil}`]),
    ...(verdict.change.none ? [] : evidence.map(evidenceText)),
  ].join('\n')
}

function evidenceText({ site, at, authorship, refused }: SeenEvidence): string {
  return `${site}: seen at ${at}, ${refused === null ? authorshipText(authorship) : `not counted: ${refused}`}`
}
