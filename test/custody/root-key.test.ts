import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ageDecrypt } from '../../src/custody/age.ts'
import { readRootKeyHeader, writeRootKeyFile } from '../../src/custody/root-key.ts'
import { ecPair, pem, selfSigned } from './certificate.ts'
import { ageKey, now } from './secrets.ts'

const one = await ageKey()
const two = await ageKey()
const keys = ecPair('P-384')
const certificatePem = selfSigned(keys.privateKey, keys.publicKey, now, new Date(now.getTime() + 1e11), 'mesh root')
const sha256 = createHash('sha256').update(new X509Certificate(certificatePem).raw).digest('hex')

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'reanchor-root-key-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const file = (path: string) => ({
  path,
  keyPem: pem(keys.privateKey),
  certificate: { pem: certificatePem, sha256, subject: 'CN=mesh root' },
  rotation: 'mesh-2026',
  recipients: [one.recipient, two.recipient],
})

describe('the root key file', () => {
  it('opens for each recipient to the certificate and its key, and is for its owner only', async () => {
    const path = join(folder, 'root.age')
    await writeRootKeyFile(file(path))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    for (const { identity } of [one, two]) {
      const text = (await ageDecrypt(readFileSync(path, 'utf8'), [identity]))?.toString() ?? ''
      expect(text).toContain(sha256)
      expect(text).toContain('mesh-2026')
      expect(new X509Certificate(text).checkPrivateKey(createPrivateKey(text))).toBe(true)
    }
    expect(readdirSync(folder)).toEqual(['root.age'])
  })

  it('tells without an identity for which root it is', async () => {
    const path = join(folder, 'root.age')
    await writeRootKeyFile(file(path))
    const header = readRootKeyHeader(path)
    expect(header).toEqual({ rotation: 'mesh-2026', sha256, subject: 'CN=mesh root', certificatePem })
  })

  it('is never overwritten, and the error says for which root the present one is', async () => {
    const path = join(folder, 'root.age')
    await writeRootKeyFile(file(path))
    const before = readFileSync(path)
    await expect(writeRootKeyFile({ ...file(path), rotation: 'other' })).rejects.toThrow(
      new RegExp(`never overwritten[\\s\\S]*${sha256}`),
    )
    expect(readFileSync(path)).toEqual(before)
    const foreign = join(folder, 'notes.txt')
    writeFileSync(foreign, 'mine')
    await expect(writeRootKeyFile(file(foreign))).rejects.toMatchObject({ exit: 5 })
    expect(readFileSync(foreign, 'utf8')).toBe('mine')
    expect(readdirSync(folder)).toEqual(['notes.txt', 'root.age'])
  })

  it('is not written with a key that is not the root’s, without recipients, or into a folder that is not there', async () => {
    const path = join(folder, 'root.age')
    await expect(writeRootKeyFile({ ...file(path), keyPem: pem(ecPair('P-384').privateKey) })).rejects.toThrow(
      /does not belong/,
    )
    await expect(writeRootKeyFile({ ...file(path), recipients: [] })).rejects.toThrow(/no age recipient/)
    expect(existsSync(path)).toBe(false)
    await expect(writeRootKeyFile(file(join(folder, 'missing', 'root.age')))).rejects.toThrow(
      /cannot be created[\s\S]*ENOENT/,
    )
  })

  it.each([
    ['a text', 'hello'],
    ['an empty file', ''],
    [
      'an age file of another origin',
      `-----BEGIN AGE ENCRYPTED FILE-----\n${Buffer.from('age-encryption.org/v1\n-> X25519 a\nb\n--- c\n').toString('base64')}\n-----END AGE ENCRYPTED FILE-----\n`,
    ],
  ])('is not taken for one: %s', (_, content) => {
    const path = join(folder, 'other')
    writeFileSync(path, content)
    expect(() => readRootKeyHeader(path)).toThrow(/no root key file/)
  })

  it('that is missing is an error with its name', () => {
    expect(() => readRootKeyHeader(join(folder, 'none'))).toThrow(/none: this is no root key file[\s\S]*ENOENT/)
  })
})
