import { randomUUID } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { hooked, type WriteHook } from '../repository/write-hook.ts'

export interface OnceOptions {
  /** Permissions whatever the umask says; null: those that the umask leaves. */
  readonly mode: number | null
  readonly onWrite: WriteHook
  /** What a file system without hard links does: `refuse` throws, `rename` takes a look and then renames, which another process may slip in between. */
  readonly withoutLinks: 'refuse' | 'rename'
}

/** What link(2) answers where the file system has no hard links. */
const noLinks: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])

/**
 * Writes a file that must not exist yet, whole or not at all. Throws what the file system says, EEXIST where the name is taken. A kill leaves
 * at most a file of another name, which the next call for the same path clears away.
 */
export async function writeOnce(path: string, content: string, options: OnceOptions): Promise<void> {
  const { mode, onWrite } = options
  const name = basename(path)
  const unfinished = join(dirname(path), `.${name}.${randomUUID()}`)
  try {
    await hooked(onWrite, `file ${name}, under another name`, () => {
      const file = openSync(unfinished, 'wx', mode ?? 0o666)
      try {
        writeSync(file, content)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      if (mode !== null) chmodSync(unfinished, mode)
    })
    await hooked(onWrite, `file ${name}`, () => place(unfinished, path, options.withoutLinks))
  } catch (error) {
    removeIfThere(unfinished)
    throw error
  }
  await hooked(onWrite, `file ${name}, its other name`, () => clearUnfinished(path))
}

function place(unfinished: string, path: string, withoutLinks: OnceOptions['withoutLinks']): void {
  try {
    linkSync(unfinished, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Whoever was first has cleared this file away, too.
    if (code === 'ENOENT' && existsSync(path)) throw taken(path)
    if (withoutLinks === 'refuse' || !noLinks.has(code)) throw error
    if (existsSync(path)) throw taken(path)
    renameSync(unfinished, path)
  }
}

function taken(path: string): Error {
  return Object.assign(new Error(`EEXIST: file already exists, '${path}'`), { code: 'EEXIST' })
}

/** Removes what killed runs left of a file that is there now: from then on none of them, nor one that still runs, can bring it about. */
export function clearUnfinished(path: string): void {
  const folder = dirname(path)
  const begin = `.${basename(path)}.`
  for (const name of readdirSync(folder))
    if (name.startsWith(begin) && uuid.test(name.slice(begin.length))) removeIfThere(join(folder, name))
}

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function removeIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
