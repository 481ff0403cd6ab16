import { execFileSync, spawnSync } from 'node:child_process'
import { createPrivateKey, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createSealedSecretsCustody, type SealingScope, unseal } from '../../src/custody/sealed-secrets.ts'
import { cacerts, destination } from '../custody/secrets.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-kubeseal-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const keyFile = join(folder, 'key.pem')
const certificateFile = join(folder, 'certificate.pem')
execFileSync(
  'openssl',
  [
    'req',
    '-x509',
    '-newkey',
    'rsa:4096',
    '-nodes',
    '-keyout',
    keyFile,
    '-out',
    certificateFile,
    '-subj',
    '/CN=sealed-secret',
    '-days',
    '3650',
  ],
  {
    stdio: 'ignore',
  },
)
const privateKey = createPrivateKey(readFileSync(keyFile))
const certificatePem = readFileSync(certificateFile, 'utf8')

function kubeseal(yaml: string) {
  return spawnSync('kubeseal', ['--recovery-unseal', '--recovery-private-key', keyFile], {
    input: yaml,
    encoding: 'utf8',
  })
}

describe('the real kubeseal', () => {
  it.each<SealingScope>(['strict', 'namespace-wide', 'cluster-wide'])(
    'opens what was sealed for %s use, as we do',
    async scope => {
      const custody = createSealedSecretsCustody({ certificatePem, scope, random: randomBytes, now: new Date() })
      const data = {
        ...cacerts().data,
        notes: 'a {{ template }} that is none: {{{ "x" }}}\n',
        'no-newline': '  x',
      }
      const yaml = await custody.seal(cacerts({ data, type: 'istio.io/ca-root' }), destination)
      const result = kubeseal(yaml)
      expect(result.stderr).toBe('')
      const theirs = JSON.parse(result.stdout)
      const ours = unseal(yaml, privateKey)
      expect(theirs.data).toEqual(ours.data)
      expect(theirs.type).toBe('istio.io/ca-root')
      expect(theirs.metadata.labels).toEqual(ours.metadata.labels)
      expect(theirs.metadata.annotations).toEqual(ours.metadata.annotations)
      expect(theirs.metadata.ownerReferences).toBeUndefined()
      for (const [key, value] of Object.entries(data))
        expect(Buffer.from(theirs.data[key], 'base64').toString()).toBe(value)
    },
  )

  it('refuses a value under another name, as we do, unless it was sealed for wider use', async () => {
    for (const [scope, opens] of [
      ['strict', false],
      ['namespace-wide', true],
    ] as const) {
      const custody = createSealedSecretsCustody({ certificatePem, scope, random: randomBytes, now: new Date() })
      const moved = (await custody.seal(cacerts(), destination)).replace('name: cacerts', 'name: other')
      expect(kubeseal(moved).status === 0).toBe(opens)
      if (opens) expect(unseal(moved, privateKey).metadata.name).toBe('other')
      else expect(() => unseal(moved, privateKey)).toThrow(/does not open/)
    }
  })

  it('seals what we open', () => {
    const secret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'cacerts', namespace: 'istio-system' },
      stringData: { 'ca-key.pem': 'x' },
    }
    const yaml = execFileSync('kubeseal', ['--cert', certificateFile, '--format', 'yaml'], {
      input: JSON.stringify(secret),
      encoding: 'utf8',
    })
    // kubeseal writes a separator and creationTimestamp: null, neither of which matters here.
    expect(unseal(yaml.replace(/^---\n/, ''), privateKey).data).toEqual({
      'ca-key.pem': Buffer.from('x').toString('base64'),
    })
  })
})
