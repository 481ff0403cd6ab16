import { createHash } from 'node:crypto'
import type { Digest, Instant } from '../rotation.ts'

/** Reading of answers whose shape nobody vouches for: a value of another type is as good as an absent one. */

export function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

export function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}

/** The value at a path of keys, or undefined where a step leads nowhere. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let here: unknown = value
  for (const key of path) here = record(here)[key]
  return here
}

/** The value under the first key that is present: protobuf's JSON has snake_case from Envoy and camelCase from istioctl. */
export function either(value: unknown, ...keys: readonly string[]): unknown {
  const map = record(value)
  for (const key of keys) if (map[key] !== undefined) return map[key]
  return undefined
}

/** RFC 3339 in UTC with whole seconds, or null where the text is no instant. */
export function instant(value: unknown): Instant | null {
  const written = text(value)
  if (written === null) return null
  const time = Date.parse(written)
  return Number.isNaN(time) ? null : instantOf(new Date(time))
}

export function instantOf(date: Date): Instant {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z')
}

/** The later of two instants; null is earlier than all. */
export function later(one: Instant | null, other: Instant | null): Instant | null {
  if (one === null) return other
  if (other === null) return one
  return Date.parse(one) >= Date.parse(other) ? one : other
}

export function sha256(data: string | Buffer): Digest {
  return createHash('sha256').update(data).digest('hex')
}

/** JSON with the keys of every object sorted, so that equal values have equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).filter(([, held]) => held !== undefined)
  entries.sort(([one], [other]) => (one < other ? -1 : 1))
  return `{${entries.map(([key, held]) => `${JSON.stringify(key)}:${canonicalJson(held)}`).join(',')}}`
}

/** Sorted by code units, repeats taken out. */
export function sortedSet(values: Iterable<string>): readonly string[] {
  return [...new Set(values)].sort()
}

/** kind/namespace/name, or kind/name for what has no namespace. */
export function objectId(kind: string, namespace: string | null, name: string): string {
  return namespace === null || namespace === '' ? `${kind}/${name}` : `${kind}/${namespace}/${name}`
}

/** Enough of a digest for a person to tell two apart; the whole stands in the evidence. */
export function short(digest: string): string {
  return digest.slice(0, 12)
}
