import { createPrivateKey } from 'node:crypto'
import { describe, expect, it, vi } from 'vitest'
import { findPaths } from '../../../src/pki/path.ts'
import { acceptKymaCa, generateKymaCa, kymaCaFromFiles, renewKymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { extensionsOf, isSameCa, renewCertificate } from '../../../src/systems/kyma/same-key.ts'
import { clientLeaf, kymaCa, now, quickKeys, random } from './material.ts'

// Each makes RSA keys of its own, which a busy machine takes its time for.
vi.setConfig({ testTimeout: 120_000 })

const means = { now, random, keys: quickKeys }
const leafHours = 92 * 24

describe('a renewed certificate', () => {
  it('has the key, the Subject, the SKI and every other extension of the old one, byte for byte', async () => {
    const old = await kymaCa()
    const { certificate, key } = await renewKymaCa(old, 365, means)
    expect(certificate.spki).toBe(old.certificate.spki)
    expect(certificate.parts.subject.der.equals(old.certificate.parts.subject.der)).toBe(true)
    expect(certificate.parts.issuer.der.equals(old.certificate.parts.issuer.der)).toBe(true)
    expect(extensionsOf(certificate)).toEqual(extensionsOf(old.certificate))
    expect(certificate.ski).toBe('a1b2c3d4e5f60718293a4b5c6d7e8f9001122334')
    expect(key).toBe(old.key)
  })

  it('has another serial and other dates', async () => {
    const old = await kymaCa()
    const { certificate } = await renewKymaCa(old, 365, means)
    expect(certificate.serial).not.toBe(old.certificate.serial)
    expect(certificate.sha256).not.toBe(old.certificate.sha256)
    expect(certificate.notAfter).toBe('2027-11-22T06:00:00Z')
  })

  it('has no SKI where the old one has none: leaves then name none either', async () => {
    const old = await kymaCa({ ski: null })
    const { certificate } = await renewKymaCa(old, 365, means)
    expect(old.certificate.ski).toBeNull()
    expect(certificate.ski).toBeNull()
    expect(isSameCa(old.certificate, certificate)).toBe(true)
  })

  it('alone verifies a leaf that was issued under the old one, and the old one alone a leaf issued under it (F7)', async () => {
    const old = await kymaCa()
    const next = await renewKymaCa(old, 365, means)
    for (const [issuer, anchor] of [
      [old.certificate, next.certificate],
      [next.certificate, old.certificate],
    ] as const) {
      const leaf = await clientLeaf({ certificate: issuer, key: old.key })
      const { failure } = findPaths(leaf, [], [anchor], { at: now, purpose: 'client' })
      expect(failure).toBeNull()
    }
  })

  it('would verify no leaf with another Subject, which is what `openssl req` makes of the runbook’s command', async () => {
    const old = await kymaCa()
    const other = await kymaCa({ subject: 'CN=Other' })
    const leaf = await clientLeaf(old)
    const { failure } = findPaths(leaf, [], [other.certificate], { at: now, purpose: 'client' })
    expect(failure).not.toBeNull()
  })

  it('is refused for a key that is not the old one’s', async () => {
    const old = await kymaCa()
    const other = await kymaCa()
    await expect(renewKymaCa({ certificate: old.certificate, key: other.key }, 365, means)).rejects.toThrow(
      'the key at hand is not the one of the CA that is renewed',
    )
  })

  it('is refused where it would have the serial of the old one', async () => {
    const old = await kymaCa()
    await expect(
      renewCertificate(old.certificate, {
        key: createPrivateKey(old.key),
        serial: '02',
        notBefore: now,
        notAfter: new Date(now.getTime() + 86_400_000),
      }),
    ).rejects.toThrow('the serial of the old one')
  })
})

describe('a new CA', () => {
  it('is RSA in PKCS#1 with what the setup job sets, under a subject of its own', async () => {
    const next = await generateKymaCa({ subject: 'CN=Kyma kyma-2026', validityDays: 365 }, means)
    expect(next.key).toMatch(/^-----BEGIN RSA PRIVATE KEY-----/)
    expect(next.certificate.subject).toBe('CN=Kyma kyma-2026')
    expect([...(next.certificate.parts.extensions.keyUsage ?? [])].sort()).toEqual([
      'digitalSignature',
      'keyCertSign',
      'keyEncipherment',
    ])
    expect(next.certificate.ca).toBe(true)
  })

  it('asks for RSA 4096, which the connector can use', async () => {
    const asked: string[] = []
    const keys = {
      generate: async (algorithm: string) => {
        asked.push(algorithm)
        return await quickKeys.generate('rsa-4096')
      },
    }
    await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 365 }, { ...means, keys })
    expect(asked).toEqual(['rsa-4096'])
  })
})

