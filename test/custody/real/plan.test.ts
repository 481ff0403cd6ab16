import { spawnSync } from 'node:child_process'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { readCertificate } from '../../../src/pki/certificate.ts'
import { openRepository } from '../../../src/repository/repository.ts'
import { rsaPair, selfSigned } from '../certificate.ts'
import { desk } from '../desk.ts'
import { type Keyring, newKeyring } from './gnupg.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-plan-'))
let keyring: Keyring
beforeAll(() => {
  keyring = newKeyring('fleet')
})
afterAll(() => {
  keyring.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Every file of this name that the plan holds, by path. */
async function plannedFiles(bare: string, name: string): Promise<ReadonlyMap<string, string>> {
  const repository = await openRepository(bare)
  try {
    const snapshot = repository.snapshot((await repository.branch('reanchor/mesh-2026/plan')) ?? '')
    const paths = [...(await snapshot.list('rotations/mesh-2026/phases')).keys()].filter(path =>
      path.endsWith(`/${name}`),
    )
    return await snapshot.readMany(paths)
  } finally {
    repository.close()
  }
}

function isPair(certificate: string, key: string): boolean {
  const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
  return readCertificate(certificate).x509.publicKey.export({ type: 'spki', format: 'der' }).equals(spki)
}

const decoded = (text: string) => Buffer.from(text, 'base64').toString()

describe('a plan of the real programs', () => {
  it('sealed to a key of GnuPG is opened by sops at every step: the key belongs to the certificate beside it', async () => {
    const rules = `creation_rules:\n  - path_regex: ^trust/\n    pgp: ${keyring.fingerprint}\n`
    const at = await desk('sops: {}', { '.sops.yaml': rules })
    Object.assign(process.env, keyring.environment)
    const planned = await at.run('plan')
    expect(planned.exit, planned.stderr).toBe(0)
    expect(planned.stdout).toContain('the sops program seals to them')
    const files = await plannedFiles(at.bare, 'cacerts.yaml')
    expect(files.size).toBeGreaterThan(3)
    const blocks = new Set<string>()
    for (const yaml of files.values()) {
      blocks.add(yaml.slice(yaml.indexOf('\nsops:')))
      const file = join(folder, 'cacerts.yaml')
      writeFileSync(file, yaml)
      const opened = spawnSync('sops', ['--disable-version-check', 'decrypt', '--output-type', 'json', file], {
        env: { PATH: process.env.PATH, HOME: folder, ...keyring.environment },
        encoding: 'utf8',
      })
      expect(opened.stderr).toBe('')
      const { data } = JSON.parse(opened.stdout) as { data: Record<string, string> }
      expect(isPair(decoded(data['ca-cert.pem'] ?? ''), decoded(data['ca-key.pem'] ?? ''))).toBe(true)
    }
    // The old key and the new one: two calls of the program for all steps and ways back.
    expect(blocks.size).toBe(2)
  })

  it.each(['strict', 'namespace-wide', 'cluster-wide'])(
    'sealed to a certificate of Sealed Secrets, %s, is opened by kubeseal at every step',
    async scope => {
      const pair = rsaPair()
      const day = 86_400_000
      const dates = [new Date(Date.now() - day), new Date(Date.now() + 3650 * day)] as const
      const certificate = selfSigned(pair.privateKey, pair.publicKey, ...dates)
      const at = await desk(`sealedSecrets: {certificate: cert.pem, scope: ${scope}}`, { 'cert.pem': certificate })
      const planned = await at.run('plan')
      expect(planned.exit, planned.stderr).toBe(0)
      const key = join(folder, `${scope}.pem`)
      writeFileSync(key, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
      const files = await plannedFiles(at.bare, 'cacerts.yaml')
      expect(files.size).toBeGreaterThan(3)
      for (const yaml of files.values()) {
        const opened = spawnSync('kubeseal', ['--recovery-unseal', '--recovery-private-key', key], {
          input: yaml,
          encoding: 'utf8',
        })
        expect(opened.stderr).toBe('')
        const { data } = JSON.parse(opened.stdout) as { data: Record<string, string> }
        expect(Object.keys(data).sort()).toEqual(['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'])
        expect(isPair(decoded(data['ca-cert.pem'] ?? ''), decoded(data['ca-key.pem'] ?? ''))).toBe(true)
      }
    },
  )

  it('kept in a store is, file by file, what the ExternalSecrets refer to', async () => {
    const at = await desk('externalSecrets: {store: vault, vaultMount: secret}')
    const keys = join(at.folder, 'keys')
    const planned = await at.run('plan', '--keys-out', keys)
    expect(planned.exit, planned.stderr).toBe(0)
    const told = new Map(
      [...planned.stdout.matchAll(/^vault kv put -mount=secret (\S+) value=@(\S+)$/gm)].map(
        ([, key = '', file = '']) => [key, readFileSync(file, 'utf8')],
      ),
    )
    for (const yaml of (await plannedFiles(at.bare, 'cacerts.yaml')).values()) {
      const { spec } = parse(yaml)
      const value = told.get(spec.data[0].remoteRef.key) ?? ''
      expect(isPair(spec.target.template.data['ca-cert.pem'], value)).toBe(true)
    }
  })
})
