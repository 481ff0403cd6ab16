import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import type { Ended } from '../cli/program.ts'
import { userGit } from '../repository/temporary.ts'
import { refsOf } from '../scenarios/world.ts'
import { rsaPair, selfSigned } from './certificate.ts'
import { type Desk, desk, environment, token } from './desk.ts'
import { standIn } from './program.ts'

// What every command says with keys and tokens at hand that nobody may see, done or refused.

/** Everything that reads a plan which is merged, in text and in JSON; they end as they end without a cluster. */
async function readAll({ bare, run }: Desk): Promise<void> {
  const [branch] = Object.entries(refsOf(bare)).filter(([ref]) => ref === 'refs/heads/reanchor/mesh-2026/plan')
  userGit(bare, 'update-ref', 'refs/heads/main', branch?.[1] ?? '')
  for (const command of ['status', 'prove', 'next', 'verify', 'check', 'diff', 'inspect', 'plan']) {
    for (const output of ['text', 'json']) {
      const { stdout, stderr } = await run(command, '--output', output)
      expect(`${stdout}${stderr}`).not.toBe('')
    }
  }
}

function expectNothingInGit({ bare, planted }: Desk): void {
  const objects = userGit(bare, 'log', '--all', '-p', '--no-color')
  expect(findPrivateKeys(objects, planted)).toEqual([])
}

const shown = (ended: Ended) => `${ended.stdout}${ended.stderr}`

describe('with custody externalSecrets', () => {
  const custody = 'externalSecrets: {store: vault, vaultMount: secret}'

  it('keys are in the files that plan names and in nothing that any command says or commits', async () => {
    const at = await desk(custody)
    const keysOut = join(at.folder, 'keys')
    const refused = await at.run('plan')
    expect(refused).toMatchObject({ exit: 2, stderr: expect.stringContaining('--keys-out FOLDER') })
    const planned = await at.run('plan', '--keys-out', keysOut)
    expect(planned.exit, planned.stderr).toBe(0)
    expect(statSync(keysOut).mode & 0o777).toBe(0o700)
    const commands = planned.stdout.split('\n').filter(line => line.startsWith('vault kv put '))
    expect(commands).toHaveLength(readdirSync(keysOut).length)
    const values = commands.map(line => readFileSync(/=@(\S+)$/.exec(line)?.[1] ?? '', 'utf8'))
    expect(values).toEqual(
      expect.arrayContaining([privateKeyPem(at.material.old.key), privateKeyPem(at.material.issuing.key)]),
    )
    expectNothingInGit(at)
    await readAll(at)
  })

  it('a plan that is refused because a file is taken says neither value', async () => {
    const at = await desk(custody)
    const first = await at.run('plan', '--keys-out', join(at.folder, 'keys'))
    expect(first.exit).toBe(0)
    userGit(at.bare, 'update-ref', '-d', 'refs/heads/reanchor/mesh-2026/plan')
    for (const file of readdirSync(join(at.folder, 'keys'))) writeFileSync(join(at.folder, 'keys', file), token)
    const again = await at.run('plan', '--keys-out', join(at.folder, 'keys'))
    expect(again).toMatchObject({ exit: 5, stderr: expect.stringContaining('never overwritten') })
    expect(Object.keys(refsOf(at.clone)).filter(ref => ref.includes('pending'))).toEqual([])
  })
})

describe('with rules that the sops program seals by', () => {
  const rules = {
    '.sops.yaml': 'creation_rules:\n  - path_regex: ^trust/\n    pgp: 1022470DE3F0BC54BC6AB62DE05550BC07FB1A0A\n',
  }
  const withProgram = (lines: string): void => {
    const program = standIn('sops', `case "$1" in --version) echo "sops 3.13.3"; exit;; esac\n${lines}`)
    process.env.PATH = `${program.path}:${environment.PATH}`
  }

  it.each([
    ['repeats what it was given', 'cat >&2; exit 1'],
    ['repeats it in base64', 'base64 >&2; exit 1'],
    ['gives it back unsealed', 'cat'],
    ['says what is in its environment', 'env >&2; exit 1'],
    ['ends before it reads', 'exit 3'],
  ])('a program that %s is refused without a word of it', async (_, lines) => {
    const at = await desk('sops: {}', rules)
    withProgram(lines)
    const ended = await at.run('plan')
    expect(ended.exit, ended.stderr).not.toBe(0)
    expect(shown(ended)).toContain('sops')
    expect(Object.keys(refsOf(at.bare))).not.toContain('refs/heads/reanchor/mesh-2026/plan')
  })

  it('a program that is missing is asked for by name', async () => {
    const at = await desk('sops: {}', rules)
    const git = standIn('git', `PATH='${environment.PATH}' exec git "$@"`)
    process.env.PATH = git.path
    const ended = await at.run('plan')
    expect(ended).toMatchObject({ exit: 2, stderr: expect.stringMatching(/\.sops\.yaml:2:5[\s\S]*install sops/) })
  })
})

it('with custody sealedSecrets nothing is said or committed either, an expired certificate is refused', async () => {
  const pair = rsaPair()
  const dated = (days: number) =>
    selfSigned(pair.privateKey, pair.publicKey, new Date(Date.now() - 1e9), new Date(Date.now() + days * 86_400_000))
  const at = await desk('sealedSecrets: {certificate: cert.pem, scope: namespace-wide}', { 'cert.pem': dated(30) })
  const planned = await at.run('plan')
  expect(planned.exit, planned.stderr).toBe(0)
  expect(planned.stdout).toMatch(/sealing certificate expires in (29|30) days/)
  expectNothingInGit(at)
  await readAll(at)
  const late = await desk('sealedSecrets: {certificate: cert.pem}', { 'cert.pem': dated(-1) })
  expect(await late.run('plan')).toMatchObject({ exit: 2, stderr: expect.stringContaining('has expired') })
})
