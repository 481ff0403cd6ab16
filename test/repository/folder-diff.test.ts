import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { folderDiff } from '../../src/repository/folder-diff.ts'
import { temporaryFolder } from './temporary.ts'

test('shows what changed with three lines of context', () => {
  const before = new Map([['a', '1\n2\n3\n4\n5\n6\n7\n8\n']])
  const after = new Map([['a', '1\n2\n3\n4\nfive\n6\n7\n8']])
  expect(folderDiff(before, after)).toBe(
    [
      'diff --git a/a b/a',
      '--- a/a',
      '+++ b/a',
      '@@ -2,7 +2,7 @@',
      ' 2',
      ' 3',
      ' 4',
      '-5',
      '+five',
      ' 6',
      ' 7',
      '-8',
      '+8',
      '\\ No newline at end of file',
      '',
    ].join('\n'),
  )
  expect(folderDiff(before, before)).toBe('')
})

test('`git apply` makes the second folder of the first', () => {
  const dir = temporaryFolder()
  const line = fc.constantFrom('a', 'b', 'c', '', 'd e')
  const text = fc
    .tuple(fc.array(line, { maxLength: 14 }), fc.boolean())
    .map(([all, end]) => all.join('\n') + (end ? '\n' : ''))
  fc.assert(
    fc.property(text, text, (was, is) => {
      rmSync(join(dir, 'w'), { recursive: true, force: true })
      mkdirSync(join(dir, 'w'))
      writeFileSync(join(dir, 'w', 'file'), was)
      const diff = folderDiff(new Map([['file', was]]), new Map([['file', is]]))
      expect(diff === '').toBe(was === is)
      if (diff !== '')
        execFileSync('git', ['apply', '--unsafe-paths', '-'], {
          cwd: join(dir, 'w'),
          input: diff,
          stdio: 'pipe',
          env: { PATH: process.env.PATH, GIT_CEILING_DIRECTORIES: dir },
        })
      expect(readFileSync(join(dir, 'w', 'file'), 'utf8')).toBe(is)
    }),
    { numRuns: 60 },
  )
})

test('ends in time on two large files that share nothing', () => {
  const many = (prefix: string): string => Array.from({ length: 20_000 }, (_, i) => `${prefix}${i}\n`).join('')
  const diff = folderDiff(new Map([['a', many('x')]]), new Map([['a', many('y')]]))
  expect(diff.split('\n').length).toBe(40_000 + 5)
})

test('never prints a private key, in PEM or base64, and says that it does not (F29)', () => {
  const pem = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  const encoded = Buffer.from(pem).toString('base64')
  for (const text of [pem, `data:\n  ca-key.pem: ${encoded}\n`]) {
    for (const [before, after] of [
      [text, 'x\n'],
      ['x\n', text],
      [text, `${text}#\n`],
    ]) {
      const diff = folderDiff(new Map([['k', before as string]]), new Map([['k', after as string]]))
      expect(diff).toContain('private key material')
      for (const piece of pem.split('\n').filter(line => line.length > 20 && !line.startsWith('--')))
        expect(diff).not.toContain(piece)
      expect(diff).not.toContain(encoded.slice(60, 100))
    }
  }
})

test('writes control characters as escapes and leaves out what is no text', () => {
  expect(folderDiff(new Map(), new Map([['a\u001b', '\u001b[2Jx\r\u202e\n']]))).toContain('+\\x1b[2Jx\\r\\u{202e}')
  const binary = new Map([['b', { mode: '100644', bytes: Buffer.from([0, 255]) }]])
  expect(folderDiff(new Map(), binary)).toContain('(not text: not shown)')
})
