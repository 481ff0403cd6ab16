import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect } from 'vitest'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import { fromFiles, goodMaterial, type Material } from '../cli/material.ts'
import { called, type Ended } from '../cli/program.ts'
import { userGit } from '../repository/temporary.ts'
import { commit, declaredWorld } from '../scenarios/world.ts'
import { ageKey } from './secrets.ts'

const folders: string[] = []
/** Of this process as it was before any test. */
export const environment = { ...process.env }
afterEach(() => {
  process.env = { ...environment }
})
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
})

/** A clone of a declared fleet whose CAs are files, with keys and tokens at hand that nobody may see. */
export interface Desk {
  readonly folder: string
  readonly bare: string
  readonly clone: string
  readonly material: Material
  readonly planted: readonly Buffer[]
  /** Runs a command; what it said holds nothing of what is planted. */
  run(...words: string[]): Promise<Ended>
}

export const token = 'hvs.planted-token-of-a-store'

/** `custody`: what rotation.yaml says of it, on one line. `files`: what stands in the repository besides. `next`: as `custody`; files unless given. */
export async function desk(
  custody: string,
  files: Readonly<Record<string, string>> = {},
  next: string | null = null,
): Promise<Desk> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-outputs-'))
  folders.push(folder)
  const world = await declaredWorld({ folder })
  const material = await goodMaterial(join(folder, 'material'))
  const head = await world.repository.head('main')
  const path = 'rotations/mesh-2026/rotation.yaml'
  const text = fromFiles((await world.repository.snapshot(head).read(path)) ?? '', material.folder)
  const declared = text
    .replace(/ {2}custody:\n(?: {4}.*\n)+/, `  custody:\n    ${custody}\n`)
    .replace(/ {2}next:\n(?: {4}.*\n)+/, whole => (next === null ? whole : `  next:\n    ${next}\n`))
  await commit(world.repository, head, new Map([[path, declared], ...Object.entries(files)]), 'Use our own CAs')
  world.repository.close()
  const clone = join(folder, 'clone')
  userGit(folder, 'clone', '-q', world.bare, clone)
  const { identity } = await ageKey()
  Object.assign(process.env, { SOPS_AGE_KEY: identity, VAULT_TOKEN: token, AWS_SECRET_ACCESS_KEY: token })
  const keys = [material.old.key, material.issuing.key].flatMap(key => [
    Buffer.from(privateKeyPem(key)),
    key.export({ type: 'pkcs8', format: 'der' }),
  ])
  const planted = [...keys, Buffer.from(identity), Buffer.from(token)]
  return {
    folder,
    bare: world.bare,
    clone,
    material,
    planted,
    async run(command, ...words) {
      const ended = await called(command as string, '--repo', clone, ...words)
      expect(findPrivateKeys(`${ended.stdout}\n${ended.stderr}`, planted)).toEqual([])
      return ended
    },
  }
}
