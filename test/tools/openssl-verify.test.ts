import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import {
  authorityKey,
  basicConstraints,
  extendedKeyUsage,
  keyUsage,
  privateKeyPem,
  type RawExtension,
  readPrivateKey,
  readRequest,
} from '../../src/pki/authority.ts'
import { joinPem } from '../../src/pki/bundle.ts'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import { findPaths, type Purpose } from '../../src/pki/path.ts'
import { at, cross, issuing, leaf, oddCa, root } from '../pki/family.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-openssl-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let count = 0
function file(text: string): string {
  count += 1
  const path = join(folder, `${count}.pem`)
  writeFileSync(path, text)
  return path
}

interface Case {
  readonly leaf: Certificate
  readonly between: readonly Certificate[]
  readonly anchors: readonly Certificate[]
  readonly purpose?: Purpose
  readonly when?: Date
}

/** What `openssl verify` says; Envoy sets partial_chain too, and security level 2 is what 112 bits mean. */
function openssl({ leaf: end, between, anchors, purpose = 'server', when = at }: Case): string {
  const flags = [
    '-partial_chain',
    '-no-CAfile',
    '-no-CApath',
    '-no-CAstore',
    '-auth_level',
    '2',
    '-attime',
    String(when.getTime() / 1000),
  ]
  const untrusted = between.length === 0 ? [] : ['-untrusted', file(joinPem(...between.map(({ pem }) => pem)))]
  const trusted = ['-trusted', file(joinPem(...anchors.map(({ pem }) => pem)))]
  try {
    execFileSync(
      'openssl',
      ['verify', ...flags, '-purpose', `ssl${purpose}`, ...untrusted, ...trusted, file(end.pem)],
      { stdio: 'pipe' },
    )
    return 'valid'
  } catch (error) {
    const text = String((error as { stderr?: Buffer }).stderr)
    if (!text.includes('verification failed')) throw error
    return /error \d+ at \d+ depth lookup: (.*)/.exec(text)?.[1] ?? text
  }
}

function ours({ leaf: end, between, anchors, purpose = 'server', when = at }: Case): string {
  const { failure } = findPaths(end, between, anchors, { at: when, purpose })
  return failure === null ? 'valid' : failure.reason
}

const replaced = (extension: RawExtension) => (all: RawExtension[]) =>
  all.map(one => (one.oid === extension.oid ? extension : one))
const added = (extension: RawExtension) => (all: RawExtension[]) => [...all, extension]
const without = (oid: string) => (all: RawExtension[]) => all.filter(one => one.oid !== oid)
const expired = { notAfter: new Date('2026-05-01T00:00:00Z') }

