import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readDeclaration } from '../../src/declaration/read.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { declarations, shortest } from './declarations.ts'

test('what is written reads back to the same declaration', async () => {
  await fc.assert(
    fc.asyncProperty(declarations, async declaration => {
      const text = writeDeclaration(declaration)
      expect(await readDeclaration(text, 'rotation.yaml')).toEqual(declaration)
    }),
    { numRuns: 200 },
  )
})

test('writing is stable: read and written again, the text is the same', async () => {
  await fc.assert(
    fc.asyncProperty(declarations, async declaration => {
      const text = writeDeclaration(declaration)
      expect(writeDeclaration(await readDeclaration(text, 'rotation.yaml'))).toBe(text)
    }),
    { numRuns: 50 },
  )
})

test('notes stand as comments right above their fields and change nothing', async () => {
  const declaration = await readDeclaration(shortest, 'rotation.yaml')
  const notes = new Map([
    ['spec.sites[0].delivery', 'found in clusters/eu-1/flux.yaml: # [x] "y"'],
    ['spec.sites[0].name', 'the only cluster'],
  ])
  const text = writeDeclaration(declaration, notes)
  expect(text).toContain('    # the only cluster\n    - name: eu-1\n')
  expect(text).toContain('      # found in clusters/eu-1/flux.yaml: # [x] "y"\n      delivery:\n')
  expect(await readDeclaration(text, 'rotation.yaml')).toEqual(declaration)
})
