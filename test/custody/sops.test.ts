import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSopsCustody, decryptSopsSecret, type SopsCustodyOptions } from '../../src/custody/sops.ts'
import { readSealedSecret } from '../../src/custody/sops-document.ts'
import { ecPair } from './certificate.ts'
import { ageKey, cacerts, destination, now, seededRandom, wrapWith } from './secrets.ts'

const eu = await ageKey()
const us = await ageKey()

function custody(parts: Partial<SopsCustodyOptions> = {}) {
  return createSopsCustody({ recipients: [eu.recipient], now, random: randomBytes, ...parts })
}

const sopsBlock = (yaml: string) => yaml.slice(yaml.indexOf('\nsops:'))
const sealedKey = (yaml: string) => readSealedSecret(yaml).sealed['ca-key.pem'] ?? ''
const withKey = (key: string, root = 'old\n') =>
  cacerts({ data: { ...cacerts().data, 'ca-key.pem': key, 'root-cert.pem': root } })

async function keyIn(yaml: string, identity: string): Promise<string> {
  const manifest = await decryptSopsSecret(yaml, identity)
  return Buffer.from(manifest.data['ca-key.pem'] ?? '', 'base64').toString()
}

describe('a Secret sealed by SOPS', () => {
  it('seals only the private keys and ends with a newline', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const read = readSealedSecret(yaml)
    expect(read.data).toEqual({
      'ca-cert.pem': 'the certificate\n',
      'cert-chain.pem': 'the chain\n',
      'root-cert.pem': 'old\n',
    })
    expect(Object.keys(read.sealed)).toEqual(['ca-key.pem'])
    expect(read.recipients).toEqual([eu.recipient])
    expect(yaml).toMatch(/\n {2}encrypted_regex: \^\(ca-key\\\.pem\)\$\n/)
    expect(yaml).toMatch(/\n {2}mac_only_encrypted: true\n/)
    expect(yaml).toMatch(/\n {2}lastmodified: "2026-03-01T12:00:00Z"\n/)
    expect(yaml.endsWith('"\n')).toBe(true)
    expect(yaml).not.toContain('stringData')
  })

  it('keeps the whole sops block when only public values change, and when an earlier key comes back', async () => {
    const sealing = custody()
    const before = await sealing.seal(withKey('old'), destination)
    const roots = await sealing.seal(withKey('old', 'old\nnew\n'), destination)
    const next = await sealing.seal(withKey('new', 'old\nnew\n'), destination)
    const back = await sealing.seal(withKey('old'), destination)
    expect(sopsBlock(roots)).toBe(sopsBlock(before))
    expect(sealedKey(roots)).toBe(sealedKey(before))
    expect(sopsBlock(next)).not.toBe(sopsBlock(before))
    expect(back).toBe(before)
  })

  it('gives each destination a data key of its own, so that one site cannot open what is sealed for another', async () => {
    const sealing = custody({ recipients: path => (path.includes('eu-1') ? [eu.recipient] : [us.recipient]) })
    const here = await sealing.seal(cacerts(), destination)
    const there = await sealing.seal(cacerts(), 'trust/us-1/cacerts.yaml')
    await expect(decryptSopsSecret(here, us.identity)).rejects.toThrow(/does not open/)
    await expect(decryptSopsSecret(there, us.identity)).resolves.toBeDefined()
    expect(sealedKey(here)).not.toBe(sealedKey(there))
  })

  it('is the same file, byte for byte, from the same randomness', async () => {
    const run = async () => {
      const random = seededRandom('plan')
      const sealing = custody({ random, wrapDataKey: wrapWith(random) })
      // Asked for at once, as a caller may: the order of the calls decides, not that of the answers.
      return await Promise.all([sealing.seal(withKey('a'), destination), sealing.seal(withKey('b'), destination)])
    }
    const [first, second] = [await run(), await run()]
    expect(second).toEqual(first)
    expect(await keyIn(first[1] ?? '', eu.identity)).toBe('b')
  })

  it('opens to what was sealed, and equal values keep their ciphertext, whatever keys and values are (property)', async () => {
    const key = fc.oneof(
      fc.stringMatching(/^[-._a-zA-Z0-9]{1,30}$/),
      fc.constantFrom('012', '10', '9', '__proto__', 'yes', '1e3', '.', 'n'),
    )
    const value = fc.oneof(
      fc.string({ minLength: 1, unit: 'binary' }),
      fc.constantFrom('\ttab', '0o17', 'yes', ' \n', '\u0085', 'ü'),
    )
    const data = fc.uniqueArray(fc.tuple(key, value), { minLength: 1, maxLength: 6, selector: ([name]) => name })
    const random = seededRandom('property')
    const reserved = new Set([
      'apiVersion',
      'kind',
      'metadata',
      'name',
      'namespace',
      'labels',
      'annotations',
      'type',
      'data',
      'sops',
    ])
    await fc.assert(
      fc.asyncProperty(
        data,
        fc.nat(),
        fc.dictionary(fc.string({ minLength: 1 }), fc.oneof(fc.string(), fc.constantFrom('E0', 'e12', 'E123'))),
        async (entries, pick, annotations) => {
          const privateKeys = entries
            .map(([name]) => name)
            .filter((_, index) => index === 0 || ((pick >> index) & 1) === 1)
          fc.pre(privateKeys.every(name => !reserved.has(name) && !Object.hasOwn(annotations, name)))
          // A value that also stands in a name or in another value is refused: it would be read there.
          const shown = JSON.stringify([
            Object.keys(Object.fromEntries(entries)),
            annotations,
            entries.filter(([name]) => !privateKeys.includes(name)),
          ])
          fc.pre(
            entries.every(([name, text]) => !privateKeys.includes(name) || text.length < 8 || !shown.includes(text)),
          )
          const secret = cacerts({ labels: {}, annotations, data: Object.fromEntries(entries), privateKeys })
          const sealing = custody({ random, wrapDataKey: wrapWith(random) })
          const yaml = await sealing.seal(secret, destination)
          const manifest = await decryptSopsSecret(yaml, eu.identity)
          expect(
            Object.entries(manifest.data)
              .map(([name, text]) => [name, Buffer.from(text, 'base64').toString()])
              .sort(),
          ).toEqual(entries.map(([name, text]) => [name, Buffer.from(text).toString()]).sort())
          expect(manifest.metadata.annotations ?? {}).toEqual(annotations)
          for (const [name, text] of Object.entries(readSealedSecret(yaml).sealed)) {
            expect(privateKeys).toContain(name)
            expect(text).toMatch(/^ENC\[/)
          }
          expect(await sealing.seal(secret, destination)).toBe(yaml)
        },
      ),
      { numRuns: 60 },
    )
  })

  it.each([
    ['a private key that is not in data', { privateKeys: ['tls.key'] }, /missing or empty/],
    ['an empty private value', { data: { 'ca-key.pem': '' } }, /missing or empty/],
    ['no private key at all', { privateKeys: [] }, /no private value/],
    [
      'a private key called like a field',
      { data: { metadata: 'x' }, privateKeys: ['metadata'] },
      /called like another field/,
    ],
    ['a private key called like a label', { labels: { 'ca-key.pem': 'x' } }, /called like another field/],
    ['a key that Kubernetes refuses', { data: { 'ca-key.pem': 'x', 'a b': 'y' } }, /no key of a Secret/],
  ])('is refused with %s', async (_, parts, message) => {
    await expect(custody().seal(cacerts(parts), destination)).rejects.toThrow(message)
  })

  it('is refused where a private key would stand in the clear (F29)', async () => {
    const key = ecPair().privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
    const data = { 'ca-key.pem': key, 'root-cert.pem': `old\n${key}` }
    await expect(custody().seal(cacerts({ data }), destination)).rejects.toThrow(/in the clear/)
    const other = { 'ca-key.pem': 'the private part', 'root-cert.pem': Buffer.from(key).toString('base64') }
    const refused = custody().seal(cacerts({ data: other }), destination)
    await expect(refused).rejects.toMatchObject({ exit: 1 })
    await expect(refused).rejects.toThrow(/private key material was about to be written/)
    const noted = custody().seal(cacerts({ annotations: { note: key } }), destination)
    await expect(noted).rejects.toMatchObject({ exit: 1 })
    const random = cacerts({ data: { canary: 'Zm9vYmFyYmF6', shown: 'Zm9vYmFyYmF6' }, privateKeys: ['canary'] })
    await expect(custody().seal(random, destination)).rejects.toThrow(/in the clear/)
  })

  it('is refused without recipients', async () => {
    await expect(custody({ recipients: [] }).seal(cacerts(), destination)).rejects.toThrow(/no age recipient/)
  })
})

