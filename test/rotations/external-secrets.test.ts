import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { advanceUntil, merge, planAndMerge, type World } from '../../src/commands/demo.ts'
import { next } from '../../src/commands/next.ts'
import { type PlanOutcome, plan } from '../../src/commands/plan.ts'
import type { Declaration, SystemName } from '../../src/rotation.ts'
import { userGit } from '../repository/temporary.ts'
import { goOn, openStep } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { wholeMatrix } from './matrix.ts'
import { type TestWorld, testWorld } from './world.ts'

/** As a person declares it who keeps private keys in Vault. */
function inVault(declaration: Declaration): Declaration {
  const age = declaration.custody.kind === 'externalSecrets' ? [] : (declaration.custody.age ?? [])
  return {
    ...declaration,
    custody: {
      kind: 'externalSecrets',
      store: 'vault',
      storeKind: 'ClusterSecretStore',
      prefix: 'reanchor/',
      version: '1',
      vaultMount: 'secret',
      age,
    },
  }
}

async function world(system: SystemName, seed: string, variant?: string): Promise<TestWorld> {
  const fleet = system === 'linkerd' ? { fleet: smallFleet } : {}
  const by = variant === undefined ? {} : { variant }
  const test = await testWorld({ system, seed, ...by, ...fleet, change: inVault })
  onTestFinished(() => test.close())
  return test
}

const options = (of: World) => ({
  rotation: of.rotation,
  base: null,
  rootKeyOut: join(of.folder, `${of.rotation}-root.key.age`),
  keysOut: join(of.folder, `keys-${of.rotation}`),
  chain: null,
  acceptOutage: false,
})

const command = /^vault kv put -mount=secret (\S+) (\S+)=@(\S+)$/

/** Runs the commands that `plan` printed, as a person does: in order, those alone that `wanted` takes. */
function put({ rehearsal }: World, outcome: PlanOutcome, wanted: (key: string) => boolean = () => true): number {
  let count = 0
  for (const line of outcome.remarks) {
    const [, key = '', property = '', file = ''] = command.exec(line) ?? []
    if (key === '' || !wanted(key)) continue
    rehearsal.remote.put(key, { [property]: readFileSync(file, 'utf8') })
    count += 1
  }
  return count
}

async function planned(of: World): Promise<PlanOutcome> {
  const outcome = await plan(of.context, options(of))
  if (outcome.pullRequest === null) throw new Error('plan opened no pull request')
  await merge(of, outcome.pullRequest)
  return outcome
}

async function waiting(of: World): Promise<string> {
  await of.rehearsal.run(30 * 60_000)
  const { outcome } = await next(of.context, { rotation: of.rotation, base: null, variant: 'step' })
  if (outcome.kind !== 'waiting') throw new Error(`next did not wait: ${outcome.kind}`)
  return outcome.gates.flatMap(({ because, hint }) => [...because, hint ?? '']).join('\n')
}

interface Case {
  readonly name: string
  readonly system: SystemName
  readonly variant?: string
}

const usual: readonly Case[] = [
  { name: 'Istio', system: 'istio' },
  { name: 'Linkerd', system: 'linkerd' },
]
const others: readonly Case[] = [
  { name: 'Linkerd by chart', system: 'linkerd', variant: 'trust-roots+helm' },
  { name: 'Kyma', system: 'kyma' },
  { name: 'Cassandra', system: 'cassandra' },
]

describe.each([...usual, ...(wholeMatrix ? others : [])])('$name', ({ system, variant }) => {
  it('rotates with its private keys in a store outside of Git, twice in a row, without one failed handshake', async () => {
    const test = await world(system, 'store', variant)
    const { world: first } = test
    const outcome = await planned(first)
    expect(put(first, outcome)).toBeGreaterThan(1)
    const folder = options(first).keysOut
    for (const file of readdirSync(folder)) expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600)
    const steps = await goOn(first)
    expect(steps[0]).toBe('adopt/adopt')

    const second = await test.declare('second', inVault)
    const again = await planned(second)
    put(second, again)
    // Phase 0 is what the first one left, so nothing that it brought is asked for anew.
    for (const line of again.remarks) expect(line).not.toContain('reanchor/first-')
    const once = (step: string) => step.startsWith('adopt/') || step.startsWith('enable-multiroot/')
    expect(await goOn(second)).toEqual(steps.filter(step => !once(step)))

    // Back to SOPS: the live ExternalSecrets would take turns with Flux.
    const third = await test.declare('third')
    await expect(plan(third.context, options(third))).rejects.toMatchObject({
      exit: 5,
      what: expect.stringContaining('whose ExternalSecret would go on writing the Secret'),
    })

    const { attempted, failed } = first.rehearsal.handshakes.counts
    expect(attempted).toBeGreaterThan(200)
    expect(failed).toBe(0)
    const history = everythingIn(first.repository.gitDir)
    // Strategy renew keeps the key: its second rotation brings no value.
    const folders = [folder, options(second).keysOut].filter(existsSync)
    for (const each of folders) {
      for (const file of readdirSync(each))
        for (const part of telling(readFileSync(join(each, file), 'utf8'))) expect(history).not.toContain(part)
    }
    expect(history).toContain('reanchor/first-')
    expect(history.includes('reanchor/second-')).toBe(folders.length === 2)
  }, 1_800_000)
})

