import { ReanchorError } from '../errors.ts'

/** `sarif` and `annotations` are of `check` alone: what code hosts show beside a change. */
export const outputFormats = ['text', 'json', 'sarif', 'annotations'] as const
export type OutputFormat = (typeof outputFormats)[number]

/** Options that every command has. */
export interface CommonOptions {
  readonly output: OutputFormat
  readonly rotation?: string
  readonly repo: string
  readonly base?: string
  readonly color: boolean
}

/** A duration as users write it: 90s, 10m, 1h, 60d. Milliseconds. */
export function duration(text: string, option: string): number {
  const found = /^(\d+)(s|m|h|d)$/.exec(text)
  const unit = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[found?.[2] ?? '']
  if (found === null || unit === undefined) {
    throw new ReanchorError({
      what: `${option} is not a duration`,
      expected: 'a number and a unit: s, m, h or d',
      found: text,
      example: `${option} 10m`,
      todo: 'correct the option',
    })
  }
  return Number(found[1]) * unit
}