/** Sentence → what both must say of it. */
const table: Readonly<Record<string, readonly [reason: string, make: () => Promise<Case>]>> = {
  'a leaf under a root': ['valid', () => below(null)],
  'an issuing CA between': ['valid', () => below(added({ oid: '1.2.3.4', critical: false, value: Buffer.alloc(2) }))],
  'an unknown critical extension in an issuing CA': [
    'unknown-critical-extension',
    () => below(added({ oid: '1.2.3.4', critical: true, value: Buffer.alloc(2) })),
  ],
  'an issuing CA that is none': ['not-a-ca', () => below(replaced(basicConstraints(false)))],
  'an issuing CA without basicConstraints': ['not-a-ca', () => below(without('2.5.29.19'))],
  'an issuing CA that may not sign certificates': ['key-usage', () => below(replaced(keyUsage(['cRLSign'])))],
  'an issuing CA without keyUsage': ['valid', () => below(without('2.5.29.15'))],
  'an issuing CA without SKI': ['valid', () => below(without('2.5.29.14'))],
  'an issuing CA without AKI': ['valid', () => below(without('2.5.29.35'))],
  "an issuing CA with another key's AKI": [
    'authority-key-mismatch',
    () => below(replaced(authorityKey('11'.repeat(20)))),
  ],
  'an issuing CA for clients, asked as a server': ['wrong-purpose', () => below(added(extendedKeyUsage(['client'])))],
  'an issuing CA for clients, asked as a client': [
    'valid',
    async () => ({ ...(await below(added(extendedKeyUsage(['client'])))), purpose: 'client' }),
  ],
  'an issuing CA that stands in the bundle itself': [
    'valid',
    async () => {
      const made = await below(same => same)
      return { ...made, anchors: made.between, between: [] }
    },
  ],
  'a leaf that stands in the bundle itself': [
    'valid',
    async () => {
      const made = await below(same => same)
      return { ...made, anchors: [made.leaf], between: [] }
    },
  ],
  'no anchor of that name': [
    'untrusted',
    async () => ({ ...(await below(null)), anchors: [(await root('CN=Other')).certificate] }),
  ],
  'an anchor of that name with another key': [
    'authority-key-mismatch',
    async () => ({ ...(await below(null)), anchors: [(await root('CN=Root')).certificate] }),
  ],
  'an expired root': [
    'expired',
    async () => {
      const top = await oddCa('CN=Root', null, same => same, expired)
      return { leaf: await leaf(top), between: [], anchors: [top.certificate] }
    },
  ],
  'an expired issuing CA': [
    'expired',
    async () => {
      const top = await root('CN=Root')
      const ca = await issuing('CN=Issuing', top, expired)
      return { leaf: await leaf(ca), between: [ca.certificate], anchors: [top.certificate] }
    },
  ],
  'the second after the last': [
    'expired',
    async () => {
      const top = await root('CN=Root')
      return {
        leaf: await leaf(top, expired),
        between: [],
        anchors: [top.certificate],
        when: new Date(expired.notAfter.getTime() + 1000),
      }
    },
  ],
  'a path length that is kept': ['valid', () => tower([1, 0])],
  'a path length that is exceeded': ['path-length', () => tower([0, 0])],
  'a path length of the root that is exceeded': ['path-length', () => tower([null, null], 1)],
  'a self-issued CA that does not count': [
    'valid',
    async () => {
      const top = await root('CN=Root', { pathLength: 1 })
      const one = await issuing('CN=One', top, { pathLength: 0 })
      const again = await issuing('CN=One', one)
      return { leaf: await leaf(again), between: [one.certificate, again.certificate], anchors: [top.certificate] }
    },
  ],
  'a cross-certificate to the old root': [
    'valid',
    async () => {
      const old = await root('CN=Old')
      const next = await root('CN=New')
      const ca = await issuing('CN=Issuing', next)
      return {
        leaf: await leaf(ca),
        between: [ca.certificate, (await cross(next, old)).certificate],
        anchors: [old.certificate],
      }
    },
  ],
  'two roots of one name, both orders agree (F8)': [
    'valid',
    async () => {
      const made = await below(null)
      return { ...made, anchors: [(await root('CN=Root')).certificate, ...made.anchors] }
    },
  ],
  'a leaf for clients, asked as a server': [
    'wrong-purpose',
    async () => {
      const top = await root('CN=Root')
      return { leaf: await leaf(top, { purposes: ['client'] }), between: [], anchors: [top.certificate] }
    },
  ],
  'names inside of permitted ones': ['valid', () => constrained({ permitted: { dns: ['svc'] } })],
  'names outside of permitted ones': ['name-constraints', () => constrained({ permitted: { dns: ['other'] } })],
  'names inside of excluded ones': ['name-constraints', () => constrained({ excluded: { dns: ['shop.svc'] } })],
  'a SPIFFE ID inside of its trust domain': [
    'valid',
    () => constrained({ permitted: { uriHosts: ['cluster.local'] } }),
  ],
  'a SPIFFE ID outside of it': ['name-constraints', () => constrained({ permitted: { uriHosts: ['other.local'] } })],
  'an address inside of a range': ['valid', () => constrained({ permitted: { ips: ['10.0.0.0/8', 'fd00::/8'] } })],
  'an address outside of it': [
    'name-constraints',
    () => constrained({ permitted: { ips: ['10.0.0.0/16', 'fd00::/8'] } }),
  ],
  'a subject outside of permitted directories': [
    'name-constraints',
    () => constrained({ permitted: { directories: ['O=Other'] } }),
  ],
  'a subject inside of them, in other letters': [
    'valid',
    () => constrained({ permitted: { directories: ['O=shop'] } }),
  ],
}

async function below(change: ((all: RawExtension[]) => RawExtension[]) | null): Promise<Case> {
  const top = await root('CN=Root')
  const ca = change === null ? top : await oddCa('CN=Issuing', top, change)
  return { leaf: await leaf(ca), between: change === null ? [] : [ca.certificate], anchors: [top.certificate] }
}

async function tower(lengths: readonly (number | null)[], pathLength: number | null = null): Promise<Case> {
  const top = await root('CN=Root', { pathLength })
  const between = []
  let issuer = top
  for (const [index, length] of lengths.entries()) {
    issuer = await issuing(`CN=CA ${index}`, issuer, { pathLength: length })
    between.push(issuer.certificate)
  }
  return { leaf: await leaf(issuer), between, anchors: [top.certificate] }
}

async function constrained(
  nameConstraints: NonNullable<NonNullable<Parameters<typeof root>[1]>['nameConstraints']>,
): Promise<Case> {
  const top = await root('CN=Root', { nameConstraints })
  const end = await leaf(top, {
    subject: 'CN=cart,O=Shop',
    dns: ['cart.shop.svc'],
    uris: ['spiffe://cluster.local/ns/shop/sa/cart'],
    ips: ['10.1.2.3', 'fd00::1'],
  })
  return { leaf: end, between: [], anchors: [top.certificate] }
}

describe('findPaths and openssl verify agree on', () => {
  for (const [sentence, [reason, make]] of Object.entries(table)) {
    it(`${sentence}: ${reason}`, async () => {
      const made = await make()
      expect(ours(made)).toBe(reason)
      expect(openssl(made) === 'valid', openssl(made)).toBe(reason === 'valid')
    })
  }
})