describe('what the store lacks', () => {
  it('keeps the step that brings it waiting, by name, and nothing restarts on it', async () => {
    const test = await world('linkerd', 'lacking')
    const outcome = await planned(test.world)
    const issuers = outcome.remarks.flatMap(line => command.exec(line)?.[1] ?? []).filter(key => key.includes('issuer'))
    expect(issuers).toHaveLength(2)
    put(test.world, outcome, key => !issuers.includes(key))
    await merge(test.world, await openStep(test.world, 'adopt'))
    expect(await waiting(test.world)).toMatch(
      /ExternalSecret[\s\S]*linkerd-identity-issuer[\s\S]*could not get secret data/,
    )
    put(test.world, outcome, key => issuers.includes(key))
    await test.world.rehearsal.run(10 * 60_000)
    expect(await advanceUntil(test.world, ({ name }) => name === 'trust-both')).not.toBeNull()
    expect(test.world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)

  it('is not made up for by another value: the Secret stays as it was', async () => {
    const test = await world('linkerd', 'another')
    const outcome = await planned(test.world)
    const before = test.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')
    for (const line of outcome.remarks) {
      const key = command.exec(line)?.[1] ?? ''
      if (key.includes('issuer')) test.world.rehearsal.remote.put(key, { value: 'not the planned one' })
    }
    put(test.world, outcome, key => !key.includes('issuer'))
    await merge(test.world, await openStep(test.world, 'adopt'))
    expect(await waiting(test.world)).toMatch(/ExternalSecret[\s\S]*could not update secret/)
    expect(test.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')).toEqual(before)
  }, 900_000)
})

describe('plan', () => {
  it('asks for a folder outside of the repository, and writes nothing without one', async () => {
    const { world: of } = await world('istio', 'no-folder')
    await expect(plan(of.context, { ...options(of), keysOut: null })).rejects.toMatchObject({
      exit: 2,
      expected: '--keys-out FOLDER',
    })
    const inside = join(of.repository.gitDir, 'keys')
    await expect(plan(of.context, { ...options(of), keysOut: inside })).rejects.toThrow(
      /may not lie inside the repository/,
    )
    expect(await of.repository.branches('reanchor/')).toEqual(new Map())
    await expect(planAndMerge(of)).resolves.toBeDefined()
  }, 600_000)

  it('never overwrites a file, and leaves no plan behind that nobody could finish', async () => {
    const { world: of } = await world('istio', 'taken')
    const made = await plan(of.context, options(of))
    const files = made.remarks.flatMap(line => command.exec(line)?.[3] ?? [])
    expect(files.length).toBeGreaterThan(1)
    userGit(of.repository.gitDir, 'update-ref', '-d', 'refs/heads/reanchor/first/plan')
    for (const file of files) writeFileSync(file, 'somebody’s own')
    const again = { ...options(of), rootKeyOut: join(of.folder, 'another.key.age') }
    // The CA in use has the same name in the store whenever it is planned.
    await expect(plan(of.context, again)).rejects.toMatchObject({ exit: 5, found: 'another content (not shown)' })
    expect(await of.repository.readRef('refs/reanchor/pending/first')).toBeNull()
    for (const file of files) expect(readFileSync(file, 'utf8')).toBe('somebody’s own')
  }, 600_000)
})

/** Every object of a repository, as text. */
function everythingIn(gitDir: string): string {
  const size = { maxBuffer: 2 ** 30, encoding: 'utf8' } as const
  return execFileSync('git', ['--git-dir', gitDir, 'cat-file', '--batch-all-objects', '--batch', '--unordered'], size)
}

/** What would tell a value: its lines, and how they begin in base64. */
function telling(value: string): readonly string[] {
  const lines = value.split('\n').filter(line => line.length >= 20 && !line.startsWith('-----'))
  return [...lines, Buffer.from(value).toString('base64').slice(80, 140)].filter(part => part !== '')
}
