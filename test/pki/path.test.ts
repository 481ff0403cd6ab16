import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addressText } from '../../src/pki/addresses.ts'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  extendedKeyUsage,
  keyUsage,
} from '../../src/pki/authority.ts'
import { type Certificate, isSelfSigned } from '../../src/pki/certificate.ts'
import { encode } from '../../src/pki/der.ts'
import { findPaths, type PathOptions } from '../../src/pki/path.ts'
import { pathReasons } from '../../src/pki/reasons.ts'
import { validatePath } from '../../src/pki/validate.ts'
import { at, cross, dates, issuing, leaf, newKey, oddCa, root } from './family.ts'

const server: PathOptions = { at, purpose: 'server' }

function names(paths: readonly (readonly Certificate[])[]): string[] {
  return paths.map(path => path.map(certificate => certificate.subject || 'leaf').join(' < '))
}

function reasonOf(
  end: Certificate,
  between: readonly Certificate[],
  anchors: readonly Certificate[],
  options: Partial<PathOptions> = {},
) {
  const { failure } = findPaths(end, between, anchors, { ...server, ...options })
  return failure === null ? 'valid' : failure.reason
}

describe('findPaths over an overlap of two roots', () => {
  it('finds every path over cross-certificates, shortest first', async () => {
    const old = await root('CN=Old')
    const next = await root('CN=New')
    const newByOld = await cross(next, old)
    const ca = await issuing('CN=Issuing', next)
    const end = await leaf(ca)
    const between = [newByOld.certificate, ca.certificate]
    const found = findPaths(end, between, [old.certificate, next.certificate], server)
    expect(names(found.paths)).toEqual(['leaf < CN=Issuing < CN=New', 'leaf < CN=Issuing < CN=New < CN=Old'])
    expect(names(findPaths(end, between, [old.certificate], server).paths)).toEqual([
      'leaf < CN=Issuing < CN=New < CN=Old',
    ])
    expect(reasonOf(end, [ca.certificate], [old.certificate])).toBe('untrusted')
  })

  it('tells two roots of one name apart by their keys, in every order of the bundle (F8, F10)', async () => {
    const real = await root('CN=Root')
    const twin = await root('CN=Root')
    const ca = await issuing('CN=Issuing', real)
    const end = await leaf(ca)
    const pair = [real.certificate, twin.certificate]
    for (const anchors of [pair, [...pair].reverse()]) {
      const found = findPaths(end, [ca.certificate], anchors, server)
      expect(found.paths.map(path => path.at(-1)!.sha256)).toEqual([real.certificate.sha256])
    }
    expect(findPaths(end, [ca.certificate], [twin.certificate], server).failure).toMatchObject({
      reason: 'authority-key-mismatch',
      certificate: ca.certificate.sha256,
    })
  })

  it('sees through a twin that copies name and key identifier (F10)', async () => {
    const real = await root('CN=Root')
    const ca = await issuing('CN=Issuing', real)
    const end = await leaf(ca)
    const forged = await newKey()
    const twin = await createCertificate({
      ...dates,
      serial: '77',
      subject: 'CN=Root',
      issuer: 'CN=Root',
      publicKey: forged,
      signingKey: forged,
      extensions: [
        basicConstraints(null),
        keyUsage(['keyCertSign']),
        { oid: '2.5.29.14', critical: false, value: encode(0x04, Buffer.from(real.certificate.ski!, 'hex')) },
      ],
    })
    expect(findPaths(end, [ca.certificate], [twin], server).failure).toMatchObject({
      reason: 'bad-signature',
      certificate: ca.certificate.sha256,
    })
  })

  it('accepts a root renewed with the same key, and refuses one whose key identifier changed (F7)', async () => {
    const old = await root('CN=Root')
    const end = await leaf(old)
    const renewed = await root('CN=Root', { key: old.key, notAfter: new Date('2046-01-01T00:00:00Z') })
    expect(reasonOf(end, [], [renewed.certificate])).toBe('valid')
    const changed = await createCertificate({
      ...dates,
      serial: '78',
      subject: 'CN=Root',
      issuer: 'CN=Root',
      publicKey: old.key,
      signingKey: old.key,
      extensions: [
        basicConstraints(null),
        keyUsage(['keyCertSign']),
        { oid: '2.5.29.14', critical: false, value: encode(0x04, Buffer.from('abcd', 'hex')) },
      ],
    })
    expect(reasonOf(end, [], [changed])).toBe('authority-key-mismatch')
  })

  it('trusts an issuing CA that stands in the bundle itself, and a leaf that does', async () => {
    const top = await root('CN=Root')
    const ca = await issuing('CN=Issuing', top)
    const end = await leaf(ca)
    expect(names(findPaths(end, [top.certificate], [ca.certificate], server).paths)).toEqual(['leaf < CN=Issuing'])
    expect(names(findPaths(end, [], [end], server).paths)).toEqual(['leaf'])
  })
})

