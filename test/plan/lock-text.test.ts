import { existsSync, readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { readPlan, writePlan } from '../../src/plan/lock.ts'
import { readWrittenYaml } from '../../src/plan/lock-text.ts'
import { yamlText } from '../../src/render/yaml.ts'

const lockFiles = readdirSync('output')
  .filter(name => existsSync(`output/${name}/plan.yaml`))
  .map(name => readFileSync(`output/${name}/plan.yaml`, 'utf8'))

/** Strings that readers of YAML disagree about, beside ordinary ones. */
const tricky = fc.oneof(
  fc.string(),
  fc.string({ unit: 'grapheme' }),
  fc.stringMatching(/^[0-9a-f]{1,20}$/),
  fc.stringMatching(/^[ \n\t:#'"\\|>&*!%@`a-z0-9.+_-]{0,12}$/),
  fc.constantFrom(
    'yes',
    'No',
    'on',
    '~',
    '',
    ' ',
    '0o17',
    '017',
    '0x1f',
    '1e5',
    '1_000',
    '12:30',
    '.inf',
    '2026-11-22',
    '2026-11-22T06:00:00Z',
    '-',
    '- a',
    'a: b',
    'a #b',
    '<<',
    '[]',
    '{}',
    '=',
    'a\n',
    'a\n\nb',
    '\na',
    'a\n\n',
    '  a\nb',
    '---',
    '...',
  ),
)
const value = fc.letrec(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    tricky,
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(each => (each === 0 ? 0 : each)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      tricky.filter(key => key !== '__proto__' && key !== '<<'),
      tie('value'),
      { maxKeys: 4 },
    ),
  ),
})).value
const document = fc.oneof(
  fc.array(value, { minLength: 1, maxLength: 4 }),
  fc.dictionary(
    tricky.filter(key => key !== '__proto__' && key !== '<<'),
    value,
    { minKeys: 1, maxKeys: 4 },
  ),
)

/** Null for what the writer refuses because it cannot keep it, such as a text of blanks and line ends alone. */
function writtenText(content: unknown): string | null {
  try {
    return yamlText(content)
  } catch {
    return null
  }
}

describe('the reader of what we write', () => {
  test('reads every lock file of output/, as the YAML reader does', () => {
    expect(lockFiles.length).toBeGreaterThan(5)
    for (const text of lockFiles) expect(readWrittenYaml(text)?.value).toEqual(parse(text, { version: '1.1' }))
  })

  test('reads a text as the YAML reader does, or not at all', () => {
    fc.assert(
      fc.property(document, content => {
        const text = writtenText(content)
        fc.pre(text !== null)
        const read = readWrittenYaml(text)
        if (read !== null) expect(read.value).toEqual(parse(text, { version: '1.1' }))
      }),
      { numRuns: 3000 },
    )
  })

  test('reads a text that somebody edited as the YAML reader does, or not at all', () => {
    const [text = ''] = lockFiles
    const lines = text.slice(0, 6000).split('\n').slice(0, -1)
    fc.assert(
      fc.property(
        fc.nat(lines.length - 1),
        fc.oneof(tricky, fc.constantFrom('  a: b', '- x', '    - y: z', 'a:', '# c', '  |', 'k: |', 'k: >-')),
        fc.nat(2),
        (at, inserted, how) => {
          const edited = [...lines]
          if (how === 0) edited.splice(at, 1)
          if (how === 1) edited.splice(at, 0, inserted)
          if (how === 2) edited[at] = `${edited[at]?.slice(0, 8)}${inserted}`
          const whole = `${edited.join('\n')}\n`
          const read = readWrittenYaml(whole)
          if (read !== null) expect(read.value).toEqual(parse(whole, { version: '1.1' }))
        },
      ),
      { numRuns: 3000 },
    )
  })

  test.each([
    ['an alias', 'a: &x [b]\nc: *x\n'],
    ['a key twice', 'a: 1\na: 2\n'],
    ['a merge key', '<<: {a: b}\n'],
    ['a flow list', 'a: [b, c]\n'],
    ['a tag', 'a: !!str 1\n'],
    ['a word that is true for some', 'a: yes\n'],
    ['a number in base 60', 'a: 12:30\n'],
    ['a comment behind a value', 'a: b # c\n'],
    ['a second document', 'a: b\n---\na: c\n'],
    ['a missing final newline', 'a: b'],
    ['a line with a carriage return', 'a: b\r\n'],
    ['nothing', ''],
  ])('leaves %s to the YAML reader', (_, text) => {
    expect(readWrittenYaml(text)).toBeNull()
  })

  test('is what readPlan uses: a lock file comes back as it was written', () => {
    for (const text of lockFiles) expect(writePlan(readPlan(text, 'plan.yaml'))).toBe(text)
  })
})
