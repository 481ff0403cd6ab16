import { createPrivateKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { addressText, ipBytes } from '../../src/pki/addresses.ts'
import {
  createIssuing,
  createLeaf,
  createRequest,
  createRoot,
  istioSelfSigned,
  keyMatches,
  privateKeyPem,
  readPrivateKey,
  readRequest,
  serialFrom,
  systemKeys,
} from '../../src/pki/authority.ts'
import { certificateFacts, isSelfSigned, isSignedBy, readCertificate } from '../../src/pki/certificate.ts'

const notBefore = new Date('2026-01-01T00:00:00Z')
const notAfter = new Date('2036-01-01T00:00:00Z')
const fixtures = new URL('../fixtures/pki/', import.meta.url)

function fixedKey(name: string): KeyObject {
  return createPrivateKey(readFileSync(new URL(name, fixtures), 'utf8'))
}

async function family() {
  const rootKey = await systemKeys.generate('ecdsa-p384')
  const issuingKey = await systemKeys.generate('ecdsa-p256')
  const leafKey = await systemKeys.generate('ecdsa-p256')
  const root = await createRoot({ subject: 'CN=Root CA,O=Example', key: rootKey, notBefore, notAfter, serial: '01' })
  const issuing = await createIssuing({
    subject: 'L=eu-1,CN=Intermediate CA,O=Example',
    key: issuingKey,
    issuer: { certificate: root, key: rootKey },
    notBefore,
    notAfter,
    serial: '02',
    dns: ['istiod.istio-system.svc'],
  })
  const leaf = await createLeaf({
    key: leafKey,
    issuer: { certificate: issuing, key: issuingKey },
    notBefore,
    notAfter: new Date('2026-01-02T00:00:00Z'),
    serial: '03',
    uris: ['spiffe://cluster.local/ns/shop/sa/cart'],
    ips: ['10.0.0.1', 'fd00::1'],
  })
  return { root, rootKey, issuing, issuingKey, leaf, leafKey }
}

describe('createRoot, createIssuing, createLeaf', () => {
  it('set every extension on purpose', async () => {
    const { root, issuing, leaf } = await family()
    expect(root.subject).toBe('CN=Root CA,O=Example')
    expect(root.key).toBe('ECDSA P-384')
    expect(root.ca).toBe(true)
    expect(root.pathLength).toBeNull()
    expect(root.aki).toBe(root.ski)
    expect([...(root.parts.extensions.keyUsage ?? [])]).toEqual(['keyCertSign', 'cRLSign'])
    expect(isSelfSigned(root)).toBe(true)
    expect(issuing.issuer).toBe(root.subject)
    expect(issuing.pathLength).toBe(0)
    expect(issuing.aki).toBe(root.ski)
    expect(isSignedBy(issuing, root)).toBe(true)
    expect(leaf.ca).toBe(false)
    expect(leaf.subject).toBe('')
    expect(leaf.aki).toBe(issuing.ski)
    expect([...(leaf.parts.extensions.keyUsage ?? [])]).toEqual(['digitalSignature'])
    expect(leaf.parts.extensions.present.get('2.5.29.17')).toBe(true)
    expect(leaf.parts.extensions.names).toEqual([
      { kind: 'URI', value: 'spiffe://cluster.local/ns/shop/sa/cart' },
      { kind: 'IP', bytes: Buffer.from([10, 0, 0, 1]) },
      { kind: 'IP', bytes: Buffer.from('fd000000000000000000000000000001', 'hex') },
    ])
    for (const certificate of [root, issuing, leaf]) expect(certificate.parts.problems).toEqual([])
  })

  it('writes the same bytes for the same arguments with an RSA key', async () => {
    const key = fixedKey('rsa-2048-a.key.pem')
    const parts = { subject: 'O=Example', key, notBefore, notAfter, serial: '0a' }
    const [first, second] = await Promise.all([createRoot(parts), createRoot(parts)])
    expect(first.pem).toBe(second.pem)
    expect(first.sha256).toBe('cef7935286b919c4761667ca19bde3225b08034296db67246e7a11b9ad098f03')
    expect(first.key).toBe('RSA 2048')
  })

  it('refuses an issuing CA that would outlive its root (F28)', async () => {
    const { root, rootKey, issuingKey } = await family()
    const made = createIssuing({
      subject: 'O=late',
      key: issuingKey,
      issuer: { certificate: root, key: rootKey },
      notBefore,
      notAfter: new Date('2036-01-01T00:00:01Z'),
      serial: '04',
    })
    await expect(made).rejects.toThrow(/outlive/)
  })

  it('lets an issuing CA end in the same second as its root, as certificates know no smaller time', async () => {
    const end = new Date('2036-01-01T00:00:00.789Z')
    const key = await systemKeys.generate('ecdsa-p256')
    const root = await createRoot({ subject: 'O=whole seconds', key, notBefore, notAfter: end, serial: '06' })
    const issuing = await createIssuing({
      subject: 'O=beneath',
      key: await systemKeys.generate('ecdsa-p256'),
      issuer: { certificate: root, key },
      notBefore,
      notAfter: end,
      serial: '07',
    })
    expect(issuing.notAfter).toBe(root.notAfter)
  })

  it('refuses serials that RFC 5280 forbids', async () => {
    const key = await systemKeys.generate('ecdsa-p256')
    for (const serial of ['00', '80', '', '1', 'ZZ', '01'.repeat(21)]) {
      await expect(createRoot({ subject: 'O=x', key, notBefore, notAfter, serial })).rejects.toThrow(/serial/)
    }
    expect(serialFrom(count => Buffer.alloc(count, 0xff))).toBe(`7f${'ff'.repeat(15)}`)
    expect(serialFrom(count => Buffer.alloc(count))).toBe(`40${'00'.repeat(15)}`)
  })

  it('takes a name over byte for byte from another certificate', async () => {
    const old = readCertificate(readFileSync(new URL('runbook-new-root.pem', fixtures), 'utf8'))
    const key = await systemKeys.generate('ecdsa-p256')
    const twin = await createRoot({ subject: old.parts.subject, key, notBefore, notAfter, serial: '05' })
    expect(twin.parts.subject.der.equals(old.parts.subject.der)).toBe(true)
  })

  it('writes awkward names so that they come back as they were given', async () => {
    const key = await systemKeys.generate('ecdsa-p256')
    for (const subject of [
      'CN=a\\,b\\+c,O=Zoë \\"x\\"',
      'CN=\\#1+OU=two,O=\\ edge\\ ',
      'emailAddress=ca@example.com,DC=example,DC=com',
    ]) {
      const root = await createRoot({ subject, key, notBefore, notAfter, serial: '06' })
      expect(root.subject).toBe(subject)
      expect(root.parts.problems).toEqual([])
    }
    await expect(createRoot({ subject: 'Root', key, notBefore, notAfter, serial: '06' })).rejects.toThrow(ReanchorError)
  })
})

describe('istioSelfSigned', () => {
  it('looks like the root that the runbook prints', async () => {
    const real = readCertificate(readFileSync(new URL('runbook-old-root.pem', fixtures), 'utf8'))
    const ours = await istioSelfSigned({
      trustDomain: 'cluster.local',
      key: fixedKey('rsa-2048-a.key.pem'),
      notBefore,
      notAfter,
      serial: '07',
    })
    expect(ours.parts.subject.der.equals(real.parts.subject.der)).toBe(true)
    expect([...ours.parts.extensions.present]).toEqual([...real.parts.extensions.present])
    expect(ours.parts.extensions.keyUsage).toEqual(real.parts.extensions.keyUsage)
    expect(ours.parts.extensions.basicConstraints).toEqual(real.parts.extensions.basicConstraints)
    expect(ours.key).toBe(real.key)
    expect(ours.aki).toBeNull()
  })
})

describe('readPrivateKey', () => {
  it('reads PKCS#8, PKCS#1 and SEC1, and writes PKCS#8', async () => {
    const rsa = fixedKey('rsa-2048-a.key.pem')
    const ec = await systemKeys.generate('ecdsa-p256')
    for (const [key, text] of [
      [rsa, rsa.export({ type: 'pkcs1', format: 'pem' }).toString()],
      [ec, ec.export({ type: 'sec1', format: 'pem' }).toString()],
      [ec, privateKeyPem(ec)],
    ] as const) {
      expect(readPrivateKey(text).equals(key)).toBe(true)
    }
    expect(privateKeyPem(ec)).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
  })

  it('refuses an encrypted key with a hint, and says nothing of its content', async () => {
    const ec = await systemKeys.generate('ecdsa-p256')
    const text = ec.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' }).toString()
    const error = thrown(() => readPrivateKey(text, { file: 'ca-key.pem' }))
    expect(error.message).toContain('ca-key.pem: an encrypted private key')
    expect(error.todo).toContain('openssl pkcs8')
    expect(error.message).not.toContain(text.split('\n')[1])
  })

  it('refuses none, several, and broken keys', async () => {
    const pem = privateKeyPem(await systemKeys.generate('ecdsa-p256'))
    expect(() => readPrivateKey('hello')).toThrow(/no private key/)
    expect(() => readPrivateKey(pem + pem)).toThrow(/more than one/)
    expect(() => readPrivateKey(pem.slice(0, 80))).toThrow(/cut off/)
    expect(() => readPrivateKey(pem.replace(/\n[^-\n]{20}/, '\nAAAAAAAAAAAAAAAAAAAA'))).toThrow(/cannot be read/)
  })

  it('tells which key belongs to a certificate', async () => {
    const { root, rootKey, issuingKey } = await family()
    expect(keyMatches(root, rootKey)).toBe(true)
    expect(keyMatches(root, issuingKey)).toBe(false)
  })
})

describe('createRequest and readRequest', () => {
  it('agree, and a tampered request is refused', async () => {
    const key = await systemKeys.generate('ecdsa-p256')
    const request = await createRequest({ subject: 'CN=Intermediate CA,O=Example', key })
    const read = await readRequest(request.pem, { file: 'eu-1.csr' })
    expect(read.subject).toBe('CN=Intermediate CA,O=Example')
    expect(read.spki).toBe(request.spki)
    const der = Buffer.from(request.pem.split('\n').slice(1, -2).join(''), 'base64')
    der[der.indexOf('Intermediate')] = 0x4a
    const bad = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
    await expect(readRequest(bad, { file: 'eu-1.csr' })).rejects.toThrow(/eu-1.csr: a certificate request/)
    await expect(readRequest('nothing')).rejects.toThrow(/no CERTIFICATE REQUEST block/)
  })
})

describe('certificateFacts', () => {
  it('is plain JSON', async () => {
    const { leaf } = await family()
    const facts = certificateFacts(leaf)
    expect(JSON.parse(JSON.stringify(facts))).toEqual(facts)
    expect(Object.keys(facts)).not.toContain('der')
  })
})

describe('ipBytes', () => {
  it('reads every form of an address', () => {
    expect(ipBytes('::')?.toString('hex')).toBe('0'.repeat(32))
    expect(ipBytes('1::')?.toString('hex')).toBe(`0001${'0'.repeat(28)}`)
    expect(ipBytes('::ffff:10.0.0.1')?.toString('hex')).toBe(`${'0'.repeat(20)}ffff0a000001`)
    expect(ipBytes('2001:db8:1:2:3:4:5:6')?.toString('hex')).toBe('20010db8000100020003000400050006')
    expect(ipBytes('example.com')).toBeNull()
    for (const text of ['::', '1::', '::1', '2001:db8::1', 'fe80::1:0:0:1', '10.0.0.1'])
      expect(addressText(ipBytes(text)!)).toBe(text)
  })
})

function thrown(act: () => unknown): ReanchorError {
  try {
    act()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
