import type { EvidenceException } from '../rotation.ts'
import { sortedExceptions } from './exceptions.ts'

/** Exceptions that have all but their name in common, as a file of evidence holds them. */
export interface AlikeExceptions extends Omit<EvidenceException, 'name' | 'ends'> {
  /** Names; those that begin alike as `shop/cart-6d4cf56db6-{b2xkq,zv9wm}`. */
  readonly names: readonly string[]
}

export type WrittenException = EvidenceException | AlikeExceptions

/** Fewer than these are easier to read one by one. */
const together = 9

/** Names of Kubernetes objects and nothing else: what stands between braces must not hold braces or commas itself. */
const plainName = /^[A-Za-z0-9._/-]{1,320}$/

/**
 * Says once what many have in common: ten thousand pods that gave no answer take less room than their names would. Null where nothing is gained;
 * otherwise `expanded` gives back the sorted exceptions.
 */
export function alike(exceptions: readonly EvidenceException[]): readonly WrittenException[] | null {
  if (exceptions.length < together) return null
  const groups = new Map<string, EvidenceException[]>()
  for (const exception of sortedExceptions(exceptions)) {
    const { consumer, name, reason, detail, verdict, ends } = exception
    const plain = plainName.test(name) && ends === undefined
    const key = JSON.stringify(plain ? [consumer, reason, detail, verdict] : [consumer, name])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [exception])
    else group.push(exception)
  }
  let gained = false
  const written = [...groups.values()].flatMap((group): readonly WrittenException[] => {
    const [first] = group
    if (first === undefined || group.length < together || !plainName.test(first.name)) return group
    gained = true
    const { consumer, reason, detail, verdict } = first
    return [{ consumer, names: braced(group.map(({ name }) => name)), reason, detail, verdict }]
  })
  return gained ? written : null
}

/** Names by what they have up to their last hyphen, which for pods is what made them. */
function braced(names: readonly string[]): readonly string[] {
  const ends = new Map<string, string[]>()
  for (const name of names) {
    const start = name.slice(0, name.lastIndexOf('-') + 1)
    const known = ends.get(start)
    if (known === undefined) ends.set(start, [name.slice(start.length)])
    else known.push(name.slice(start.length))
  }
  return [...ends].map(([start, [first, ...others]]) =>
    others.length === 0 ? `${start}${first}` : `${start}{${[first, ...others].join(',')}}`,
  )
}

/** A hostile file may repeat a long beginning many times over; what it stands for must fit into memory too. */
const largestExpansion = 64 * 1024 * 1024

/** The exceptions that a file's entries stand for, sorted where some of them were said together. Throws `RangeError` for more than any cluster has. */
export function expanded(written: readonly WrittenException[]): readonly EvidenceException[] {
  if (!written.some(entry => 'names' in entry)) return written as readonly EvidenceException[]
  const exceptions: EvidenceException[] = []
  let size = 0
  for (const entry of written) {
    if (!('names' in entry)) {
      exceptions.push(entry)
      continue
    }
    const { consumer, names, reason, detail, verdict } = entry
    for (const text of names) {
      const [, start = text, ends] = /^([^{}]*)\{([^{}]*)\}$/.exec(text) ?? []
      for (const end of ends === undefined ? [''] : ends.split(',')) {
        size += start.length + end.length
        if (size > largestExpansion) throw new RangeError(`names of more than ${largestExpansion} characters`)
        exceptions.push({ consumer, name: start + end, reason, detail, verdict })
      }
    }
  }
  return sortedExceptions(exceptions)
}
