import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { treeDigest } from '../../src/repository/tree-digest.ts'

const files = fc
  .dictionary(fc.string({ minLength: 1 }), fc.string(), { maxKeys: 6 })
  .map(one => new Map(Object.entries(one)))

test('is SHA-256 over sorted lines of mode, path, NUL and the SHA-256 of the content', () => {
  const hex = (text: string): string => createHash('sha256').update(text).digest('hex')
  const tree = new Map([
    ['trust.txt', 'x\n'],
    ['a/b.pem', ''],
    ['a.pem', 'ü'],
  ])
  const text = `100644 a.pem\0${hex('ü')}\n100644 a/b.pem\0${hex('')}\n100644 trust.txt\0${hex('x\n')}\n`
  expect(treeDigest(tree)).toBe(hex(text))
})

test('does not depend on the order of the files', () => {
  fc.assert(
    fc.property(files, tree => {
      expect(treeDigest(new Map([...tree].reverse()))).toBe(treeDigest(tree))
    }),
  )
})

test('differs for any other path, content, mode or set of files', () => {
  fc.assert(
    fc.property(files, fc.string({ minLength: 1 }), fc.string(), (tree, path, text) => {
      const digest = treeDigest(tree)
      const added = new Map(tree).set(path, text)
      expect(treeDigest(added) === digest).toBe(tree.get(path) === text)
      const executable = new Map(
        [...tree].map(([name, content]) => [name, { mode: '100755', bytes: Buffer.from(content) }]),
      )
      expect(treeDigest(executable) === digest).toBe(tree.size === 0)
    }),
  )
})

test('text and the same bytes have one digest', () => {
  fc.assert(
    fc.property(files, tree => {
      const bytes = new Map([...tree].map(([name, content]) => [name, { mode: '100644', bytes: Buffer.from(content) }]))
      expect(treeDigest(bytes)).toBe(treeDigest(tree))
    }),
  )
})
