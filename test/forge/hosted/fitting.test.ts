import { expect, test } from 'vitest'
import { fitting } from '../../../src/forge/hosted/fitting.ts'

test('what fits stays as it is', () => {
  expect(fitting('a text', 6)).toBe('a text')
})

test.each([100, 250, 5000])('what does not is cut to %i, says so, and ends in no half character', limit => {
  const text = fitting('é🙂'.repeat(5000), limit)
  expect(text.length).toBeLessThanOrEqual(limit)
  expect(text).toContain('…')
  expect(Buffer.from(text, 'utf8').toString('utf8')).toBe(text)
})

test('a block of code that is cut is ended, so that the remark is none of it', () => {
  const text = fitting(`before\n\`\`\`\n${'line\n'.repeat(2000)}\`\`\`\n`, 3000)
  expect(text.match(/^```/gm)).toHaveLength(2)
  expect(text.length).toBeLessThanOrEqual(3000)
})