describe('what may follow the CA in use', () => {
  const asked = { leafHours, now, compromised: null }

  it('lets a renewed certificate follow with renew, and with emergency for a compromised certificate', async () => {
    const old = await kymaCa()
    const { certificate } = await renewKymaCa(old, 365, means)
    expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'renew' })).not.toThrow()
    expect(() =>
      acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'emergency', compromised: 'certificate' }),
    ).not.toThrow()
  })

  it('refuses with graceful, and with a compromised key, a certificate for the key in use', async () => {
    const old = await kymaCa()
    const { certificate } = await renewKymaCa(old, 365, means)
    for (const strategy of ['graceful', 'emergency'] as const)
      expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy, compromised: 'key' })).toThrow(
        'the new CA has the key of the old one',
      )
  })

  it('refuses with renew a CA of another key', async () => {
    const old = await kymaCa()
    const { certificate } = await generateKymaCa({ subject: 'CN=Kyma', validityDays: 365 }, means)
    expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'renew' })).toThrow(
      'not of the same CA',
    )
  })

  it('refuses a new key under the old Subject, which path building by name cannot tell apart (F8)', async () => {
    const old = await kymaCa()
    const { certificate } = await generateKymaCa({ subject: 'CN=Kyma', validityDays: 365 }, means)
    expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'graceful' })).toThrow(
      'one subject but different keys',
    )
  })

  it('refuses a CA that ends before the leaves that it signs: 92 days, whatever signs them (F28)', async () => {
    const old = await kymaCa()
    const { certificate } = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 92 }, means)
    expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'graceful' })).toThrow(
      'ends before the leaves that it signs',
    )
    const longer = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 157 }, means)
    expect(() => acceptKymaCa(old.certificate, longer.certificate, { ...asked, strategy: 'graceful' })).not.toThrow()
  })

  it('refuses an EC key, on which the connector’s reader panics', async () => {
    const old = await kymaCa()
    const { systemKeys } = await import('../../../src/pki/authority.ts')
    const ec = { ...means, keys: { generate: async () => await systemKeys.generate('ecdsa-p256') } }
    const { createRoot } = await import('../../../src/pki/authority.ts')
    const key = await ec.keys.generate()
    const certificate = await createRoot({
      subject: 'CN=Kyma EC',
      key,
      serial: '05',
      notBefore: now,
      notAfter: new Date(now.getTime() + 400 * 86_400_000),
    })
    expect(() => acceptKymaCa(old.certificate, certificate, { ...asked, strategy: 'graceful' })).toThrow(
      'a CA whose key the connector cannot use',
    )
    const files: Record<string, string> = {
      'ca.crt': certificate.pem,
      'ca.key': key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    }
    expect(() => kymaCaFromFiles({ certificate: 'ca.crt', key: 'ca.key' }, path => files[path] ?? '')).toThrow(
      'a key that the connector cannot use',
    )
  })

  it('refuses a bundle as the new CA: the connector reads its first block', async () => {
    const one = await kymaCa()
    const other = await kymaCa({ subject: 'CN=Other' })
    const files: Record<string, string> = { 'ca.crt': one.certificate.pem + other.certificate.pem, 'ca.key': one.key }
    expect(() => kymaCaFromFiles({ certificate: 'ca.crt', key: 'ca.key' }, path => files[path] ?? '')).toThrow(
      'more than one certificate',
    )
  })
})
