import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { output } from './components.ts'

/** A file system of its own that can be full. */
export interface TinyDisk {
  /** Where a clone goes. */
  readonly clone: string
  /** Environment of a program that keeps its temporary files there too. */
  readonly env: Readonly<Record<string, string>>
  /** Takes the last free byte. */
  fill(): Promise<void>
  /** Gives back what `fill` took. */
  free(): Promise<void>
  close(): Promise<void>
}

export async function mountTinyDisk(folder: string, mebibytes: number): Promise<TinyDisk> {
  await mkdir(folder, { recursive: true })
  await output('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', folder])
  const temporary = join(folder, 'tmp')
  await mkdir(temporary)
  const filler = join(folder, 'filler')
  return {
    clone: join(folder, 'clone'),
    env: { TMPDIR: temporary },
    async fill() {
      const file = await open(filler, 'a')
      try {
        for (;;) await file.appendFile(Buffer.alloc(4096, 1))
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'ENOSPC') throw cause
      } finally {
        await file.close()
      }
    },
    free: () => rm(filler, { force: true }),
    close: async () => void (await output('umount', ['--lazy', folder])),
  }
}
