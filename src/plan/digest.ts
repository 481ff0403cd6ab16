import { createHash } from 'node:crypto'
import type { Digest } from '../rotation.ts'

/** SHA-256 of a value as JSON with sorted keys: equal values have equal digests, whatever order they were written in. */
export function valueDigest(value: unknown): Digest {
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest('hex')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)]),
  )
}
