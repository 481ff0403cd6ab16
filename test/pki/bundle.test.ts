import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { createLeaf, createRoot, privateKeyPem, systemKeys } from '../../src/pki/authority.ts'
import { joinPem, readBundle } from '../../src/pki/bundle.ts'
import { readCertificate } from '../../src/pki/certificate.ts'

const fixtures = new URL('../fixtures/pki/', import.meta.url)
const oldRoot = readFileSync(new URL('runbook-old-root.pem', fixtures), 'utf8')
const newRoot = readFileSync(new URL('runbook-new-root.pem', fixtures), 'utf8')
const oldPrint = '6c629eb1a404067911995761522e76c8850332f6dac1201b07be4cf56d4a26df'
const newPrint = '987e2fa3e28db9524769a5916023f0a1d4ca7e40c44fa055519e930b81348b69'

const key = await systemKeys.generate('ecdsa-p256')
const dates = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2036-01-01T00:00:00Z') }
const roots = await Promise.all(
  [1, 2, 3, 4].map(number => createRoot({ subject: `CN=Root ${number}`, key, serial: `0${number}`, ...dates })),
)
const leaf = await createLeaf({
  key,
  issuer: { certificate: roots[0]!, key },
  dns: ['example.com'],
  serial: '09',
  ...dates,
})

