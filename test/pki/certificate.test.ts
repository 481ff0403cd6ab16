import { createPrivateKey, type KeyObject, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { weaknesses } from '../../src/pki/accept.ts'
import { createRoot } from '../../src/pki/authority.ts'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import {
  children,
  encode,
  encodeOid,
  readBits,
  readBoolean,
  readDer,
  readInteger,
  readOid,
  readTime,
  tags,
  wholeOf,
} from '../../src/pki/der.ts'
import { findPaths } from '../../src/pki/path.ts'
import { at, dates, issuing, leaf, root } from './family.ts'

const rsa = createPrivateKey(readFileSync(new URL('../fixtures/pki/rsa-2048-a.key.pem', import.meta.url), 'utf8'))
const sha256WithRsa = encode(tags.sequence, encodeOid('1.2.840.113549.1.1.11'), encode(tags.null))
const sha1WithRsa = encode(tags.sequence, encodeOid('1.2.840.113549.1.1.5'), encode(tags.null))

/** The certificate with other fields, signed anew with an RSA key. */
function rebuilt(
  certificate: Certificate,
  key: KeyObject,
  change: (fields: Buffer[]) => Buffer[],
  hash: 'sha256' | 'sha1' = 'sha256',
  outer: Buffer = hash === 'sha1' ? sha1WithRsa : sha256WithRsa,
): Certificate {
  const fields = children(children(readDer(certificate.der))[0]!).map(wholeOf)
  fields[2] = hash === 'sha1' ? sha1WithRsa : sha256WithRsa
  const tbs = encode(tags.sequence, ...change(fields))
  const signature = encode(tags.bitString, Buffer.from([0]), sign(hash, tbs, key))
  return readCertificate(encode(tags.sequence, tbs, outer, signature))
}

async function rsaFamily() {
  const top = { key: rsa, certificate: await createRoot({ ...dates, subject: 'CN=RSA root', key: rsa, serial: '01' }) }
  return { top, end: await leaf(top) }
}

function reason(end: Certificate, anchors: readonly Certificate[], between: readonly Certificate[] = []) {
  return findPaths(end, between, anchors, { at, purpose: 'server' }).failure?.reason ?? 'valid'
}

describe('certificates of other times', () => {
  it('an honest rebuild stays valid: what the next tests refuse is what they changed', async () => {
    const { top, end } = await rsaFamily()
    expect(
      reason(
        rebuilt(end, rsa, fields => fields),
        [top.certificate],
      ),
    ).toBe('valid')
  })

  it('refuses a SHA-1 signature, but asks none of an anchor (F30)', async () => {
    const { top, end } = await rsaFamily()
    expect(
      reason(
        rebuilt(end, rsa, fields => fields, 'sha1'),
        [top.certificate],
      ),
    ).toBe('weak-signature')
    const old = rebuilt(top.certificate, rsa, fields => fields, 'sha1')
    expect(reason(end, [old])).toBe('valid')
    expect(weaknesses(old, at)).toMatchObject([{ reason: 'weak-signature', refused: true }])
  })

  it('refuses a root of version 1', async () => {
    const { top, end } = await rsaFamily()
    const first = rebuilt(top.certificate, rsa, fields => fields.slice(1, 7))
    expect(first.parts.version).toBe(1)
    expect(reason(end, [first])).toBe('version')
  })

  it('refuses two signature algorithms that differ, and extensions in version 1', async () => {
    const { top, end } = await rsaFamily()
    expect(
      reason(
        rebuilt(end, rsa, fields => fields, 'sha256', sha1WithRsa),
        [top.certificate],
      ),
    ).toBe('malformed')
    expect(
      reason(
        rebuilt(end, rsa, fields => fields.slice(1)),
        [top.certificate],
      ),
    ).toBe('malformed')
  })

  it('exempts self-issued CAs from name constraints, but not a self-issued leaf (RFC 5280 §6.1.3)', async () => {
    const top = await root('CN=Root', { nameConstraints: { permitted: { dns: ['good.svc'] } } })
    const same = await issuing('CN=Root', top, { dns: ['bad.svc'], pathLength: null })
    const other = await issuing('CN=Other', top, { dns: ['bad.svc'] })
    expect(reason(await leaf(same, { dns: ['good.svc'] }), [top.certificate], [same.certificate])).toBe('valid')
    expect(reason(await leaf(other, { dns: ['good.svc'] }), [top.certificate], [other.certificate])).toBe(
      'name-constraints',
    )
    expect(reason(await leaf(top, { subject: 'CN=Root', dns: ['bad.svc'] }), [top.certificate])).toBe(
      'name-constraints',
    )
  })

  it('matches no wildcard of a whole top-level domain', async () => {
    const top = await root('CN=Root')
    const end = await leaf(top, { dns: ['*.svc'] })
    const result = findPaths(end, [], [top.certificate], {
      at,
      purpose: 'server',
      name: { kind: 'DNS', value: 'cart.svc' },
    })
    expect(result.failure?.reason).toBe('wrong-name')
  })
})

describe('readCertificate', () => {
  it('takes PEM text, the bytes of PEM text, and DER', async () => {
    const { certificate } = await root('CN=Root')
    for (const input of [
      certificate.pem,
      Buffer.from(certificate.pem),
      certificate.der,
      new Uint8Array(certificate.der),
    ]) {
      expect(readCertificate(input).sha256).toBe(certificate.sha256)
    }
  })

  it('says where what it refuses stands', async () => {
    const { certificate } = await root('CN=Root')
    const bad = [
      ['', /root.pem: no certificate in it/],
      [certificate.pem + certificate.pem, /root.pem: more than one PEM block/],
      [Buffer.alloc(3), /root.pem: a certificate that cannot be read/],
      [Buffer.concat([certificate.der, Buffer.from([0])]), /bytes follow/],
      [
        '-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n',
        /root.pem:1: a PEM block that is no certificate/,
      ],
    ] as const
    for (const [input, message] of bad) {
      expect(() => readCertificate(input, { file: 'root.pem' })).toThrow(message)
      expect(() => readCertificate(input, { file: 'root.pem' })).toThrow(ReanchorError)
    }
  })

  it('shows no control character of a hostile name', async () => {
    const { certificate } = await root('CN=a\\0d\\1b[2Jb\\e2\\80\\aetxt')
    expect(certificate.subject).toBe('CN=a\\0d\\1b[2Jb\\e2\\80\\aetxt')
  })
})

describe('the DER reader', () => {
  it('refuses every second way to write a thing', () => {
    const bad = {
      '30': /cut off/,
      '3003020101ff': /follow/,
      '30800000': /indefinite/,
      '308103020101': /shortest form/,
      '30820003020101': /shortest form/,
      '3003020200': /cut off/,
      '1f8101': /tag number/,
    }
    for (const [hex, message] of Object.entries(bad)) {
      expect(() => children(readDer(Buffer.from(hex, 'hex'))), hex).toThrow(message)
    }
    for (const hex of ['02020001', '0202ff80', '0200'])
      expect(() => readInteger(readDer(Buffer.from(hex, 'hex'))), hex).toThrow(/integer/)
    for (const hex of ['0600', '060180', '06038001', '0603558001'])
      expect(() => readOid(readDer(Buffer.from(hex, 'hex'))), hex).toThrow()
    for (const hex of ['0300', '03020901', '0302070f', '030107'])
      expect(() => readBits(readDer(Buffer.from(hex, 'hex'))), hex).toThrow(/bit/)
    for (const hex of ['0100', '010101'])
      expect(() => readBoolean(readDer(Buffer.from(hex, 'hex'))), hex).toThrow(/boolean/)
  })

  it('reads back the lengths and object identifiers that it writes', () => {
    fc.assert(
      fc.property(fc.nat(70_000), length => {
        const element = readDer(encode(tags.octetString, Buffer.alloc(length)))
        expect(element.end - element.content).toBe(length)
      }),
      { numRuns: 60 },
    )
    fc.assert(
      fc.property(
        fc.constantFrom(0, 1, 2),
        fc.nat(39),
        fc.array(fc.bigInt({ min: 0n, max: 2n ** 70n }), { maxLength: 6 }),
        (top, second, rest) => {
          const oid = [top, second, ...rest].join('.')
          expect(readOid(readDer(encodeOid(oid)))).toBe(oid)
        },
      ),
    )
  })

  it('reads both kinds of time and no others', () => {
    const time = (tag: number, text: string) => readTime(readDer(encode(tag, Buffer.from(text)))).toISOString()
    expect(time(tags.utcTime, '491231235959Z')).toBe('2049-12-31T23:59:59.000Z')
    expect(time(tags.utcTime, '500101000000Z')).toBe('1950-01-01T00:00:00.000Z')
    expect(time(tags.generalizedTime, '99991231235959Z')).toBe('9999-12-31T23:59:59.000Z')
    for (const text of ['260230000000Z', '2601010000Z', '260101000000+0100', '261301000000Z'])
      expect(() => time(tags.utcTime, text)).toThrow()
  })
})
