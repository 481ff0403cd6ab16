import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ageEncrypt } from '../../src/custody/age.ts'
import { writeRootKeyFile } from '../../src/custody/root-key.ts'
import { createSopsCustody, decryptSopsSecret } from '../../src/custody/sops.ts'
import { readSealedSecret } from '../../src/custody/sops-document.ts'
import { ecPair, pem as keyPem, selfSigned } from '../custody/certificate.ts'
import { ageKey, cacerts, destination, now, seededRandom, wrapWith } from '../custody/secrets.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-sops-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let first: Awaited<ReturnType<typeof ageKey>>
let second: Awaited<ReturnType<typeof ageKey>>
beforeAll(async () => {
  first = await ageKey()
  second = await ageKey()
})

function custody(parts: Partial<Parameters<typeof createSopsCustody>[0]> = {}) {
  return createSopsCustody({ recipients: [first.recipient, second.recipient], now, random: randomBytes, ...parts })
}

function sops(yaml: string, identity: string) {
  const file = join(folder, 'secret.yaml')
  writeFileSync(file, yaml)
  const environment = { ...process.env, SOPS_AGE_KEY: identity, SOPS_DISABLE_VERSION_CHECK: 'true' }
  return spawnSync('sops', ['--decrypt', '--output-type', 'json', file], { env: environment, encoding: 'utf8' })
}

function openedBySops(yaml: string, identity: string): unknown {
  const result = sops(yaml, identity)
  expect(result.stderr).toBe('')
  expect(result.status).toBe(0)
  return JSON.parse(result.stdout)
}

describe('the real sops', () => {
  it('opens what was sealed, for each recipient alone, and reads what we read', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    for (const { identity } of [first, second]) {
      const manifest = openedBySops(yaml, identity)
      expect(manifest).toEqual(await decryptSopsSecret(yaml, identity))
      expect(manifest).toMatchObject({
        kind: 'Secret',
        data: {
          'ca-key.pem': Buffer.from('the private part\n').toString('base64'),
          'root-cert.pem': Buffer.from('old\n').toString('base64'),
        },
      })
    }
  })

  it('opens every manifest of a run of phases whose private values come and go', async () => {
    const sealing = custody()
    for (const [key, root] of [
      ['old', 'old'],
      ['old', 'old+new'],
      ['new', 'old+new+new'],
      ['new', 'new'],
      ['old', 'old'],
    ]) {
      const data = { 'ca-key.pem': `${key}`, 'root-cert.pem': `${root}` }
      const yaml = await sealing.seal(cacerts({ data }), destination)
      expect(openedBySops(yaml, first.identity)).toMatchObject({
        data: { 'ca-key.pem': Buffer.from(`${key}`).toString('base64') },
      })
    }
  })

  it('opens a manifest that was rendered again from sealed values, without any identity and with one', async () => {
    const sealed = await custody().seal(cacerts(), destination)
    const reference = readSealedSecret(sealed).sealed['ca-key.pem'] ?? ''
    const keep = [{ destination, yaml: sealed }]
    const data = { ...cacerts().data, 'ca-key.pem': reference, 'root-cert.pem': 'old\nnew\n' }
    const again = await custody({ keep, now: new Date('2027-01-01T00:00:00Z') }).seal(cacerts({ data }), destination)
    expect(openedBySops(again, second.identity)).toMatchObject({
      data: { 'root-cert.pem': Buffer.from('old\nnew\n').toString('base64') },
    })
    const next = { ...data, 'ca-key.pem': 'another' }
    const joined = await custody({ keep, identity: first.identity }).seal(cacerts({ data: next }), destination)
    expect(openedBySops(joined, second.identity)).toMatchObject({
      data: { 'ca-key.pem': Buffer.from('another').toString('base64') },
    })
  })

  it('opens values, keys, labels and annotations that YAML readers disagree about', async () => {
    const odd = [
      '0o17',
      '1e3',
      '012',
      'yes',
      'null',
      '~',
      '\tTab\nfirst',
      ' lead',
      '1_000',
      '12:30:45',
      '=',
      '<<',
      'a: b',
      '# c',
      '\u0085',
      'a\u2028b\u007f\ufeff',
      'cr\r\nlf\0',
      'ünïcode',
      '',
    ]
    const annotations = Object.fromEntries(odd.map((value, index) => [`example.com/a${index}`, value]))
    const names = ['012', '10', '9', '1e3', '0o17', 'null', 'yes', '.', '-', '__proto__', 'a.b']
    const data = Object.fromEntries(names.map(name => [name, `value of ${name}`]))
    const yaml = await custody().seal(
      cacerts({ annotations, data, privateKeys: ['012', '9', '10', '.', '0o17', 'a.b'] }),
      destination,
    )
    const manifest = openedBySops(yaml, first.identity) as {
      metadata: { annotations: unknown }
      data: Record<string, string>
    }
    expect(manifest.metadata.annotations).toEqual(annotations)
    for (const name of names)
      expect(Buffer.from(manifest.data[name] ?? '', 'base64').toString()).toBe(`value of ${name}`)
  })

  it('opens a file whose data key was wrapped with randomness that was given', async () => {
    const random = seededRandom('sops')
    const yaml = await custody({ random, wrapDataKey: wrapWith(random) }).seal(cacerts(), destination)
    expect(openedBySops(yaml, first.identity)).toEqual(await decryptSopsSecret(yaml, first.identity))
  })

  it('accepts a changed public value and refuses a changed, moved or swapped private one, as we do', async () => {
    const sealing = custody()
    const data = { a: 'one', b: 'two', 'root-cert.pem': 'old' }
    const yaml = await sealing.seal(cacerts({ data, privateKeys: ['a', 'b'] }), destination)
    const other = await sealing.seal(cacerts({ data: { ...data, a: 'three' }, privateKeys: ['a', 'b'] }), destination)
    const sealed = readSealedSecret(yaml).sealed
    const [a, b, newer] = [sealed.a ?? '', sealed.b ?? '', readSealedSecret(other).sealed.a ?? '']

    const publicChange = yaml.replace(Buffer.from('old').toString('base64'), Buffer.from('new').toString('base64'))
    expect(publicChange).not.toBe(yaml)
    expect(sops(publicChange, first.identity).status).toBe(0)

    const moved = yaml.replace(a, 'HELD').replace(b, a).replace('HELD', b)
    const swapped = yaml.replace(a, newer)
    for (const tampered of [moved, swapped]) {
      expect(sops(tampered, first.identity).status).not.toBe(0)
      await expect(decryptSopsSecret(tampered, first.identity)).rejects.toThrow(/does not open|MAC does not match/)
    }
    expect(sops(swapped, first.identity).stderr).toMatch(/MAC mismatch/)
  })
})

