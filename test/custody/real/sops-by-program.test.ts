import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSopsByProgramCustody } from '../../../src/custody/sops-by-program.ts'
import { readSealedSecret } from '../../../src/custody/sops-document.ts'
import { systemSops } from '../../../src/custody/sops-program.ts'
import { applyRule, readSopsRules } from '../../../src/custody/sops-rules.ts'
import { ecPair, pem } from '../certificate.ts'
import { ageKey, cacerts, destination } from '../secrets.ts'
import { type Keyring, newKeyring } from './gnupg.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-sops-real-'))
let one: Keyring
let two: Keyring
let age: Awaited<ReturnType<typeof ageKey>>
beforeAll(async () => {
  one = newKeyring('one')
  two = newKeyring('two')
  age = await ageKey()
})
afterAll(() => {
  one.close()
  two.close()
  rmSync(folder, { recursive: true, force: true })
})

const privateKey = pem(ecPair().privateKey)
const secret = (data: Readonly<Record<string, string>> = {}) =>
  cacerts({ data: { ...cacerts().data, 'ca-key.pem': privateKey, ...data } })

function custody(rule: string, keyring: Keyring, keep: readonly { destination: string; yaml: string }[] = []) {
  const rules = readSopsRules(`creation_rules:\n  - path_regex: ^trust/\n    ${rule}\n`, '.sops.yaml')
  return createSopsByProgramCustody({
    program: systemSops({ ...process.env, ...keyring.environment }),
    rule: path => applyRule(rules, path).rule,
    keep,
  })
}

function opened(yaml: string, environment: Readonly<Record<string, string>>) {
  const file = join(folder, 'cacerts.yaml')
  writeFileSync(file, yaml)
  const clean = { PATH: process.env.PATH, HOME: folder, GNUPGHOME: join(folder, 'none'), ...environment }
  const result = spawnSync('sops', ['--disable-version-check', 'decrypt', '--output-type', 'json', file], {
    env: clean,
    encoding: 'utf8',
  })
  return { ...result, key: result.status === 0 ? (JSON.parse(result.stdout).data['ca-key.pem'] as string) : null }
}

const base64 = Buffer.from(privateKey).toString('base64')

describe('sops with keys of GnuPG', () => {
  it('seals for it what sops opens with the keyring, public values unread by it and changed since', async () => {
    const sealing = custody(`pgp: ${one.fingerprint}`, one)
    const yaml = await sealing.seal(secret(), destination)
    expect(opened(yaml, one.environment)).toMatchObject({ stderr: '', key: base64 })
    expect(opened(yaml, two.environment).key).toBeNull()
    const later = await sealing.seal(secret({ 'root-cert.pem': 'old\nnew\n' }), destination)
    expect(readSealedSecret(later).sealed).toEqual(readSealedSecret(yaml).sealed)
    expect(opened(later, one.environment).key).toBe(base64)
  })

  it('refuses, as sops does, a private value that was changed since', async () => {
    const sealing = custody(`pgp: ${one.fingerprint}`, one)
    const yaml = await sealing.seal(secret(), destination)
    const other = await sealing.seal(secret({ 'ca-key.pem': pem(ecPair().privateKey) }), destination)
    const [mine = '', theirs = ''] = [yaml, other].map(text => readSealedSecret(text).sealed['ca-key.pem'])
    expect(opened(yaml.replace(mine, theirs), one.environment).key).toBeNull()
  })

  it('keeps what an earlier plan sealed, byte for byte, and says whose keys changed', async () => {
    const yaml = await custody(`pgp: ${one.fingerprint}`, one).seal(secret(), destination)
    const kept = { 'ca-key.pem': readSealedSecret(yaml).sealed['ca-key.pem'] ?? '', 'root-cert.pem': 'new\n' }
    const keep = [{ destination, yaml }]
    const again = await custody(`pgp: ${one.fingerprint}`, one, keep).seal(secret(kept), destination)
    expect(again.slice(again.indexOf('\nsops:'))).toBe(yaml.slice(yaml.indexOf('\nsops:')))
    expect(opened(again, one.environment).key).toBe(base64)
    const moved = custody(`pgp: ${two.fingerprint}`, two, keep).seal(secret(kept), destination)
    await expect(moved).rejects.toThrow(new RegExp(`keys of the rule have changed[\\s\\S]*${two.fingerprint}`))
  })

  it('beside several age recipients: each key alone opens it', async () => {
    const other = await ageKey()
    const rule = `pgp: ${one.fingerprint}\n    age: "${age.recipient},${other.recipient}"`
    const yaml = await custody(rule, one).seal(secret(), destination)
    expect(readSealedSecret(yaml).recipients).toEqual([age.recipient, other.recipient])
    for (const environment of [one.environment, { SOPS_AGE_KEY: age.identity }, { SOPS_AGE_KEY: other.identity }])
      expect(opened(yaml, environment).key).toBe(base64)
  })

  it('in two key groups with a threshold: one group opens nothing, both do', async () => {
    const rule = `shamir_threshold: 2\n    key_groups: [{pgp: [${one.fingerprint}]}, {age: [${age.recipient}]}]`
    const yaml = await custody(rule, one).seal(secret(), destination)
    expect(opened(yaml, one.environment).key).toBeNull()
    expect(opened(yaml, { SOPS_AGE_KEY: age.identity }).key).toBeNull()
    expect(opened(yaml, { ...one.environment, SOPS_AGE_KEY: age.identity }).key).toBe(base64)
  })
})

describe('sops that cannot seal', () => {
  it('names the key that it has not, and no private value stands in the error or on the disk', async () => {
    const before = new Set(readdirSync(tmpdir()).filter(name => name.startsWith('reanchor-sops-')))
    const attempt = custody(`pgp: ${two.fingerprint}`, one).seal(secret(), destination)
    await expect(attempt).rejects.toThrow(/sops program cannot seal/)
    const error = await attempt.catch((cause: unknown) => (cause as Error).message)
    expect(error).toContain(two.fingerprint)
    for (const part of [base64.slice(0, 40), privateKey.split('\n')[1] ?? '']) expect(error).not.toContain(part)
    expect(readdirSync(tmpdir()).filter(name => name.startsWith('reanchor-sops-') && !before.has(name))).toEqual([])
  })

  it('asks a KMS that does not answer, and ends with what the program said', async () => {
    const environment = {
      AWS_ACCESS_KEY_ID: 'planted-access-key',
      AWS_SECRET_ACCESS_KEY: 'planted-secret-access-key',
      AWS_ENDPOINT_URL: 'http://127.0.0.1:9',
      AWS_MAX_ATTEMPTS: '1',
      AWS_EC2_METADATA_DISABLED: 'true',
    }
    const attempt = custody('kms: arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-4000-8000-000000000000', {
      ...one,
      environment,
    }).seal(secret(), destination)
    const error = await attempt.then(
      () => 'sealed',
      (cause: unknown) => (cause as Error).message,
    )
    expect(error).toMatch(/sops program cannot seal[\s\S]*kms/i)
    for (const part of [base64.slice(0, 40), environment.AWS_SECRET_ACCESS_KEY]) expect(error).not.toContain(part)
  })
})
