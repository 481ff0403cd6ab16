import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { readEvidence, writeEvidence } from '../../src/verify/evidence-file.ts'
import { judge } from '../../src/verify/judge.ts'
import { lookTwice, meshAt, planOf } from './mesh.ts'

const plan = await planOf()
const mesh = await meshAt(plan, 2, 2)
const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
const text = writeEvidence([evidence])
const file = 'rotations/mesh-2026/evidence/2-trust-both.yaml'

function refused(changed: string): ReanchorError {
  try {
    readEvidence(changed, file)
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('was not refused')
}

describe('a file of evidence', () => {
  it('comes back as it was, for one site and for several', () => {
    expect(readEvidence(text, file)).toEqual([evidence])
    expect(
      readEvidence(writeEvidence([evidence, { ...evidence, site: 'us-1' }]), file).map(({ site }) => site),
    ).toEqual(['eu-1', 'us-1'])
  })

  it('has the same bytes for the same content, whatever the order of its fields', () => {
    const turned = Object.fromEntries(Object.entries(evidence).reverse()) as unknown as typeof evidence
    expect(readEvidence(writeEvidence([turned]), file)).toEqual([evidence])
    expect(writeEvidence(readEvidence(text, file))).toBe(text)
  })

  it('names no pod that conforms, and holds no line of a private key', () => {
    expect(text).not.toContain('cart-1')
    expect(text).not.toMatch(/PRIVATE KEY/)
  })

  it('that was edited is unknown, wherever it was edited', () => {
    const lines = text.split('\n')
    const editable = lines.flatMap((line, index) =>
      /^\s*(- )?(count|conform|owner|members|name|message|hurry|rolled|wired|sha256): ./.test(line) ? [index] : [],
    )
    fc.assert(
      fc.property(fc.constantFrom(...editable), index => {
        const changed = lines
          .map((line, place) =>
            place === index ? line.replace(/[0-9a-z](?=["']?$)/i, letter => (letter === '1' ? '2' : '1')) : line,
          )
          .join('\n')
        if (changed === text) return
        const [read] = readEvidence(changed, file)
        expect(read?.complete).toBe(false)
        expect(read?.exceptions.at(-1)).toMatchObject({ reason: 'damaged', verdict: 'unknown' })
        expect(judge(plan, [read!], mesh.now).verdict).toBe('unknown')
      }),
    )
  })

  it.each([
    ['a wrong type', text.replace(/^complete: true$/m, 'complete: "yes"'), 'complete', 'true or false'],
    ['an unknown field', `${text}comment: mine\n`, 'comment', 'one of apiVersion'],
    ['a missing field', text.replace(/^complete: true\n/m, ''), '', 'field complete'],
    [
      'an upper-case digest',
      text.replace(/^observation: [0-9a-f]+$/m, `observation: ${'A'.repeat(64)}`),
      'observation',
      '64 lower-case hex digits',
    ],
    ['a time without a zone', text.replace(/^to: .*$/m, 'to: 2026-11-22T12:00:00'), 'to', 'an instant'],
    [
      'an exception that holds',
      text.replace(
        /^exceptions: \[\]$/m,
        'exceptions:\n  - {consumer: vm, name: a, reason: b, detail: c, verdict: holds}',
      ),
      'exceptions.0.verdict',
      'one of pending',
    ],
  ])('with %s is refused, and where', (_what, changed, field, expected) => {
    expect(changed).not.toBe(text)
    const error = refused(changed)
    expect(error.exit).toBe(2)
    expect(error.where).toMatchObject({ file, field })
    expect(error.expected).toContain(expected)
  })

  it('names the line', () => {
    const changed = text.replace(/^phase: 2$/m, 'phase: two')
    const line = changed.split('\n').indexOf('phase: two') + 1
    expect(refused(changed).where).toMatchObject({ line, column: 8 })
  })

  it.each([
    ['broken YAML', 'a: [1'],
    ['a key twice', `${text}complete: true\n`],
    ['a list', '- 1\n'],
    ['a bomb of aliases', 'a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n'],
  ])('that is %s is refused', (_what, changed) => {
    expect(() => readEvidence(changed, file)).toThrow()
    expect(refused(changed).where.file).toBe(file)
  })

  it('that is empty holds no evidence', () => {
    expect(readEvidence('', file)).toEqual([])
  })
})
