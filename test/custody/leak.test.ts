import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assertNoPrivateKey, findPrivateKeys } from '../../src/custody/leak.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { ecPair, rsaPair, selfSigned } from './certificate.ts'
import { ageKey, cacerts, destination, now } from './secrets.ts'

const rsa = rsaPair()
const p256 = ecPair('P-256')
const p384 = ecPair('P-384')
const ed25519 = generateKeyPairSync('ed25519')

function ders(key: KeyObject): Record<string, Buffer> {
  const forms: Record<string, Buffer> = { 'PKCS#8': key.export({ format: 'der', type: 'pkcs8' }) }
  if (key.asymmetricKeyType === 'rsa') forms['PKCS#1'] = key.export({ format: 'der', type: 'pkcs1' })
  if (key.asymmetricKeyType === 'ec') forms.SEC1 = key.export({ format: 'der', type: 'sec1' })
  forms['encrypted PKCS#8'] = key.export({ format: 'der', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'x' })
  return forms
}

const planted = Object.entries({ RSA: rsa, 'P-256': p256, 'P-384': p384, Ed25519: ed25519 }).flatMap(([name, pair]) =>
  Object.entries(ders(pair.privateKey)).map(([form, der]) => ({ name: `${name} ${form}`, der })),
)

const wrapped = (text: string, width: number, indent = '') =>
  (text.match(new RegExp(`.{1,${width}}`, 'g')) ?? []).map(line => indent + line).join('\n')
const label = (form: string) =>
  form.startsWith('encrypted')
    ? 'ENCRYPTED PRIVATE KEY'
    : form === 'PKCS#1'
      ? 'RSA PRIVATE KEY'
      : form === 'SEC1'
        ? 'EC PRIVATE KEY'
        : 'PRIVATE KEY'
const pemOf = (der: Buffer, name: string) =>
  `-----BEGIN ${label(name.slice(name.indexOf(' ') + 1))}-----\n${wrapped(der.toString('base64'), 64)}\n-----END ${label(name.slice(name.indexOf(' ') + 1))}-----\n`

const encodings: Readonly<Record<string, (der: Buffer, name: string) => string | Buffer>> = {
  'raw DER': der => der,
  PEM: pemOf,
  'PEM with CRLF': (der, name) => pemOf(der, name).replaceAll('\n', '\r\n'),
  'PEM in JSON': (der, name) => JSON.stringify({ key: pemOf(der, name) }),
  'PEM in JSON in JSON': (der, name) => JSON.stringify(JSON.stringify({ key: pemOf(der, name) })),
  'PEM in a YAML block': (der, name) => `key: |\n${pemOf(der, name).replaceAll(/^/gm, '    ')}`,
  'PEM as a diff': (der, name) => pemOf(der, name).replaceAll(/^/gm, '+'),
  'PEM in base64': (der, name) => Buffer.from(pemOf(der, name)).toString('base64'),
  'PEM in base64 in base64': (der, name) =>
    Buffer.from(Buffer.from(pemOf(der, name)).toString('base64')).toString('base64'),
  'PEM in a Secret in base64': (der, name) =>
    Buffer.from(JSON.stringify({ data: { key: Buffer.from(pemOf(der, name)).toString('base64') } })).toString('base64'),
  'PEM in wrapped base64': (der, name) => wrapped(Buffer.from(pemOf(der, name)).toString('base64'), 76, '  '),
  'base64 of DER': der => der.toString('base64'),
  'base64url of DER': der => der.toString('base64url'),
  'wrapped base64 of DER': der => wrapped(der.toString('base64'), 64),
  'quoted lines of base64 of DER': der => wrapped(der.toString('base64'), 64, '> '),
  'a list of base64 of DER': der => JSON.stringify(der.toString('base64').match(/.{1,64}/g), null, 2),
  'a diff of base64 of DER': der => wrapped(der.toString('base64'), 64, '+   '),
  'hex of DER': der => der.toString('hex'),
  'upper-case hex of DER': der => der.toString('hex').toUpperCase(),
  'hex with colons': der => wrapped((der.toString('hex').match(/../g) ?? []).join(':'), 45, '    '),
  'hex of PEM': (der, name) => Buffer.from(pemOf(der, name)).toString('hex'),
}

