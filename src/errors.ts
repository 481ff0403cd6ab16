/** Exit codes of every command: a contract with scripts (docs/json.md). */
export const exitCodes = {
  done: 0,
  internal: 1,
  usage: 2,
  waiting: 3,
  violated: 4,
  refused: 5,
} as const

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

export interface Where {
  readonly file?: string
  /** 1-based. */
  readonly line?: number
  /** 1-based. */
  readonly column?: number
  /** Path inside a document, such as `spec.sites[0].path`. */
  readonly field?: string
  /** Kubernetes object or other thing, such as `Secret istio-system/cacerts`. */
  readonly object?: string
}

export interface ErrorParts {
  /** What is wrong, one lower-case phrase without a full stop. */
  readonly what: string
  readonly where?: Where
  readonly expected?: string
  readonly found?: string
  /** What to do now. */
  readonly todo?: string
  readonly example?: string
  readonly exit?: ExitCode
  /** The same may go through a moment later, as with a network that is down: a runner tries again. @default false */
  readonly transient?: boolean
  readonly cause?: unknown
}

/**
 * An error that a person can act on: what was expected, what was found, where, and what to do.
 * `exit` is the exit code that the command line ends with; bad input (2) unless said otherwise.
 */
export class ReanchorError extends Error {
  readonly what: string
  readonly where: Where
  readonly expected: string | undefined
  readonly found: string | undefined
  readonly todo: string | undefined
  readonly example: string | undefined
  readonly exit: ExitCode
  readonly transient: boolean

  constructor(parts: ErrorParts) {
    super(errorText(parts), parts.cause === undefined ? undefined : { cause: parts.cause })
    this.name = 'ReanchorError'
    this.what = parts.what
    this.where = parts.where ?? {}
    this.expected = parts.expected
    this.found = parts.found
    this.todo = parts.todo
    this.example = parts.example
    this.exit = parts.exit ?? exitCodes.usage
    this.transient = parts.transient ?? false
  }
}

/** `file:line:column: field: object`, as far as known; empty where nothing is. */
function whereText(where: Where): string {
  const place = [where.file, where.line, where.column].filter(part => part !== undefined).join(':')
  return [place, where.field, where.object].filter(part => part !== undefined && part !== '').join(': ')
}

function errorText(parts: ErrorParts): string {
  const place = whereText(parts.where ?? {})
  const lines = [place === '' ? parts.what : `${place}: ${parts.what}`]
  if (parts.expected !== undefined) lines.push(`  expected: ${parts.expected}`)
  if (parts.found !== undefined) lines.push(`  found:    ${parts.found}`)
  if (parts.todo !== undefined) lines.push(`  to do:    ${parts.todo}`)
  if (parts.example !== undefined) lines.push(`  example:  ${parts.example.split('\n').join('\n            ')}`)
  return lines.join('\n')
}

/** `apiVersion v1, kind Secret`, for `found` of an object that is none of the expected type. */
export function typeText(object: { readonly apiVersion?: unknown; readonly kind?: unknown }): string {
  const said = (field: 'apiVersion' | 'kind'): string => {
    const value = object[field]
    if (value === undefined) return `no ${field}`
    return typeof value === 'string' ? `${field} ${value}` : `${field} that is no text`
  }
  return `${said('apiVersion')}, ${said('kind')}`
}
