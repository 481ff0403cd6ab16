import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const project = resolve(import.meta.dirname, '../..')
const page = readFileSync(join(project, 'docs/failures.md'), 'utf8')
const last = 32

interface Row {
  readonly failure: string
  readonly words: string
  readonly guard: string
  /** As named: under test/, without `.test.ts`. */
  readonly tests: readonly string[]
}

function rowsOf(text: string): readonly Row[] {
  return text
    .split('\n')
    .filter(line => /^\| F\d/.test(line))
    .map(line => {
      const [failure = '', words = '', guard = '', tests = ''] = line.split(/ ?\| ?/).slice(1)
      return { failure, words, guard, tests: [...tests.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name) }
    })
}

/** `F25` itself, or a range that it lies in. */
function names(text: string, failure: string): boolean {
  const number = Number(failure.slice(1))
  const ranges = [...text.matchAll(/\bF(\d+) to F(\d+)\b/g)]
  return (
    new RegExp(`\\b${failure}\\b`).test(text) ||
    ranges.some(([, from, to]) => Number(from) <= number && number <= Number(to))
  )
}

/** Run by `npm test`, wherever it runs: the others need tools, minutes or real components. */
function isQuick(test: string): boolean {
  return !/^(data|tools|rotations|real)\//.test(test)
}

describe('the catalogue of failures', () => {
  const rows = rowsOf(page)

  it('has one line for each of F1 to F32, in order, that says what fails and what prevents it', () => {
    expect(rows.map(({ failure }) => failure)).toEqual(Array.from({ length: last }, (_, index) => `F${index + 1}`))
    for (const { failure, words, guard } of rows) {
      expect(words.length, `${failure}, what fails`).toBeGreaterThan(10)
      expect(guard.length, `${failure}, what prevents it`).toBeGreaterThan(10)
    }
  })

  it.each(rows.map(row => [row.failure, row.tests] as const))('names tests of %s that name it', (failure, tests) => {
    const wrong = tests.filter(test => {
      const file = join(project, 'test', `${test}.test.ts`)
      return !existsSync(file) || !names(readFileSync(file, 'utf8'), failure)
    })
    expect(wrong).toEqual([])
    expect(tests.filter(isQuick), 'in npm test').not.toEqual([])
  })

  it('knows every number that a test gives', () => {
    const unknown = readdirSync(join(project, 'test'), { recursive: true, encoding: 'utf8' })
      .filter(file => file.endsWith('.test.ts'))
      .flatMap(file => {
        const titles = readFileSync(join(project, 'test', file), 'utf8').matchAll(
          /\((F\d+(?:,? (?:and |to )?F\d+)*)\)/g,
        )
        const given = [...titles].flatMap(([, list = '']) =>
          [...list.matchAll(/F(\d+)/g)].map(([, found]) => Number(found)),
        )
        return given.filter(number => number < 1 || number > last).map(number => `${file}: F${number}`)
      })
    expect(unknown).toEqual([])
  })
})
