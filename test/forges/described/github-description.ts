import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder, output } from '../../real/rig/components.ts'
import { type Described, described } from './openapi.ts'

/** GitHub's description of api.github.com, as Octokit publishes it. It is 28 MB to download, and so no dependency of everybody who tests. */
const version = '23.0.2'
const packed = `@octokit/openapi@${version}`
const integrity = 'sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=='

let loaded: Promise<Described> | null = null

export function githubDescription(): Promise<Described> {
  loaded ??= read()
  return loaded
}

async function read(): Promise<Described> {
  const folder = join(cacheFolder(), `octokit-openapi-${version}`)
  const file = join(folder, 'package', 'generated', 'api.github.com.json')
  if (!existsSync(file)) await unpack(folder)
  return described(JSON.parse(await readFile(file, 'utf8')))
}

async function unpack(folder: string): Promise<void> {
  await mkdir(cacheFolder(), { recursive: true })
  const partial = await mkdtemp(`${folder}.`)
  const said = JSON.parse(await output('npm', ['pack', '--json', packed], { cwd: partial })) as readonly {
    readonly filename: string
    readonly integrity: string
  }[]
  const [found] = said
  if (found?.integrity !== integrity) throw new Error(`${packed} is not the package that was read: ${found?.integrity}`)
  await output('tar', ['-xzf', found.filename, 'package/generated/api.github.com.json'], { cwd: partial })
  await rename(partial, folder).catch((error: unknown) => {
    if (!existsSync(folder)) throw error
  })
}