describe('private key material is found (F29)', () => {
  it.each(planted.flatMap(key => Object.keys(encodings).map(encoding => [key.name, encoding, key.der] as const)))(
    '%s as %s',
    (name, encoding, der) => {
      const content = encodings[encoding]?.(der, name) ?? ''
      const before = Buffer.from('some text before: ')
      expect(
        findPrivateKeys(Buffer.concat([before, Buffer.from(content as string), Buffer.from(' and after')])),
      ).not.toEqual([])
    },
  )

  it('at any offset of any text and bytes (property)', () => {
    const noise = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 60 }).map(text => Buffer.from(text)),
      fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)),
      fc.base64String({ maxLength: 60 }).map(text => Buffer.from(text)),
    )
    // Letters of base64 or hex directly in front join the run; line-wise encodings begin on a line of their own, as they do in files.
    const joinable = [
      'raw DER',
      'PEM',
      'PEM in JSON',
      'PEM in base64',
      'PEM in base64 in base64',
      'base64 of DER',
      'hex of DER',
      'hex of PEM',
    ]
    fc.assert(
      fc.property(
        noise,
        noise,
        fc.constantFrom(...planted),
        fc.constantFrom(...joinable),
        (before, after, key, encoding) => {
          const content = encodings[encoding]?.(key.der, key.name) ?? ''
          return findPrivateKeys(Buffer.concat([before, Buffer.from(content as string), after])).length > 0
        },
      ),
      { numRuns: 400 },
    )
  })

  it('in lines that begin with the letters + and / of base64', () => {
    const hidden = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), randomBytes(32)]).toString(
      'base64',
    )
    for (const start of ['+', '/', '-']) {
      // The algorithm's name ends where the second line begins, whatever letter that line is made to begin with.
      const lines = [hidden.slice(0, 20), hidden.slice(20, 28), `${start}${hidden.slice(29)}`]
      for (const prefix of ['', '  ', '> ', '# ', '+', '-', '+  ']) {
        expect(findPrivateKeys(`x: y\n${lines.map(line => prefix + line).join('\n')}\n`)).not.toEqual([])
      }
    }
  })

  it('as an age identity, a JSON Web Key or a Java key store', async () => {
    expect(findPrivateKeys(`key: ${(await ageKey()).identity}`)[0]?.kind).toBe('age identity')
    expect(findPrivateKeys(Buffer.from((await ageKey()).identity).toString('base64'))).not.toEqual([])
    expect(findPrivateKeys(JSON.stringify(p256.privateKey.export({ format: 'jwk' })))).not.toEqual([])
    const store = Buffer.concat([Buffer.from('feedfeed0000000200000001', 'hex'), randomBytes(50)])
    for (const form of [store, store.toString('base64')]) expect(findPrivateKeys(form)[0]?.kind).toBe('Java key store')
  })

  it('as a PKCS#12 store, whatever is sealed in it by which algorithm', () => {
    // As `openssl pkcs12 -export` and keytool begin one: PFX, version 3, contents of kind data (1.2.840.113549.1.7.1).
    const inner = Buffer.concat([Buffer.from('06092a864886f70d010701a082010004820100', 'hex'), randomBytes(256)])
    const content = Buffer.concat([Buffer.from('3082', 'hex'), u16(inner.length), inner])
    const body = Buffer.concat([Buffer.from('020103', 'hex'), content])
    const store = Buffer.concat([Buffer.from('3082', 'hex'), u16(body.length), body])
    const found = (form: string | Buffer) => findPrivateKeys(form).map(({ kind }) => kind)
    for (const form of [store, store.toString('base64'), `data:\n  keystore.p12: ${store.toString('base64')}\n`])
      expect(found(form)).toContain('PKCS#12 store')
    const other = Buffer.from(store)
    other[6] = 2
    expect(found(other)).not.toContain('PKCS#12 store')
  })

  it('as planted bytes that have no form of their own, plain or encoded', () => {
    const secret = randomBytes(32)
    for (const form of [
      secret,
      secret.toString('base64'),
      secret.toString('hex'),
      Buffer.from(secret.toString('base64')).toString('base64'),
    ]) {
      expect(findPrivateKeys(Buffer.concat([Buffer.from('v: '), Buffer.from(form as string)]))).toEqual([])
      expect(findPrivateKeys(Buffer.concat([Buffer.from('v: '), Buffer.from(form as string)]), [secret])).not.toEqual(
        [],
      )
    }
    expect(() => findPrivateKeys('x', [Buffer.from('short')])).toThrow(/8 bytes/)
  })

  it('and named by kind, encoding and place, never repeated', () => {
    const secret = p256.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
    const text = `message: ${Buffer.from(secret).toString('base64')}`
    const attempt = () => assertNoPrivateKey(text, 'trust/eu-1/cacerts.yaml')
    expect(attempt).toThrow(/trust\/eu-1\/cacerts\.yaml: private key material[\s\S]*base64 of PEM/)
    expect(attempt).toThrow(expect.objectContaining({ exit: 1 }))
    for (const part of [secret.slice(40, 70), text.slice(20, 60)]) expect(attempt).not.toThrow(part)
  })
})