describe('what makes findPaths refuse', () => {
  it('names the certificate that is out of its dates, whichever it is (F15, F28)', async () => {
    const end = new Date('2026-05-01T00:00:00Z')
    const top = await root('CN=Root')
    const ca = await issuing('CN=Issuing', top, { notAfter: end })
    const late = await leaf(ca)
    expect(findPaths(late, [ca.certificate], [top.certificate], server).failure).toMatchObject({
      reason: 'expired',
      certificate: ca.certificate.sha256,
    })
    expect(reasonOf(late, [ca.certificate], [top.certificate], { at: end })).toBe('valid')
    expect(reasonOf(late, [ca.certificate], [top.certificate], { at: new Date(end.getTime() + 999) })).toBe('valid')
    expect(reasonOf(late, [ca.certificate], [top.certificate], { at: new Date(end.getTime() + 1000) })).toBe('expired')
    expect(reasonOf(late, [ca.certificate], [top.certificate], { at: new Date(dates.notBefore.getTime() - 1) })).toBe(
      'not-yet-valid',
    )
    const dead = await oddCa('CN=Dead root', null, same => same, { notAfter: end })
    expect(findPaths(await leaf(dead), [], [dead.certificate], server).failure).toMatchObject({
      reason: 'expired',
      certificate: dead.certificate.sha256,
    })
  })

  it('counts path lengths without self-issued certificates', async () => {
    const top = await root('CN=Root', { pathLength: 1 })
    const one = await issuing('CN=One', top, { pathLength: 0 })
    const two = await issuing('CN=Two', one)
    expect(reasonOf(await leaf(one), [one.certificate], [top.certificate])).toBe('valid')
    const failure = findPaths(await leaf(two), [one.certificate, two.certificate], [top.certificate], server).failure
    expect(failure).toMatchObject({ reason: 'path-length', certificate: one.certificate.sha256 })
    const again = await issuing('CN=One', one)
    expect(reasonOf(await leaf(again), [one.certificate, again.certificate], [top.certificate])).toBe('valid')
  })

  it('refuses CAs that are none, may not sign, or hold what cannot be understood', async () => {
    const top = await root('CN=Root')
    const cases = [
      ['not-a-ca', () => basicConstraints(false), '2.5.29.19'],
      ['key-usage', () => keyUsage(['digitalSignature']), '2.5.29.15'],
      ['malformed', () => ({ oid: '2.5.29.14', critical: false, value: Buffer.from('nonsense') }), '2.5.29.14'],
      ['authority-key-mismatch', () => authorityKey('00'.repeat(20)), '2.5.29.35'],
    ] as const
    for (const [reason, make, oid] of cases) {
      const ca = await oddCa('CN=Odd', top, extensions =>
        extensions.map(extension => (extension.oid === oid ? make() : extension)),
      )
      expect(findPaths(await leaf(ca), [ca.certificate], [top.certificate], server).failure).toMatchObject({
        reason,
        certificate: ca.certificate.sha256,
      })
    }
    for (const odd of [
      { oid: '1.3.6.1.4.1.55738.666.1', critical: true, value: Buffer.alloc(0), reason: 'unknown-critical-extension' },
      { oid: '1.3.6.1.4.1.55738.666.1', critical: false, value: Buffer.alloc(0), reason: 'valid' },
    ]) {
      const ca = await oddCa('CN=Odd', top, extensions => [...extensions, odd])
      expect(reasonOf(await leaf(ca), [ca.certificate], [top.certificate])).toBe(odd.reason)
    }
    const twice = await oddCa('CN=Odd', top, extensions => [...extensions, basicConstraints(null)])
    expect(reasonOf(await leaf(twice), [twice.certificate], [top.certificate])).toBe('malformed')
  })

  it('lets an intermediate without key identifiers pass as deployed, and refuses it as strict', async () => {
    const top = await root('CN=Root')
    const ca = await oddCa('CN=Makefile', top, extensions => extensions.filter(({ oid }) => oid !== '2.5.29.35'))
    const end = await leaf(ca)
    expect(reasonOf(end, [ca.certificate], [top.certificate])).toBe('valid')
    expect(reasonOf(end, [ca.certificate], [top.certificate], { profile: 'strict' })).toBe('profile')
  })

  it('chains extended key usages from the root to the leaf', async () => {
    const top = await root('CN=Root')
    const serverOnly = await oddCa('CN=Servers', top, extensions => [...extensions, extendedKeyUsage(['server'])])
    const end = await leaf(serverOnly)
    expect(reasonOf(end, [serverOnly.certificate], [top.certificate])).toBe('valid')
    expect(reasonOf(end, [serverOnly.certificate], [top.certificate], { purpose: 'client' })).toBe('wrong-purpose')
    expect(reasonOf(await leaf(top, { purposes: ['client'] }), [], [top.certificate])).toBe('wrong-purpose')
  })

  it('holds names to every constraint above them', async () => {
    const table: [
      parts: Parameters<typeof leaf>[1],
      limits: NonNullable<Parameters<typeof root>[1]>['nameConstraints'],
      valid: boolean,
    ][] = [
      [{ dns: ['a.shop.svc'] }, { permitted: { dns: ['shop.svc'] } }, true],
      [{ dns: ['shop.svc'] }, { permitted: { dns: ['shop.svc'] } }, true],
      [{ dns: ['notshop.svc'] }, { permitted: { dns: ['shop.svc'] } }, false],
      [{ dns: ['*.shop.svc'] }, { permitted: { dns: ['shop.svc'] } }, true],
      [{ dns: ['*.shop.svc'] }, { permitted: { dns: ['cart.shop.svc'] } }, false],
      [{ dns: ['*.shop.svc'] }, { excluded: { dns: ['cart.shop.svc'] } }, false],
      [{ dns: ['*.shop.svc'] }, { excluded: { dns: ['a.cart.shop.svc'] } }, true],
      [{ dns: ['a.svc'] }, { excluded: { dns: [''] } }, false],
      [{ uris: ['spiffe://cluster.local/ns/a/sa/b'] }, { permitted: { uriHosts: ['cluster.local'] } }, true],
      [{ uris: ['spiffe://other.local/ns/a/sa/b'] }, { permitted: { uriHosts: ['cluster.local'] } }, false],
      [{ uris: ['spiffe://a.cluster.local/x'] }, { permitted: { uriHosts: ['.cluster.local'] } }, true],
      [{ uris: ['urn:uuid:1'] }, { permitted: { uriHosts: ['cluster.local'] } }, false],
      [{ ips: ['10.1.2.3'] }, { permitted: { ips: ['10.0.0.0/8'] } }, true],
      [{ ips: ['11.1.2.3'] }, { permitted: { ips: ['10.0.0.0/8'] } }, false],
      [{ ips: ['fd00::1'] }, { excluded: { ips: ['fd00::/8'] } }, false],
      [{ ips: ['fd00::1'] }, { permitted: { dns: ['shop.svc'] } }, true],
      [{ subject: 'CN=cart,O=Shop', dns: ['a.svc'] }, { permitted: { directories: ['O=shop'] } }, true],
      [{ subject: 'CN=cart,O=Other', dns: ['a.svc'] }, { permitted: { directories: ['O=shop'] } }, false],
      [{ subject: 'emailAddress=a@b.example', uris: ['urn:x:y'] }, { permitted: { emails: ['c.example'] } }, false],
      [{ subject: 'emailAddress=a@b.example', uris: ['urn:x:y'] }, { permitted: { emails: ['b.example'] } }, true],
      [{ subject: 'emailAddress=a@b.example', uris: ['urn:x:y'] }, { permitted: { emails: ['A@b.example'] } }, false],
    ]
    for (const [parts, limits, valid] of table) {
      const top = await root('CN=Root', limits === undefined ? {} : { nameConstraints: limits })
      const end = await leaf(top, parts)
      expect(reasonOf(end, [], [top.certificate]), JSON.stringify([parts, limits])).toBe(
        valid ? 'valid' : 'name-constraints',
      )
    }
  })

  it('takes the name from the subjectAltName alone', async () => {
    const top = await root('CN=Root')
    const end = await leaf(top, {
      subject: 'CN=cn.example',
      dns: ['*.shop.svc', 'API.example'],
      ips: ['10.0.0.1', '::1'],
      uris: ['spiffe://a/b'],
    })
    const table: [kind: 'DNS' | 'IP' | 'URI', value: string, valid: boolean][] = [
      ['DNS', 'cart.shop.svc', true],
      ['DNS', 'CART.shop.svc.', true],
      ['DNS', 'a.cart.shop.svc', false],
      ['DNS', 'shop.svc', false],
      ['DNS', 'api.example', true],
      ['DNS', 'cn.example', false],
      ['DNS', '10.0.0.1', false],
      ['IP', '10.0.0.1', true],
      ['IP', '0:0:0:0:0:0:0:1', true],
      ['IP', '10.0.0.2', false],
      ['IP', 'cart.shop.svc', false],
      ['URI', 'spiffe://a/b', true],
      ['URI', 'spiffe://a/B', false],
    ]
    for (const [kind, value, valid] of table) {
      expect(reasonOf(end, [], [top.certificate], { name: { kind, value } }), value).toBe(
        valid ? 'valid' : 'wrong-name',
      )
    }
    expect(addressText(Buffer.from([10, 0, 0, 1]))).toBe('10.0.0.1')
  })
})