describe('files that the real sops wrote', () => {
  it.each([
    ['with a MAC over all values', []],
    ['with a regex', ['--encrypted-regex', '^(data|stringData)$']],
  ])('are opened %s', async (_, flags) => {
    const plain = join(folder, 'plain.yaml')
    const text = [
      'apiVersion: v1 # a comment',
      'kind: Secret',
      'immutable: true',
      'metadata: {name: cacerts, generation: 3}',
      'data:',
      '  # another',
      '  a: b25l',
      '  empty: ""',
      '  b: dHdv',
      '',
    ].join('\n')
    writeFileSync(plain, text)
    const sealed = execFileSync('sops', ['--encrypt', '--age', first.recipient, ...flags, plain], {
      encoding: 'utf8',
      env: { ...process.env, SOPS_DISABLE_VERSION_CHECK: 'true' },
    })
    // Without a rule sops seals kind and metadata too; Kubernetes could not read such a file before it is opened.
    expect(await decryptSopsSecret(sealed, first.identity)).toEqual(parse(text))
    await expect(decryptSopsSecret(sealed.replace(/^sops:/m, 'added: x\nsops:'), first.identity)).rejects.toThrow()
  })
})

describe('the real age', () => {
  it('opens a root key file in spite of the header that says whose key it is, and openssl reads the key', async () => {
    const keys = ecPair('P-384')
    const pem = selfSigned(keys.privateKey, keys.publicKey, now, new Date(now.getTime() + 1e11))
    const path = join(folder, 'root.age')
    const certificate = {
      pem,
      sha256: createHash('sha256').update(new X509Certificate(pem).raw).digest('hex'),
      subject: 'CN=test root',
    }
    const recipients = [first.recipient, second.recipient]
    await writeRootKeyFile({ path, keyPem: keyPem(keys.privateKey), certificate, rotation: 'mesh-2026', recipients })
    for (const { identity } of [first, second]) {
      const key = join(folder, 'identity')
      writeFileSync(key, `${identity}\n`, { mode: 0o600 })
      const opened = execFileSync('age', ['--decrypt', '--identity', key, path])
      const fromKey = execFileSync('openssl', ['pkey', '-pubout'], { input: opened, encoding: 'utf8' })
      const fromCertificate = execFileSync('openssl', ['x509', '-noout', '-pubkey'], {
        input: opened,
        encoding: 'utf8',
      })
      expect(fromKey).toBe(fromCertificate)
    }
  })

  it('opens what was encrypted for it', async () => {
    const armored = await ageEncrypt(Buffer.from('content'), [first.recipient, second.recipient])
    const key = join(folder, 'identity')
    writeFileSync(key, `${second.identity}\n`, { mode: 0o600 })
    expect(execFileSync('age', ['--decrypt', '--identity', key], { input: armored, encoding: 'utf8' })).toBe('content')
  })
})