describe('public material is not', () => {
  const later = new Date(now.getTime() + 1e11)
  const certificates = [rsa, p256, p384].map(pair => selfSigned(pair.privateKey, pair.publicKey, now, later))

  it('in certificates and public keys, in every encoding', () => {
    for (const certificate of [...certificates, certificates.join('')]) {
      for (const pair of [rsa, p256, p384, ed25519]) {
        const text = certificate + pair.publicKey.export({ format: 'pem', type: 'spki' }).toString()
        const der = Buffer.concat([
          Buffer.from(text.split('\n')[1] ?? '', 'base64'),
          pair.publicKey.export({ format: 'der', type: 'spki' }),
        ])
        for (const form of [
          text,
          JSON.stringify(text),
          Buffer.from(text).toString('base64'),
          Buffer.from(text).toString('hex'),
          der,
          der.toString('base64'),
        ]) {
          expect(findPrivateKeys(form)).toEqual([])
        }
      }
    }
  })

  it('in a sealed manifest, a recipient, or a text that speaks of keys', async () => {
    const { recipient } = await ageKey()
    const yaml = await createSopsCustody({ recipients: [recipient], now, random: randomBytes }).seal(
      cacerts({
        data: {
          'ca-key.pem': rsa.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
          'root-cert.pem': certificates.join(''),
        },
      }),
      destination,
    )
    expect(findPrivateKeys(yaml)).toEqual([])
    expect(
      findPrivateKeys(
        'a PEM that begins with -----BEGIN PRIVATE KEY----- and an identity AGE-SECRET-KEY-1… or AGE-SECRET-KEY-1...',
      ),
    ).toEqual([])
  })

  it('in random bytes and their encodings (property)', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 100, maxLength: 3000 }), bytes => {
        const buffer = Buffer.from(bytes)
        return [buffer, buffer.toString('base64'), buffer.toString('hex'), buffer.toString('latin1')].every(
          form => findPrivateKeys(form).length === 0,
        )
      }),
      { numRuns: 200 },
    )
  })
})

it('stays linear on text that is made to be slow', () => {
  const hostile = [
    '-----BEGIN PRIVATE KEY-----'.repeat(5000),
    '"kty"'.repeat(20_000),
    'a: b\n'.repeat(40_000),
    `\\${'n'.repeat(100_000)}`,
    'A'.repeat(200_000),
    '30'.repeat(100_000),
    '0'.repeat(100_000),
    `${'\\'.repeat(100_000)}x`,
    ' \n'.repeat(80_000),
    `-----BEGIN PRIVATE KEY-----${'Proc-Type: 4\n'.repeat(20_000)}`,
    '0 '.repeat(80_000),
    `ab${' '.repeat(100_000)}x`,
    `ab${' :'.repeat(100_000)}`,
    '-----BEGIN CERTIFICATE-----\n'.repeat(5000),
    `-----BEGIN CERTIFICATE-----${'A '.repeat(100_000)}`,
    `\n${'a-'.repeat(100_000)}`,
  ]
  for (const text of hostile) findPrivateKeys(text)
})

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}
