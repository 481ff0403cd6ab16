import { ReanchorError } from '../errors.ts'

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

/** What a runner tells while it works. `text` is for people; `fields` are for machines. */
export interface LogEvent {
  readonly level: LogLevel
  /** Stable, for filters: `round`, `failed`, `lock-held`. */
  readonly event: string
  readonly rotation: string | null
  readonly text: string
  readonly fields?: Readonly<Record<string, unknown>>
}

export type Log = (event: LogEvent) => void

/** One line per event: JSON, or the text that people read. */
export function logTo(
  write: (text: string) => void,
  { form, level, now }: { readonly form: 'text' | 'json'; readonly level: LogLevel; readonly now: () => Date },
): Log {
  return event => {
    if (logLevels.indexOf(event.level) < logLevels.indexOf(level)) return
    if (form === 'text') {
      if (event.text !== '') write(`${event.text}\n`)
      return
    }
    const { rotation, text, fields } = event
    write(
      `${JSON.stringify({
        time: now().toISOString(),
        level: event.level,
        event: event.event,
        ...(rotation === null ? {} : { rotation }),
        ...fields,
        ...(text === '' ? {} : { message: text }),
      })}\n`,
    )
  }
}

/** Of an error what a machine can use. */
export function errorFields(error: unknown): Readonly<Record<string, unknown>> {
  if (!(error instanceof ReanchorError)) return { error: { what: 'internal error' } }
  const { what, where, expected, found, todo, exit } = error
  return { error: { what, where, expected, found, todo, exit } }
}