describe('opening', () => {
  it('refuses every change of a private value or of the sops block (property)', async () => {
    const sealing = custody()
    const data = { a: 'first value', b: 'second value' }
    const yaml = await sealing.seal(cacerts({ data, privateKeys: ['a', 'b'] }), destination)
    const from = yaml.indexOf('\ndata:')
    const change = fc.tuple(fc.integer({ min: from, max: yaml.length - 1 }), fc.constantFrom('A', 'b', '0', 'z'))
    const intact = await decryptSopsSecret(yaml, eu.identity)
    await fc.assert(
      fc.asyncProperty(change, async ([at, letter]) => {
        const changed = yaml.slice(0, at) + letter + yaml.slice(at + 1)
        let opened: unknown
        try {
          opened = await decryptSopsSecret(changed, eu.identity)
        } catch (error) {
          expect(String(error)).toMatch(/^ReanchorError/)
          return
        }
        // The names of recipients and sops' version are outside of every check, in sops too; the latter, one space less deep, is a field of the object.
        expect(opened).toMatchObject(intact)
        expect((opened as typeof intact).data).toEqual(intact.data)
      }),
      { numRuns: 150 },
    )
  })

  it('refuses a value that was put in the place of a sealed one', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const planted = yaml.replace(sealedKey(yaml), Buffer.from('mine').toString('base64'))
    await expect(decryptSopsSecret(planted, eu.identity)).rejects.toThrow(/a value that must be sealed is not/)
  })

  it('refuses an added value under a private name, which Flux would take', async () => {
    const sealing = custody()
    const two = await sealing.seal(cacerts({ data: { a: 'x', b: 'y' }, privateKeys: ['a', 'b'] }), destination)
    const without = two
      .split('\n')
      .filter(line => !line.startsWith('  b: '))
      .join('\n')
    await expect(decryptSopsSecret(without, eu.identity)).rejects.toThrow(/MAC does not match/)
  })

  it('refuses a sealed value that the regex no longer covers', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const uncovered = yaml.replace('^(ca-key\\.pem)$', '^(other)$')
    await expect(decryptSopsSecret(uncovered, eu.identity, 'cacerts.yaml')).rejects.toThrow(
      /cacerts\.yaml: data\.ca-key\.pem: a sealed value stands where/,
    )
  })

  it.each([
    ['a plain manifest', 'apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {}\n', /not sealed by SOPS/],
    ['two documents', 'a: 1\n---\nb: 2\n', /not one well-formed YAML document/],
    ['a list', '- a\n', /not a map/],
    ['an alias', 'a: &x 1\nb: *x\n', /2:4: YAML aliases are not allowed/],
    ['a repeated key', 'a: 1\na: 2\n', /2:1: .*not one well-formed/],
  ])('refuses %s', async (_, yaml, message) => {
    await expect(decryptSopsSecret(yaml, eu.identity)).rejects.toThrow(message)
  })

  it('takes the identity from the text of a key file, and never repeats what is in it', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const file = `# created: today\n# public key: ${us.recipient}\n${us.identity}\n\n${eu.identity}\n`
    expect(await keyIn(yaml, file)).toBe('the private part\n')
    const broken = decryptSopsSecret(yaml, `${eu.identity.slice(0, -1)}\n`)
    await expect(broken).rejects.toThrow(/line of the age key file is no age identity/)
    await expect(broken).rejects.not.toThrow(new RegExp(eu.identity.slice(20, 40)))
    await expect(decryptSopsSecret(yaml, '# nothing\n')).rejects.toThrow(/holds no identity/)
  })
})