function refusal(text: string, options: Parameters<typeof readBundle>[1] = {}): ReanchorError {
  try {
    readBundle(text, { file: 'roots.pem', ...options })
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('the bundle was accepted')
}

describe('the certificates that the runbook prints', () => {
  it('are read rightly', () => {
    const old = readCertificate(oldRoot)
    expect(old).toMatchObject({
      sha256: oldPrint,
      subject: 'O=cluster.local',
      issuer: 'O=cluster.local',
      serial: '00e25492ac838b48ff0651bc8e2ce59ae7',
      notBefore: '2025-06-24T12:08:43Z',
      notAfter: '2035-06-22T12:08:43Z',
      key: 'RSA 2048',
      ca: true,
      pathLength: null,
      ski: 'c98cfa3bf7ec67597586f8c4807f98b59c439d04',
      aki: null,
      pem: oldRoot,
    })
    const next = readCertificate(newRoot)
    expect(next).toMatchObject({
      subject: 'CN=Root CA,O=Istio',
      key: 'RSA 4096',
      serial: '2eefd8b2060b01c43590f73c932ce40c41a3852f',
      ca: true,
      pem: newRoot,
    })
    expect(next.sha256).toBe(newPrint)
    expect([...(next.parts.extensions.keyUsage ?? [])]).toEqual([
      'digitalSignature',
      'nonRepudiation',
      'keyEncipherment',
      'keyCertSign',
    ])
  })

  it('make the bundle old, new, new of the runbook, repeats and order kept', () => {
    const text = joinPem(oldRoot, newRoot, newRoot)
    const bundle = readBundle(text)
    expect(bundle.text).toBe(text)
    expect(bundle.certificates.map(certificate => certificate.sha256)).toEqual([oldPrint, newPrint, newPrint])
    expect([...bundle.anchors]).toEqual([oldPrint, newPrint])
    expect([...bundle.repeats]).toEqual([[newPrint, 2]])
    expect(bundle.remarks).toEqual([])
    expect(text.startsWith(joinPem(oldRoot, newRoot))).toBe(true)
  })
})

describe('readBundle', () => {
  it('refuses a bundle that holds a private key, by name, with its line, and quotes nothing of it (F30)', () => {
    const secret = privateKeyPem(key)
    for (const live of [true, false]) {
      for (const text of [
        oldRoot + secret,
        secret + oldRoot,
        oldRoot + secret.slice(0, 60),
        oldRoot.trimEnd() + secret,
      ]) {
        const error = refusal(text, { allowRepeats: live })
        expect(error.what).toBe('a private key among certificates')
        expect(error.where.file).toBe('roots.pem')
        expect(error.where.line).toBeGreaterThan(0)
        expect(error.message).not.toContain(secret.split('\n')[1]!.slice(0, 12))
      }
    }
    expect(refusal(oldRoot + secret).where.line).toBe(oldRoot.split('\n').length)
    for (const kind of ['RSA PRIVATE KEY', 'EC PRIVATE KEY', 'ENCRYPTED PRIVATE KEY']) {
      expect(refusal(`-----BEGIN ${kind}-----\n`).what).toContain('private key')
    }
  })

  it('refuses any other block', () => {
    const error = refusal(`${oldRoot}-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n`)
    expect(error.message).toMatch(/roots.pem:20: a block that is no certificate/)
    expect(refusal('-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n').what).toContain(
      'no certificate',
    )
  })

  it('refuses glued markers, and says where they come from (F30)', () => {
    const error = refusal(oldRoot.trimEnd() + newRoot)
    expect(error.message).toMatch(/roots.pem:19: an END line and the next BEGIN are glued together/)
    expect(error.todo).toContain('joining files')
  })

  it('refuses blocks that are cut off, and PEM headers', () => {
    expect(refusal(oldRoot.split('\n').slice(0, 5).join('\n')).message).toMatch(
      /roots.pem:1: a block that does not end/,
    )
    expect(refusal(`${oldRoot.split('\n').slice(0, 5).join('\n')}\n${newRoot}`).message).toMatch(
      /roots.pem:1: a block that does not end/,
    )
    expect(refusal(oldRoot.split('\n').slice(1).join('\n')).what).toMatch(/END line without its BEGIN/)
    expect(refusal(oldRoot.replace('-----\n', '-----\nProc-Type: 4,CLEAR\n')).message).toMatch(
      /roots.pem:2: a PEM header/,
    )
  })

  it('refuses a leaf where a root belongs', () => {
    const error = refusal(joinPem(oldRoot, leaf.pem))
    expect(error.message).toMatch(/roots.pem:20: a certificate that is no CA/)
    expect(error.found).toContain(leaf.sha256)
    expect(readBundle(joinPem(leaf.pem, oldRoot), { requireCa: false }).certificates).toHaveLength(2)
  })

  it('refuses bytes that are no certificate', () => {
    const lines = oldRoot.split('\n')
    expect(refusal([...lines.slice(0, 3), lines[3]!.slice(0, 60), ...lines.slice(4)].join('\n')).message).toMatch(
      /roots.pem/,
    )
    expect(refusal('-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n').what).toBe(
      'a certificate that cannot be read',
    )
    expect(refusal('-----BEGIN CERTIFICATE-----\nM*A=\n-----END CERTIFICATE-----\n').message).toMatch(
      /roots.pem:2: a block whose content is not base64/,
    )
    expect(refusal('').what).toBe('a bundle without a certificate')
  })

  it("accepts CRLF, a missing final newline and comments in a live bundle with a remark, and refuses them in a user's file (F30)", () => {
    const odd = {
      CRLF: oldRoot.replaceAll('\n', '\r\n'),
      newline: oldRoot.trimEnd(),
      'text outside': `# the old root\n${oldRoot}`,
    }
    for (const [word, text] of Object.entries(odd)) {
      const live = readBundle(text)
      expect(live.certificates.map(certificate => certificate.sha256)).toEqual([oldPrint])
      expect(live.remarks.join()).toContain(word)
      expect(live.text).toBe(text)
      const error = refusal(text, { allowRepeats: false })
      expect(error.message).toContain(word)
      expect(error.todo).toBeTruthy()
      expect(error.where.line).toBeGreaterThan(0)
    }
  })

  it("reports a repeat in a live bundle and refuses it in a user's file", () => {
    const text = joinPem(oldRoot, newRoot, oldRoot)
    expect(readBundle(text).repeats.get(oldPrint)).toBe(2)
    expect(refusal(text, { allowRepeats: false }).message).toMatch(/roots.pem:50: the same certificate twice/)
  })
})

describe('properties of bundles', () => {
  const part = fc.record({
    root: fc.nat(roots.length - 1),
    crlf: fc.boolean(),
    end: fc.constantFrom('', '\n', '\n\n', '\r\n', ' \n', '\n \t\n'),
  })

  it('joinPem never breaks a block, whatever the parts end with, and its result is strict', () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), parts => {
        const texts = parts.map(({ root, crlf, end }) => {
          const pem = roots[root]!.pem.trimEnd()
          return (crlf ? pem.replaceAll('\n', '\r\n') : pem) + end
        })
        const joined = joinPem(...texts)
        const bundle = readBundle(joined)
        expect(bundle.remarks).toEqual([])
        expect(bundle.certificates.map(({ sha256 }) => sha256)).toEqual(parts.map(({ root }) => roots[root]!.sha256))
        expect(joined).toBe(bundle.certificates.map(({ pem }) => pem).join(''))
        expect(joinPem(joined)).toBe(joined)
      }),
    )
  })

  it('garbage planted anywhere is never read as another set of certificates', () => {
    const text = joinPem(...roots.map(root => root.pem))
    const wanted = roots.map(({ sha256 }) => sha256).join()
    const garbage = fc.oneof(
      fc.string({ minLength: 1, unit: fc.constantFrom(...'Aa9+/=-:#* \u00e9\0') }),
      fc.constantFrom(
        '-----BEGIN CERTIFICATE-----',
        '-----END CERTIFICATE-----',
        '-----BEGIN PRIVATE KEY-----',
        'Proc-Type: 4,ENCRYPTED',
      ),
    )
    fc.assert(
      fc.property(garbage, fc.nat(text.length), (planted, at) => {
        const spoilt = text.slice(0, at) + planted + text.slice(at)
        try {
          const bundle = readBundle(spoilt, { allowRepeats: false })
          // Only white space at a line's end may pass.
          expect(bundle.certificates.map(({ sha256 }) => sha256).join()).toBe(wanted)
          expect(planted.trim()).toBe('')
        } catch (error) {
          expect(error).toBeInstanceOf(ReanchorError)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('a certificate with a changed byte is refused, or is another certificate', () => {
    const { der, sha256 } = roots[0]!
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const spoilt = Buffer.from(der)
        spoilt[at] = spoilt[at]! ^ change
        try {
          expect(readCertificate(spoilt).sha256).not.toBe(sha256)
        } catch (error) {
          expect(error).toBeInstanceOf(ReanchorError)
        }
      }),
      { numRuns: 500 },
    )
  })
})
