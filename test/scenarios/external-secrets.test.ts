import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { plan } from '../../src/commands/plan.ts'
import { planAt } from '../../src/commands/rotation.ts'
import { holdsStoredValues, referredValues } from '../../src/commands/stored-values.ts'
import { readRootKeyHeader } from '../../src/custody/root-key.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import {
  commit,
  contextOf,
  countWrites,
  declaredWorld,
  forkAt,
  inRepository,
  Killed,
  planOptions,
  refsOf,
  rotation,
  temporary,
  type World,
} from './world.ts'

const file = `rotations/${rotation}/rotation.yaml`

/** The declared fleet, with its private keys in a store. */
async function storeWorld(): Promise<World> {
  const world = await declaredWorld()
  const head = await world.repository.head('main')
  const text = (await world.repository.snapshot(head).read(file)) ?? ''
  const recipient = /age1[a-z0-9]+/.exec(text)?.[0] ?? ''
  const custody = `  custody:\n    externalSecrets: {store: vault, vaultMount: secret, age: [${recipient}]}\n`
  const declared = text.replace(/ {2}custody:\n(?: {4}.*\n)+/, custody)
  await commit(world.repository, head, new Map([[file, declared]]), 'Keep keys in a store')
  return world
}

const optionsIn = (folder: string) => ({ ...planOptions({ folder }), keysOut: join(folder, 'keys') })

async function run(folder: string, hook: WriteHook, seed: string): Promise<readonly string[]> {
  const outcome = await inRepository(folder, hook, repository =>
    plan(contextOf(repository, { seed }), optionsIn(folder)),
  )
  return outcome.remarks
}

describe('plan with its keys in a store', () => {
  test('killed at any write and run again ends with a plan whose values, and whose root key, are all in their files', async () => {
    const world = await storeWorld()
    const refs = refsOf(world.bare)
    const whole = temporary()
    forkAt(whole, refs, world.bare)
    const { hook, seen } = countWrites(null)
    const commands = (await run(whole, hook, 'once')).filter(line => line.startsWith('vault kv put'))
    expect(commands).toHaveLength(readdirSync(join(whole, 'keys')).length)
    expect(seen.filter(what => what.startsWith('file ')).length).toBeGreaterThan(6)

    for (let number = 1; number <= seen.length; number += 1) {
      // Before a write is after the one before it.
      for (const when of number === 1 ? (['before', 'after'] as const) : (['after'] as const)) {
        const folder = temporary()
        const bare = forkAt(folder, refs, world.bare)
        const at = `${when} write ${number}: ${seen[number - 1]}`
        await expect(run(folder, countWrites({ number, when }).hook, 'killed'), at).rejects.toBeInstanceOf(Killed)
        const rootKey = join(folder, 'root.key.age')
        await run(folder, countWrites(null).hook, 'again')
        const repository = await openRepository(bare)
        const snapshot = repository.snapshot((await repository.branch(`reanchor/${rotation}/plan`)) ?? '')
        const made = await planAt(snapshot, rotation)
        if (made === null) throw new Error(`no plan after a kill ${at}`)
        const declaration = await readDeclaration((await snapshot.read(file)) ?? '', file)
        const values = await referredValues(made, declaration, snapshot)
        repository.close()
        expect(values.length, at).toBeGreaterThan(2)
        expect(holdsStoredValues(join(folder, 'keys'), values), at).toBe(true)
        const root = made.certificates.find(({ role }) => role === 'new-root')
        expect(existsSync(rootKey) && readRootKeyHeader(rootKey).sha256, at).toBe(root?.sha256)
        expect(
          Object.keys(refsOf(bare)).filter(ref => ref.includes('pending')),
          at,
        ).toEqual([])
      }
    }
  }, 300_000)
})