describe('findPaths on hostile input', () => {
  it('ends where CAs sign each other in a ring without a root', async () => {
    const a = await root('CN=A')
    const b = await root('CN=B')
    const unrelated = await root('CN=A')
    const ring = [await cross(a, b), await cross(b, a)]
    const end = await leaf(a)
    const found = findPaths(
      end,
      ring.map(({ certificate }) => certificate),
      [unrelated.certificate],
      server,
    )
    expect(found.paths).toEqual([])
    expect(found.exhausted).toBe(false)
    expect(found.work.signatures).toBeLessThan(10)
  })

  it('stays within its limits where everybody has signed for everybody, and says so', async () => {
    const authorities = await Promise.all(Array.from({ length: 7 }, (_, index) => root(`CN=CA ${index}`)))
    const crosses: Certificate[] = []
    for (const of of authorities)
      for (const by of authorities) if (of !== by) crosses.push((await cross(of, by)).certificate)
    const dead = await oddCa('CN=Dead', null, same => same, { notAfter: new Date('2026-02-01T00:00:00Z') })
    const up = await cross(authorities[0]!, dead, { notAfter: new Date('2026-02-01T00:00:00Z') })
    const end = await leaf(authorities[3]!)
    const few = findPaths(end, [...crosses, up.certificate], [dead.certificate], { ...server, maxWork: 20 })
    expect(few.failure?.reason).toBe('work-limit')
    expect(few.work.signatures).toBeLessThanOrEqual(20)
    const many = findPaths(end, [...crosses, up.certificate], [dead.certificate], server)
    expect(many.work.signatures).toBeLessThanOrEqual(512)
    expect(many.work.steps).toBeLessThanOrEqual(512 * 32 + 1)
    const trusted = findPaths(
      end,
      crosses,
      authorities.map(({ certificate }) => certificate),
      server,
    )
    expect(trusted.paths[0]?.map(({ subject }) => subject)).toEqual(['', 'CN=CA 3'])
  })

  it('depends on no order, and every path that it gives is signed from end to end', async () => {
    const old = await root('CN=Old')
    const next = await root('CN=New')
    const twin = await root('CN=New')
    const ca = await issuing('CN=Issuing', next)
    const pool = [
      (await cross(next, old)).certificate,
      (await cross(old, next)).certificate,
      (await cross(twin, old)).certificate,
      ca.certificate,
      (await cross(ca, old, { pathLength: 0 })).certificate,
      (await issuing('CN=Issuing', twin)).certificate,
      old.certificate,
      next.certificate,
      twin.certificate,
    ]
    const ends = [await leaf(ca), await leaf(old), await leaf(twin, { purposes: ['client'] })]
    fc.assert(
      fc.property(
        fc.constantFrom(...ends),
        fc.shuffledSubarray(pool),
        fc.shuffledSubarray(pool, { minLength: 1, maxLength: 3 }),
        fc.infiniteStream(fc.nat(100)),
        (end, between, anchors, dice) => {
          const shuffle = <T>(list: readonly T[]) =>
            list
              .map(item => [dice.next().value as number, item] as const)
              .sort((x, y) => x[0] - y[0])
              .map(([, item]) => item)
          const found = findPaths(end, between, anchors, server)
          const again = findPaths(end, [...shuffle(between), ...between], shuffle(anchors), server)
          expect(names(again.paths)).toEqual(names(found.paths))
          expect(again.failure).toEqual(found.failure)
          const strict = findPaths(end, between, anchors, { ...server, profile: 'strict' })
          expect(names(found.paths)).toEqual(expect.arrayContaining(names(strict.paths)))
          expect(found.failure === null).toBe(found.paths.length > 0)
          for (const path of found.paths) {
            expect(anchors).toContain(path.at(-1))
            expect(new Set(path.map(({ sha256 }) => sha256)).size).toBe(path.length)
            for (const [index, certificate] of path.slice(0, -1).entries()) {
              expect(certificate.x509.verify(path[index + 1]!.x509.publicKey)).toBe(true)
            }
          }
        },
      ),
      { numRuns: 150 },
    )
    expect(isSelfSigned(old.certificate)).toBe(true)
  })
})