it('in the very last second RFC 5280 §4.1.2.5 is followed, which openssl ends one second earlier', async () => {
  const top = await root('CN=Root')
  const made = { leaf: await leaf(top, expired), between: [], anchors: [top.certificate], when: expired.notAfter }
  expect(ours(made)).toBe('valid')
  expect(openssl(made)).toBe('certificate has expired')
})

describe('findPaths and openssl verify on random graphs of CAs', () => {
  it('agree', async () => {
    const [a, b, c] = [await root('CN=A'), await root('CN=B'), await root('CN=C')]
    const ca = await issuing('CN=Issuing', b)
    const pool = [
      a.certificate,
      b.certificate,
      c.certificate,
      ca.certificate,
      (await cross(b, a)).certificate,
      (await cross(a, c)).certificate,
      (await cross(c, a, expired)).certificate,
      (await cross(ca, a, { pathLength: 0 })).certificate,
      (await cross(b, c, { pathLength: 0 })).certificate,
    ]
    const ends = [await leaf(ca), await leaf(b), await leaf(a, { purposes: ['client'] })]
    const graphs = fc.sample(
      fc.record({
        leaf: fc.constantFrom(...ends),
        between: fc.shuffledSubarray(pool),
        anchors: fc.shuffledSubarray(pool, { minLength: 1, maxLength: 2 }),
        purpose: fc.constantFrom('server' as const, 'client' as const),
      }),
      { numRuns: 80, seed: 20260601 },
    )
    let valid = 0
    for (const graph of graphs) {
      const [one, other] = [ours(graph), openssl(graph)]
      const story = `${one} / ${other}: ${graph.leaf.issuer} [${graph.between.map(describeOne)}] trusting [${graph.anchors.map(describeOne)}]`
      // openssl builds one chain and does not go back: what it accepts must be a path; what it refuses may have one.
      if (other === 'valid') expect(one, story).toBe('valid')
      if (one !== 'valid') expect(other, story).not.toBe('valid')
      if (one === 'valid' && !hasChoice(graph)) expect(other, story).toBe('valid')
      if (one === 'valid') valid += 1
    }
    expect(valid).toBeGreaterThan(10)
    expect(valid).toBeLessThan(graphs.length - 10)
  })
})

function describeOne({ subject, issuer }: Certificate): string {
  return `${subject} by ${issuer}`
}

function hasChoice({ between, anchors }: Case): boolean {
  const subjects = [...new Map([...between, ...anchors].map(one => [one.sha256, one])).values()].map(
    ({ subject }) => subject,
  )
  return new Set(subjects).size < subjects.length
}

describe('what openssl makes is read', () => {
  it('an intermediate as the runbook makes it, keys in every form, and a request', async () => {
    const run = (...words: string[]) =>
      execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }).toString()
    writeFileSync(
      join(folder, 'root.conf'),
      '[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=ext\n[dn]\nO=Istio\nCN=Root CA\n[ext]\nsubjectKeyIdentifier=hash\nbasicConstraints=critical,CA:true\nkeyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign\n',
    )
    writeFileSync(
      join(folder, 'ca.ext'),
      'subjectKeyIdentifier=hash\nbasicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign\nsubjectAltName=DNS:istiod.istio-system.svc\n',
    )
    run(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'root.key',
      '-out',
      'root.crt',
      '-config',
      'root.conf',
      '-days',
      '30',
    )
    run(
      'req',
      '-new',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.csr',
      '-subj',
      '/O=Istio/CN=Intermediate CA/L=eu-1',
      '-config',
      'root.conf',
    )
    run(
      'x509',
      '-req',
      '-in',
      'ca.csr',
      '-CA',
      'root.crt',
      '-CAkey',
      'root.key',
      '-CAcreateserial',
      '-days',
      '20',
      '-extfile',
      'ca.ext',
      '-out',
      'ca.crt',
    )
    const top = readCertificate(run('x509', '-in', 'root.crt'))
    const ca = readCertificate(run('x509', '-in', 'ca.crt'))
    expect(ca.subject).toBe('L=eu-1,CN=Intermediate CA,O=Istio')
    expect(ca.pathLength).toBe(0)
    const key = readPrivateKey(run('rsa', '-in', 'ca.key', '-traditional'))
    const end = await leaf(
      { certificate: ca, key },
      { uris: ['spiffe://cluster.local/ns/a/sa/b'], notBefore: ca.parts.notBefore, notAfter: ca.parts.notAfter },
    )
    const made = { leaf: end, between: [ca], anchors: [top], when: ca.parts.notBefore }
    expect(ours(made)).toBe('valid')
    expect(openssl(made)).toBe('valid')
    const request = await readRequest(run('req', '-in', 'ca.csr'))
    expect(request.subject).toBe(ca.subject)
    expect(request.spki).toBe(ca.spki)
  })

  it('and the other way round: openssl reads the keys that are written', () => {
    for (const { privateKey } of [
      generateKeyPairSync('ec', { namedCurve: 'P-384' }),
      generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ]) {
      const path = file(privateKeyPem(privateKey))
      expect(
        execFileSync('openssl', ['pkey', '-in', path, '-check', '-noout'], { stdio: 'pipe' }).toString(),
      ).toContain('Key is valid')
    }
  })
})
