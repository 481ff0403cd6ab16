import { unreadable } from '../commands/unreadable.ts'
import { type ExitCode, exitCodes, ReanchorError } from '../errors.ts'
import { redactor } from '../runner/redact.ts'
import type { OutputFormat } from './options.ts'

/** What every command prints with `--output json`: one object, on stdout. A contract with scripts. */
export interface Envelope {
  readonly command: string
  readonly rotation: string | null
  readonly exit: ExitCode
  readonly result: unknown
}

/** What a command hands back: the same result as text for people and as data for scripts. */
export interface CommandResult {
  readonly rotation: string | null
  readonly exit: ExitCode
  readonly result: unknown
  readonly text: string
  /** Print `result` itself as JSON, without the envelope: `demo` alone does. */
  readonly bare?: true
}

export interface Terminal {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Standard error is a terminal, so progress may be shown. */
  readonly progress: boolean
  /** Standard input and output are terminals, so questions may be asked. */
  readonly interactive: boolean
  readonly color: boolean
}

export function systemTerminal(options: { readonly color: boolean }): Terminal {
  const colorAllowed = options.color && process.env.NO_COLOR === undefined && process.env.TERM !== 'dumb'
  return {
    out: text => process.stdout.write(text),
    err: text => process.stderr.write(text),
    progress: process.stderr.isTTY === true,
    interactive: process.stdin.isTTY === true && process.stdout.isTTY === true,
    color: colorAllowed && process.stdout.isTTY === true,
  }
}

/** The same, with the values of secret variables taken out of everything: errors quote what others wrote, and others quote what they were given. */
export function withoutSecrets(
  terminal: Terminal,
  environment: Readonly<Record<string, string | undefined>>,
): Terminal {
  const redact = redactor(environment)
  return { ...terminal, out: text => terminal.out(redact(text)), err: text => terminal.err(redact(text)) }
}

export function printResult(
  terminal: Terminal,
  command: string,
  format: OutputFormat,
  result: CommandResult,
): ExitCode {
  if (format === 'json') {
    const envelope: Envelope = { command, rotation: result.rotation, exit: result.exit, result: result.result }
    terminal.out(`${JSON.stringify(result.bare === true ? result.result : envelope, null, 2)}\n`)
  } else if (result.text !== '') {
    terminal.out(result.text.endsWith('\n') ? result.text : `${result.text}\n`)
  }
  return result.exit
}

/** A user's error as text without a stack; anything else is a defect of ours and keeps its stack. */
export function printError(terminal: Terminal, command: string, format: OutputFormat, caught: unknown): ExitCode {
  const error = unreadable(caught, null)
  if (error instanceof ReanchorError) {
    if (format === 'json') {
      const { what, where, expected, found, todo, example } = error
      const envelope: Envelope = {
        command,
        rotation: null,
        exit: error.exit,
        result: { error: { what, where, expected, found, todo, example } },
      }
      terminal.out(`${JSON.stringify(envelope, null, 2)}\n`)
    }
    terminal.err(`reanchor ${command}: ${error.message}\n`)
    return error.exit
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  terminal.err(`reanchor ${command}: internal error, please report it\n${message}\n`)
  if (format === 'json') {
    const envelope: Envelope = {
      command,
      rotation: null,
      exit: exitCodes.internal,
      result: { error: { what: 'internal error' } },
    }
    terminal.out(`${JSON.stringify(envelope, null, 2)}\n`)
  }
  return exitCodes.internal
}
