import { gateContext, gateText } from '../../commands/gate-status.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { PullRequest } from '../../forge/forge.ts'
import type { LocalForge, MergeMethod } from '../../forge/local.ts'
import { openForgeOf } from '../../forge/open.ts'
import { terminalText } from '../../report/escape.ts'
import type { CommonOptions } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { contextFor } from './common.ts'

/** Pull requests of the embedded forge, as a person would see them on a hosted one. */
async function forgeFor(options: CommonOptions, terminal: Terminal): Promise<LocalForge> {
  const context = await contextFor(options, terminal)
  return await openForgeOf(context.repository, { now: context.now })
}

export async function listHandler(
  options: CommonOptions & { readonly all: boolean },
  terminal: Terminal,
): Promise<CommandResult> {
  const forge = await forgeFor(options, terminal)
  const requests = await forge.list(options.all ? 'all' : 'open')
  const statuses = await Promise.all(requests.map(each => forge.status(each.head, gateContext)))
  const lines = requests.flatMap((each, index) => {
    const status = each.state === 'open' ? (statuses[index] ?? null) : null
    const gate = status === null ? [] : [`    ${gateContext}: ${gateText(status, new Date())}`]
    return [`#${each.number}  ${each.state.padEnd(6)}  ${each.title}`, ...gate]
  })
  const text = lines.length > 0 ? lines.join('\n') : `no ${options.all ? '' : 'open '}pull requests`
  return {
    rotation: null,
    exit: exitCodes.done,
    result: requests.map((each, index) => ({ ...summary(each), status: statuses[index] ?? null })),
    text,
  }
}

export async function showHandler(
  options: CommonOptions,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const forge = await forgeFor(options, terminal)
  const request = await forge.get(numberOf(words[0]))
  const status = await forge.status(request.head, gateContext)
  const gate =
    status === null ? '' : `\n${gateContext}: ${gateText(status, request.state === 'open' ? new Date() : null)}`
  const text = `#${request.number} ${request.title}\n${request.state}: ${request.branch} into ${request.base}${gate}\n\n${terminalText(request.body)}`
  return { rotation: null, exit: exitCodes.done, result: { ...request, status }, text }
}

export async function diffHandler(
  options: CommonOptions,
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const forge = await forgeFor(options, terminal)
  const diff = await forge.diff(numberOf(words[0]))
  return { rotation: null, exit: exitCodes.done, result: { diff }, text: diff }
}

export async function mergeHandler(
  options: CommonOptions & { readonly method: MergeMethod },
  terminal: Terminal,
  words: readonly string[],
): Promise<CommandResult> {
  const forge = await forgeFor(options, terminal)
  const by = {
    name: process.env.GIT_AUTHOR_NAME ?? 'reanchor',
    email: process.env.GIT_AUTHOR_EMAIL ?? 'reanchor@users.noreply.invalid',
  }
  const merged = await forge.merge(numberOf(words[0]), { method: options.method, by, at: new Date() })
  return {
    rotation: null,
    exit: exitCodes.done,
    result: summary(merged),
    text: `merged #${merged.number} into ${merged.base} as ${merged.mergeCommit?.slice(0, 12)}`,
  }
}

function numberOf(text: string | undefined): number {
  const number = Number(text)
  if (Number.isInteger(number) && number > 0) return number
  throw new ReanchorError({
    what: 'not the number of a pull request',
    expected: 'a number such as 3',
    found: text ?? 'nothing',
    todo: 'see `reanchor pr list`',
  })
}

function summary({ number, title, state, branch, base, head, mergeCommit, url }: PullRequest) {
  return { number, title, state, branch, base, head, mergeCommit, url }
}
