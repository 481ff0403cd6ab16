import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EvidenceException } from '../../src/rotation.ts'
import { readEvidence, writeEvidence } from '../../src/verify/evidence-file.ts'
import { sortedExceptions } from '../../src/verify/exceptions.ts'
import { lookTwice, meshAt, planOf } from './mesh.ts'

const plan = await planOf()
const mesh = await meshAt(plan, 2, 2)
const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
const file = 'rotations/mesh-2026/evidence/2-trust-both.yaml'

function withExceptions(exceptions: readonly EvidenceException[]): string {
  return writeEvidence([{ ...evidence, exceptions }])
}

describe('exceptions that have all but their name in common', () => {
  it('come back one by one, whatever their names hold', () => {
    const exception: fc.Arbitrary<EvidenceException> = fc.record({
      consumer: fc.constantFrom('sidecar', 'object'),
      name: fc.oneof(
        fc.stringMatching(/^[a-c]-[a-c]{1,2}$/),
        fc.stringMatching(/^shop\/[a-z]-[0-9a-f]{3}$/),
        fc.constantFrom('a-{b,c}', 'a{', 'a,b', '', '{}', 'shop/a-'),
      ),
      reason: fc.constantFrom('unreadable', 'not-ready'),
      detail: fc.constantFrom('no answer within 2 s', 'phase Pending'),
      verdict: fc.constantFrom('unknown', 'pending'),
    })
    fc.assert(
      fc.property(fc.array(exception, { maxLength: 80 }), exceptions => {
        const sorted = sortedExceptions(exceptions)
        const [read] = readEvidence(withExceptions(sorted), file)
        const byText = (list: readonly EvidenceException[] | undefined) =>
          list?.map(each => JSON.stringify(each)).sort()
        expect(byText(read?.exceptions)).toEqual(byText(sorted))
        expect(read?.complete).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('name a hundred thousand pods in the space of their last five characters', () => {
    const exceptions = Array.from({ length: 100_000 }, (_, index): EvidenceException => {
      const name = `shop-${index % 10}/cart-${index % 100}-7c9d8f6b5d-${index.toString(36).padStart(5, '0')}`
      return { consumer: 'sidecar', name, reason: 'unreadable', detail: 'no answer within 2 s', verdict: 'unknown' }
    })
    const text = withExceptions(sortedExceptions(exceptions))
    expect(text.length).toBeLessThan(1024 * 1024)
    expect(readEvidence(text, file)[0]?.exceptions).toEqual(sortedExceptions(exceptions))
  })

  it('that were edited are damage', () => {
    const exceptions = Array.from({ length: 20 }, (_, index): EvidenceException => {
      const name = `shop/cart-${index + 10}`
      return { consumer: 'sidecar', name, reason: 'unreadable', detail: 'silent', verdict: 'unknown' }
    })
    const text = withExceptions(exceptions)
    expect(text).toContain('{10,11,')
    const [read] = readEvidence(text.replace('{10,', '{'), file)
    expect(read?.exceptions.at(-1)).toMatchObject({ reason: 'damaged' })
  })

  it('are refused where a few bytes stand for more than fits into memory', () => {
    const exceptions = Array.from({ length: 20 }, (_, index): EvidenceException => {
      const name = `shop/cart-${index + 10}`
      return { consumer: 'sidecar', name, reason: 'unreadable', detail: 'silent', verdict: 'unknown' }
    })
    const bomb = withExceptions(exceptions).replace(/shop\/cart-\{[^}]*\}/, `${'a'.repeat(9000)}{${'b,'.repeat(9000)}}`)
    expect(() => readEvidence(bomb, file)).toThrow(/too large/)
  })
})
