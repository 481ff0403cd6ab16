import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-custody-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/**
 * A program that stands in for another one: it writes down its arguments and standard input, and then runs the given lines of a shell.
 * `path` goes to the front of the PATH.
 */
export function standIn(name: string, lines: string): { readonly path: string; readonly calls: () => string } {
  const folder = temporary()
  const log = join(folder, 'calls')
  writeFileSync(log, '')
  const file = join(folder, name)
  writeFileSync(file, `#!/bin/sh\necho "$0 $*" >>'${log}'\n${lines}\n`)
  chmodSync(file, 0o755)
  return { path: folder, calls: () => readFileSync(log, 'utf8') }
}