describe('sealing again what an earlier plan sealed', () => {
  const later = new Date('2026-06-01T00:00:00Z')

  it('keeps value, MAC and time without any identity', async () => {
    const sealing = custody()
    const old = await sealing.seal(withKey('old'), destination)
    const next = await sealing.seal(withKey('new'), destination)
    const keep = [old, next].map(yaml => ({ destination, yaml }))
    const again = custody({ keep, now: later })
    const rendered = await again.seal(withKey(sealedKey(next), 'other\n'), destination)
    expect(sopsBlock(rendered)).toBe(sopsBlock(next))
    expect(await keyIn(rendered, eu.identity)).toBe('new')
    expect(sopsBlock(await again.seal(withKey(sealedKey(old)), destination))).toBe(sopsBlock(old))
  })

  it('seals a new private value beside kept manifests with a data key of its own', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const again = custody({ keep: [{ destination, yaml: old }], now: later })
    const fresh = await again.seal(withKey('new'), destination)
    expect(await keyIn(fresh, eu.identity)).toBe('new')
    expect(sopsBlock(await again.seal(withKey(sealedKey(old)), destination))).toBe(sopsBlock(old))
  })

  it('reuses the data key where the identity is given: an equal plain value keeps its ciphertext, a new one joins', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const again = custody({ keep: [{ destination, yaml: old }], identity: eu.identity, now: later })
    expect(await again.seal(withKey('old'), destination)).toBe(old)
    const fresh = await again.seal(withKey('new'), destination)
    const age = (yaml: string) => yaml.slice(yaml.indexOf('\n  age:'), yaml.indexOf('encrypted_regex'))
    expect(age(fresh)).toBe(age(old))
    expect(fresh).toContain('lastmodified: "2026-06-01T00:00:00Z"')
    expect(await keyIn(fresh, eu.identity)).toBe('new')
  })

  it('seals to other recipients where the identity is given, with a new data key', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const keep = [{ destination, yaml: old }]
    const again = custody({ keep, identity: eu.identity, recipients: [us.recipient], now: later })
    const moved = await again.seal(withKey(sealedKey(old)), destination)
    expect(await keyIn(moved, us.identity)).toBe('old')
    await expect(decryptSopsSecret(moved, eu.identity)).rejects.toThrow(/does not open/)
    expect(sealedKey(moved)).not.toBe(sealedKey(old))
  })

  it('keeps what an identity does not open as it is', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const again = custody({ keep: [{ destination, yaml: old }], identity: us.identity, now: later })
    expect(sopsBlock(await again.seal(withKey(sealedKey(old)), destination))).toBe(sopsBlock(old))
  })

  it('refuses changed recipients without the identity', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const again = custody({ keep: [{ destination, yaml: old }], recipients: [us.recipient] })
    await expect(again.seal(withKey(sealedKey(old)), destination)).rejects.toThrow(/recipients have changed/)
  })

  it('refuses a sealed value of another Secret, another destination or another key', async () => {
    const old = await custody().seal(withKey('old'), destination)
    const again = custody({ keep: [{ destination, yaml: old }] })
    const value = withKey(sealedKey(old))
    await expect(again.seal({ ...value, name: 'other' }, destination)).rejects.toThrow(/not one of this Secret/)
    await expect(again.seal(value, 'trust/us-1/cacerts.yaml')).rejects.toThrow(/not one of this Secret/)
    const renamed = cacerts({ data: { 'tls.key': sealedKey(old) }, privateKeys: ['tls.key'] })
    await expect(again.seal(renamed, destination)).rejects.toThrow(/not one of this Secret/)
    await expect(custody().seal(value, destination)).rejects.toThrow(/not one of this Secret/)
  })

  it('refuses to join a kept and a new private value, or kept ones that never stood together, without the identity', async () => {
    const both = (a: string, b: string) => cacerts({ data: { a, b }, privateKeys: ['a', 'b'] })
    const sealing = custody()
    const one = await sealing.seal(both('a1', 'b1'), destination)
    const two = await sealing.seal(both('a2', 'b2'), destination)
    const keep = [one, two].map(yaml => ({ destination, yaml }))
    const [from, to] = [readSealedSecret(one).sealed, readSealedSecret(two).sealed]
    await expect(custody({ keep }).seal(both(from.a ?? '', 'new'), destination)).rejects.toThrow(
      /kept and new private values/,
    )
    await expect(custody({ keep }).seal(both(from.a ?? '', to.b ?? ''), destination)).rejects.toThrow(
      /no one manifest together/,
    )
    const opened = custody({ keep, identity: eu.identity })
    const mixed = await decryptSopsSecret(await opened.seal(both(from.a ?? '', to.b ?? ''), destination), eu.identity)
    expect(Object.values(mixed.data).map(text => Buffer.from(text, 'base64').toString())).toEqual(['a1', 'b2'])
  })

  it('refuses a kept manifest that was tampered with, where the identity can tell', async () => {
    const sealing = custody()
    const one = await sealing.seal(withKey('one'), destination)
    const two = await sealing.seal(withKey('two'), destination)
    const swapped = one.replace(sealedKey(one), sealedKey(two))
    const again = custody({
      keep: [{ destination, yaml: swapped, file: 'phases/2/cacerts.yaml' }],
      identity: eu.identity,
    })
    await expect(again.seal(withKey('one'), destination)).rejects.toThrow(
      /phases\/2\/cacerts\.yaml: sops\.mac: the MAC does not match/,
    )
  })
})
