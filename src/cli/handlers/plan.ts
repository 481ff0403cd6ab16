import { plan } from '../../commands/plan.ts'
import { exitCodes } from '../../errors.ts'
import { stepsOf } from '../../plan/steps.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor } from './common.ts'

interface PlanFlags extends CommonOptions {
  readonly rootKeyOut?: string
  readonly keysOut?: string
  readonly chain?: readonly string[]
  readonly acceptOutage: boolean
  readonly dryRun: boolean
}

export async function planHandler(options: PlanFlags, terminal: Terminal): Promise<CommandResult> {
  const context = await contextFor(options, terminal)
  const outcome = await plan(context, {
    ...chosen(options),
    rootKeyOut: options.rootKeyOut ?? null,
    keysOut: options.keysOut ?? null,
    chain: options.chain ?? null,
    acceptOutage: options.acceptOutage,
  })
  const { plan: made, pullRequest } = outcome
  const lines = [
    outcome.kind === 'unchanged'
      ? `nothing to plan: ${outcome.remarks.join('; ')}`
      : `planned ${made.metadata.name}: ${made.phases.length} phases, ${stepsOf(made).length} steps, ${made.sites.length} ${made.sites.length === 1 ? 'site' : 'sites'}`,
    `proof: ${outcome.proof.safe ? 'every handshake succeeds in every mix of neighbouring steps' : 'NOT SAFE'}`,
    ...outcome.written.map(
      file => `the new root's private key, sealed, is in ${file}: keep it offline, it is written once`,
    ),
    ...(outcome.kind === 'unchanged' ? [] : outcome.remarks),
    ...(pullRequest === null ? [] : [`pull request #${pullRequest.number}: ${pullRequest.title}`]),
    ...(outcome.kind === 'dry-run' ? ['dry run: nothing was written'] : []),
  ]
  const certificates = made.certificates.map(({ role, subject, sha256, notAfter }) => ({
    role,
    subject,
    sha256,
    notAfter,
  }))
  return {
    rotation: made.metadata.name,
    exit: exitCodes.done,
    result: {
      kind: outcome.kind,
      branch: outcome.branch,
      commit: outcome.commit,
      pullRequest:
        pullRequest === null ? null : { number: pullRequest.number, title: pullRequest.title, url: pullRequest.url },
      certificates,
      safe: outcome.proof.safe,
      written: outcome.written,
      remarks: outcome.remarks,
    },
    text: lines.join('\n'),
  }
}
