import fc from 'fast-check'
import type { Cluster, KubernetesObject } from '../../src/cluster/cluster.ts'
import { objectOf } from '../../src/cluster/object.ts'

/** Runs of one property; more by hand with REANCHOR_FUZZ. */
export const runs = Number(process.env.REANCHOR_FUZZ ?? 60)

/** What V8 says of a mistake in a program: no message for people. */
export const crash = /is not (a function|iterable)|Cannot (read|convert|destructure)|undefined|not defined|circular/

/** One thing that is wrong with plain data: what stands at one place of it is gone, of another kind, or too much. */
export interface Damage {
  /** Which place, counted over all of them; beyond their number it begins anew. */
  readonly place: number
  readonly kind: (typeof kinds)[number]
}

const kinds = [
  'gone',
  'null',
  'number',
  'text',
  'empty text',
  'flag',
  'list',
  'map',
  'empty list',
  'empty map',
  'wrapped',
  'twice',
  'huge',
  'odd text',
  'prototype',
] as const

export const damages: fc.Arbitrary<Damage> = fc.record({ place: fc.nat(4000), kind: fc.constantFrom(...kinds) })

type Path = readonly (string | number)[]

/** Every place in it, the whole first. */
function placesIn(value: unknown, at: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [at]
  const below = Array.isArray(value) ? value.map((item, index) => [index, item] as const) : Object.entries(value)
  return [at, ...below.flatMap(([key, item]) => placesIn(item, [...at, key]))]
}

/** A copy with one place damaged; `may` leaves places out. */
export function damaged<T>(value: T, { place, kind }: Damage, may: (path: Path) => boolean = () => true): T {
  const places = placesIn(value).filter(path => path.length > 0 && may(path))
  const path = places[place % Math.max(1, places.length)]
  return path === undefined ? value : (changed(value, path, kind) as T)
}

function changed(value: unknown, path: Path, kind: Damage['kind']): unknown {
  const [key, ...rest] = path
  if (key === undefined) return put(value, kind)
  if (Array.isArray(value)) {
    const items = value.map((item, index) => (index === key ? changed(item, rest, kind) : item))
    if (rest.length > 0) return items
    if (kind === 'gone') return items.toSpliced(Number(key), 1)
    return kind === 'twice' ? [...items, value[Number(key)]] : items
  }
  const map = value as Readonly<Record<string, unknown>>
  if (rest.length > 0) return { ...map, [key]: changed(map[key], rest, kind) }
  if (kind === 'gone') return Object.fromEntries(Object.entries(map).filter(([name]) => name !== key))
  if (kind !== 'prototype') return { ...map, [key]: put(map[key], kind) }
  // As JSON.parse makes it: an own key of that name.
  return JSON.parse(JSON.stringify(map).replace(/^\{/, '{"__proto__":{"polluted":true},')) as unknown
}

function put(value: unknown, kind: Damage['kind']): unknown {
  switch (kind) {
    case 'null':
      return null
    case 'number':
      return 7
    case 'text':
      return 'text'
    case 'empty text':
      return ''
    case 'flag':
      return true
    case 'list':
      return ['a', null, {}]
    case 'map':
      return { a: null, constructor: 'x', length: 3 }
    case 'empty list':
      return []
    case 'empty map':
      return {}
    case 'wrapped':
      return [value]
    case 'huge':
      return typeof value === 'string' ? value.repeat(500) : Number.MAX_VALUE
    case 'odd text':
      return typeof value === 'string' ? `\uFEFF${value}\r\n\u0000` : '\ud800'
    case 'gone':
    case 'twice':
    case 'prototype':
      return value
  }
}

export interface Lie {
  /** Which answer of the API, counted as they are asked for. */
  readonly answer: number
  readonly damage: Damage
}

export const lies: fc.Arbitrary<Lie> = fc.record({ answer: fc.nat(60), damage: damages })

/**
 * A cluster of which one answer is damaged; `may` leaves places of objects out. What the client of the API does not take for an object it does not hand on
 * here either.
 */
export function lying(cluster: Cluster, { answer, damage }: Lie, may?: (path: Path) => boolean): Cluster {
  let asked = 0
  const isNext = (): boolean => asked++ === answer
  const bent = (object: KubernetesObject): KubernetesObject =>
    isNext() ? objectOf(damaged(object, damage, may), 'a damaged answer') : object
  const bentOrNull = (object: KubernetesObject | null) => (object === null ? null : bent(object))
  return {
    identity: () => cluster.identity(),
    get: async (type, namespace, name) => bentOrNull(await cluster.get(type, namespace, name)),
    metadata: async (type, namespace, name) => bentOrNull(await cluster.metadata(type, namespace, name)),
    async *list(type, options) {
      for await (const page of cluster.list(type, options)) yield page.map(bent)
    },
    async httpGet(pod, port, path, timeout) {
      const text = await cluster.httpGet(pod, port, path, timeout)
      return isNext() ? bentText(text, damage) : text
    },
    async servedTls(pod, port, serverName, timeout) {
      const served = await cluster.servedTls(pod, port, serverName, timeout)
      if (!isNext()) return served
      if (damage.place % 3 > 0) return { ...served, chain: bentChain(served.chain, damage) }
      return { ...served, authorities: served.authorities === null ? null : bentChain(served.authorities, damage) }
    },
    close: () => cluster.close(),
  }
}

/** JSON with one place damaged, or a text that is cut. */
function bentText(text: string, damage: Damage): string {
  if (damage.place % 5 === 0) return text.slice(0, damage.place % (text.length + 1))
  try {
    return JSON.stringify(damaged(JSON.parse(text), damage)) ?? ''
  } catch {
    return text.slice(0, text.length / 2)
  }
}

function bentChain(chain: readonly Buffer[], { place, kind }: Damage): readonly Buffer[] {
  const [leaf = Buffer.alloc(0), ...above] = chain
  if (kind === 'gone') return above
  if (kind === 'empty list') return []
  if (kind === 'wrapped') return chain.toReversed()
  if (kind === 'twice') return [leaf, ...chain]
  if (place % 2 === 0) return [leaf.subarray(0, place % (leaf.length + 1)), ...above]
  const bytes = Buffer.from(leaf)
  if (bytes.length > 0) bytes[place % bytes.length] = (bytes[place % bytes.length]! + 1) % 256
  return [bytes, ...above]
}
