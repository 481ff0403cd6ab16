import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { clearUnfinished, type OnceOptions, writeOnce } from '../../src/files/write-once.ts'
import { temporaryFolder } from '../repository/temporary.ts'

const quiet = (): void => undefined
const options: OnceOptions = { mode: 0o600, onWrite: quiet, withoutLinks: 'refuse' }

/** Leaves a call where a kill would: it goes no further, and cleans nothing up. */
async function killedAt(path: string, what: string, when: 'before' | 'after'): Promise<void> {
  await new Promise<void>(resolve => {
    const onWrite: OnceOptions['onWrite'] = (said, at) => {
      if (said !== what || at !== when) return
      resolve()
      return new Promise(() => undefined)
    }
    void writeOnce(path, 'half of a key', { ...options, onWrite })
  })
}

describe('a file that is written once', () => {
  test('is there whole, for its owner only, and nothing beside it', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'key.age')
    await writeOnce(path, 'all of it\n', options)
    expect(readFileSync(path, 'utf8')).toBe('all of it\n')
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(folder)).toEqual(['key.age'])
  })

  test('is never written over, and the one who comes second leaves nothing', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'key.age')
    await writeOnce(path, 'first\n', options)
    await expect(writeOnce(path, 'second\n', options)).rejects.toMatchObject({ code: 'EEXIST' })
    expect(readFileSync(path, 'utf8')).toBe('first\n')
    expect(readdirSync(folder)).toEqual(['key.age'])
  })

  test.each([
    ['before', 'file key.age, under another name'],
    ['after', 'file key.age, under another name'],
    ['before', 'file key.age'],
  ] as const)(
    'is not there at all where the writer is killed %s %s; the next one clears its rest away (F29)',
    async (when, what) => {
      const folder = temporaryFolder()
      const path = join(folder, 'key.age')
      await killedAt(path, what, when)
      expect(existsSync(path)).toBe(false)
      await writeOnce(path, 'whole\n', options)
      expect(readFileSync(path, 'utf8')).toBe('whole\n')
      expect(readdirSync(folder)).toEqual(['key.age'])
    },
  )

  test('leaves its other name where the writer is killed before it is removed, which is cleared away with nothing else (F29)', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'key.age')
    await writeOnce(join(folder, '.key.age.old'), 'of a person', options)
    await killedAt(path, 'file key.age', 'after')
    expect(readdirSync(folder)).toHaveLength(3)
    clearUnfinished(path)
    expect(readdirSync(folder).sort()).toEqual(['.key.age.old', 'key.age'])
    expect(readFileSync(path, 'utf8')).toBe('half of a key')
  })

  test('is taken where another writer was first and has cleared this one’s rest away', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'key.age')
    const slow = writeOnce(path, 'slow\n', {
      ...options,
      onWrite: async (what, when) => {
        if (what === 'file key.age' && when === 'before') await writeOnce(path, 'quick\n', options)
      },
    })
    await expect(slow).rejects.toMatchObject({ code: 'EEXIST' })
    expect(readFileSync(path, 'utf8')).toBe('quick\n')
    expect(readdirSync(folder)).toEqual(['key.age'])
  })
})
