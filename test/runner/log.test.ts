import { expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { errorFields, logTo } from '../../src/runner/log.ts'

const now = () => new Date('2026-11-29T12:00:00Z')

test('is a line of JSON for each event, with the time, and nothing below the level', () => {
  const lines: string[] = []
  const log = logTo(text => lines.push(text), { form: 'json', level: 'info', now })
  log({ level: 'debug', event: 'progress', rotation: 'a', text: 'read' })
  log({ level: 'info', event: 'round', rotation: 'a', text: 'two\nlines', fields: { took: 3 } })
  log({ level: 'warn', event: 'stopped', rotation: null, text: '' })
  expect(lines.every(line => line.endsWith('\n') && line.split('\n').length === 2)).toBe(true)
  expect(lines.map(line => JSON.parse(line))).toEqual([
    { time: '2026-11-29T12:00:00.000Z', level: 'info', event: 'round', rotation: 'a', took: 3, message: 'two\nlines' },
    { time: '2026-11-29T12:00:00.000Z', level: 'warn', event: 'stopped' },
  ])
})

test('is the text alone for people', () => {
  const lines: string[] = []
  const log = logTo(text => lines.push(text), { form: 'text', level: 'info', now })
  log({ level: 'info', event: 'round', rotation: 'a', text: 'opened', fields: { took: 3 } })
  log({ level: 'info', event: 'stopped', rotation: null, text: '' })
  expect(lines).toEqual(['opened\n'])
})

test('of an error tells its parts, and of a defect only that it is one', () => {
  const error = new ReanchorError({ what: 'no', found: 'x', cause: new Error('inner') })
  expect(errorFields(error)).toEqual({
    error: { what: 'no', where: {}, expected: undefined, found: 'x', todo: undefined, exit: 2 },
  })
  expect(errorFields(new TypeError('x is not a function'))).toEqual({ error: { what: 'internal error' } })
})
