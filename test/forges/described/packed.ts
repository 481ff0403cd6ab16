import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder, output } from '../../real/rig/components.ts'

/** One file of an npm package that is too large to be a dependency of everybody who tests. */
export interface PackedFile {
  readonly name: string
  readonly version: string
  readonly integrity: string
  /** In the package, `package/` included. */
  readonly file: string
}

/** The text of the file, which is downloaded once and kept in the cache of the machine. */
export async function packedFile(packed: PackedFile): Promise<string> {
  const folder = join(cacheFolder(), `${packed.name.replace('@', '').replace('/', '-')}-${packed.version}`)
  const file = join(folder, packed.file)
  if (!existsSync(file)) await unpack(packed, folder)
  return await readFile(file, 'utf8')
}

async function unpack({ name, version, integrity, file }: PackedFile, folder: string): Promise<void> {
  await mkdir(cacheFolder(), { recursive: true })
  const partial = await mkdtemp(`${folder}.`)
  const packed = `${name}@${version}`
  const said = JSON.parse(await output('npm', ['pack', '--json', packed], { cwd: partial })) as readonly {
    readonly filename: string
    readonly integrity: string
  }[]
  const [found] = said
  if (found?.integrity !== integrity) throw new Error(`${packed} is not the package that was read: ${found?.integrity}`)
  await output('tar', ['-xzf', found.filename, file], { cwd: partial })
  await rm(join(partial, found.filename))
  await rename(partial, folder).catch((error: unknown) => {
    if (!existsSync(folder)) throw error
  })
}
