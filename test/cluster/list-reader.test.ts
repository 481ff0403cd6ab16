import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { listReader } from '../../src/cluster/list-reader.ts'

function read(text: string, sizes: readonly number[]): { readonly items: readonly unknown[]; readonly rest: unknown } {
  const bytes = Buffer.from(text)
  const reader = listReader()
  const items: unknown[] = []
  let from = 0
  for (let turn = 0; from < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? bytes.length
    reader.push(bytes.subarray(from, from + size))
    items.push(...reader.items())
    from += size
  }
  return { items, rest: reader.end() }
}

/**
 * Without a backslash in any key. Once V8 of Node 24 has read a key that ends with one, it reads later keys with an escape at the same
 * place as that key (nodejs/node#63785); what Kubernetes allows as a key has none.
 */
function withoutBackslash(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutBackslash)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key.replaceAll('\\', '/'), withoutBackslash(child)]),
  )
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 })

describe('a list that is read while it arrives', () => {
  it('gives the same objects as its whole text does, however it is cut', () => {
    const list = fc.record({
      metadata: fc.dictionary(fc.string(), fc.jsonValue()),
      kind: fc.constantFrom('PodList', 'items', '"items":['),
      items: fc.array(fc.dictionary(fc.constantFrom('items', 'a', '"', 'say "a"', '}', 'é'), fc.jsonValue())),
      more: fc.jsonValue(),
    })
    fc.assert(
      fc.property(list, sizes, fc.constantFrom(0, 1), (value, cuts, indent) => {
        const text = JSON.stringify(withoutBackslash(value), null, indent)
        const parsed: unknown = JSON.parse(text)
        const { items, rest } = read(text, cuts)
        expect(items).toEqual((parsed as { items: unknown[] }).items)
        expect(rest).toEqual({ ...(parsed as object), items: [] })
      }),
    )
  })

  it('leaves what is no object, and a root that is no list, to whoever reads the rest', () => {
    expect(read('{"items":[{"a":1},null]}', [3])).toEqual({ items: [{ a: 1 }], rest: { items: [null] } })
    expect(read('[{"items":[{}]}]', [2])).toEqual({ items: [], rest: [{ items: [{}] }] })
    expect(read('{"metadata":{"items":[{}]}}', [5])).toEqual({ items: [], rest: { metadata: { items: [{}] } } })
  })

  it('throws for what is not JSON, and for what ends half way', () => {
    for (const text of ['<html>', '{"items":[{"a":1}', '{"items":[{"a":1', '', '{"items":[{a}]}'])
      expect(() => read(text, [4]), text).toThrow(SyntaxError)
  })
})