describe('validatePath', () => {
  it('answers with fingerprints, leaf to anchor, and with a reason otherwise', async () => {
    const top = await root('CN=Root')
    const ca = await issuing('CN=Issuing', top)
    const uri = 'spiffe://cluster.local/ns/shop/sa/cart'
    const end = await leaf(ca, { uris: [uri] })
    const input = {
      leaf: end.pem,
      intermediates: [ca.certificate.pem],
      anchors: [top.certificate.pem],
      at: '2026-06-01T00:00:00Z',
      purpose: 'client',
    } as const
    expect(validatePath({ ...input, name: { kind: 'URI', value: uri } })).toEqual({
      ok: true,
      path: [end.sha256, ca.certificate.sha256, top.certificate.sha256],
    })
    expect(validatePath({ ...input, at: '2036-06-01T02:00:00+02:00' })).toMatchObject({
      ok: false,
      reason: 'expired',
      certificate: end.sha256,
    })
    expect(validatePath({ ...input, intermediates: [] })).toMatchObject({
      ok: false,
      reason: 'untrusted',
      certificate: end.sha256,
    })
    expect(JSON.parse(JSON.stringify(validatePath(input)))).toEqual(validatePath(input))
  })

  it('never throws: what is malformed is a reason', async () => {
    const top = await root('CN=Root')
    const end = await leaf(top)
    const input = {
      leaf: end.pem,
      intermediates: [],
      anchors: [top.certificate.pem],
      at: '2026-06-01T00:00:00Z',
      purpose: 'server',
    } as const
    const broken = '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n'
    expect(validatePath({ ...input, leaf: broken })).toMatchObject({
      reason: 'malformed',
      certificate: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect(validatePath({ ...input, anchors: [broken] })).toMatchObject({ reason: 'malformed' })
    expect(validatePath({ ...input, anchors: ['?'] })).toMatchObject({ reason: 'malformed', certificate: null })
    expect(validatePath({ ...input, intermediates: [broken] })).toMatchObject({ ok: true })
    expect(validatePath({ ...input, at: 'yesterday' })).toMatchObject({ reason: 'input' })
    expect(validatePath({ ...input, leaf: end.pem + end.pem })).toMatchObject({ reason: 'input' })
    expect(validatePath({ ...input, anchors: [] })).toMatchObject({ reason: 'untrusted' })
    expect(validatePath(JSON.parse('{}'))).toMatchObject({ reason: 'input' })
    fc.assert(
      fc.property(
        fc.nat(end.der.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        (index, change, which) => {
          const der = Buffer.from(which ? end.der : top.certificate.der)
          der[index] = der[index]! ^ change
          const pem = `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`
          const result = validatePath(which ? { ...input, leaf: pem } : { ...input, anchors: [pem] })
          // A changed signature of the anchor is the one change that no verifier looks at.
          if (which) expect(result.ok).toBe(false)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('gives only reasons that docs/path-reasons.md explains, and the page explains no others', () => {
    const page = readFileSync(new URL('../../docs/path-reasons.md', import.meta.url), 'utf8')
    const explained = [...page.matchAll(/^\| `([a-z-]+)` \|/gm)].map(match => match[1])
    expect(explained).toEqual([...pathReasons])
  })
})
