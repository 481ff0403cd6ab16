import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ReanchorError } from '../../src/errors.ts'
import type { Replacement } from './guard.ts'

export interface TestBuild {
  /** What `node` takes to run a scenario. */
  readonly child: string
  remove(): void
}

/** A copy of the built program with some texts replaced. `root`: the folder that `dist` and `node_modules` lie in. */
export function testBuild(root: string, removals: readonly Replacement[]): TestBuild {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-guards-'))
  try {
    cpSync(join(root, 'dist'), join(folder, 'dist'), {
      recursive: true,
      filter: path => !/(\.d\.ts|\.map|\.tsbuildinfo)$/.test(path),
    })
    cpSync(join(root, 'package.json'), join(folder, 'package.json'))
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    for (const { file, find, replace } of removals) {
      const path = join(folder, 'dist', file)
      writeFileSync(path, replacedOnce(readFileSync(path, 'utf8'), { file, find, replace }))
    }
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
  return {
    child: join(folder, 'dist/safety/guards/child.js'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Throws where the text does not stand there exactly once: a guard that nothing was taken out of would count as one that nothing catches. */
export function replacedOnce(text: string, { file, find, replace }: Replacement): string {
  const parts = text.split(find)
  if (parts.length === 2) return parts.join(replace)
  throw new ReanchorError({
    what: 'the list of guards is stale',
    where: { file: `dist/${file}` },
    expected: `once: ${find}`,
    found: `${parts.length - 1} times`,
    todo: 'give the guard in safety/guards the text that is there now',
  })
}
