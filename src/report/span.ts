import { plural } from './escape.ts'

const units = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
] as const

/** `1 day 11 minutes`, `90 seconds`: a time in ms, rounded up to minutes from two of them on, so that nobody counts on more than there is. */
export function spanText(ms: number): string {
  const smallest = ms >= 120_000 ? 60_000 : 1000
  let left = Math.ceil(ms / smallest) * smallest
  const parts: string[] = []
  for (const [name, length] of units) {
    if (length > 1000 && smallest === 1000) continue
    const count = Math.floor(left / length)
    left -= count * length
    if (count > 0) parts.push(plural(count, name))
  }
  return parts.length === 0 ? 'no time' : parts.join(' ')
}
