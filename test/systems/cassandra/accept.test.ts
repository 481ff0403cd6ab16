import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { readDeclaration } from '../../../src/declaration/read.ts'
import type { ReanchorError } from '../../../src/errors.ts'
import { systemKeys } from '../../../src/pki/keys.ts'
import type { CurrentCa, NewCa as PlannedCa } from '../../../src/plan/ca.ts'
import type { CurrentSource, Declaration } from '../../../src/rotation.ts'
import { acceptCassandra } from '../../../src/systems/cassandra/accept.ts'
import { type NewCa, trustedEntries } from '../../../src/systems/cassandra/ca-secret.ts'
import type { CassandraClusterFacts } from '../../../src/systems/cassandra/cassandra-cluster.ts'
import { operatorChecksum } from '../../../src/systems/cassandra/checksum.ts'
import { refuseSecretInGit } from '../../../src/systems/cassandra/in-git.ts'
import { currentCa, secretOf } from '../../../src/systems/cassandra/material.ts'
import { newCassandraCa } from '../../../src/systems/cassandra/next-ca.ts'
import { missingStrategies } from '../../../src/systems/cassandra/phases.ts'
import { cassandra } from '../../../src/systems/cassandra/system.ts'
import { caSecret, cassandraCa, now, quickKeys } from './material.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

let old: NewCa
let fresh: NewCa

beforeAll(async () => {
  ;[old, fresh] = await Promise.all([cassandraCa('O=ca'), cassandraCa('O=example-ca-2026')])
}, 120_000)

async function declared(
  more: {
    readonly ca?: string
    readonly attest?: string
    readonly custody?: string
    readonly sites?: readonly string[]
  } = {},
): Promise<Declaration> {
  const sites = more.sites ?? ['eu-1']
  const text = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: db-2026}
spec:
  system: cassandra
  forge: local
  custody: ${more.custody ?? '{sops: {age: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]}}'}
  sites:
${sites.map(site => `    - {name: ${site}, path: trust/${site}, delivery: {flux: {kustomization: flux-system/trust}}}`).join('\n')}
  gates: {attest: [${more.attest ?? ''}]}
  cassandra: {cluster: example, namespace: anton, ca: ${more.ca ?? 'server'}}
`
  return await readDeclaration(text, 'rotations/db-2026/rotation.yaml')
}

function current(
  more: {
    readonly cluster?: Partial<CassandraClusterFacts>
    readonly checksum?: string
    readonly data?: Readonly<Record<string, string>>
    readonly ca?: NewCa
  } = {},
): CurrentCa {
  const secret = caSecret(more.ca ?? old, more.data)
  return currentCa({
    cluster: {
      namespace: secret.namespace,
      name: 'example',
      secret: secret.name,
      certificateKey: 'ca.crt',
      privateKey: 'ca.key',
      nodeSecret: 'example-cluster-tls-node',
      datacenters: [{ name: 'dc1', replicas: 3 }],
      managedRegions: [],
      unmanagedRegions: [],
      inMaintenance: [],
      internodeEncryption: 'all',
      ...more.cluster,
    },
    secret,
    annotations: { 'cassandra-cluster-checksum': more.checksum ?? operatorChecksum(secret.data) },
  })
}

function planned(sites: readonly string[], ca = fresh): PlannedCa {
  const next = { root: ca.certificate, issuer: ca.certificate, chain: [], key: ca.key }
  return { root: ca.certificate, rootKey: null, sites: Object.fromEntries(sites.map(site => [site, next])) }
}

async function refusal(
  currents: Readonly<Record<string, CurrentCa>>,
  options: Parameters<typeof declared>[0] = {},
  next = planned(Object.keys(currents)),
): Promise<ReanchorError | null> {
  const declaration = await declared({ sites: Object.keys(currents), ...options })
  try {
    acceptCassandra(declaration, currents, next, now)
    return null
  } catch (error) {
    return error as ReanchorError
  }
}

describe('what a rotation of Cassandra accepts', () => {
  it('is a CA Secret that the operator has taken up, and a new CA that fits', async () => {
    expect(await refusal({ 'eu-1': current() })).toBeNull()
  })

  it('carries the Secret from the cluster to the plan byte for byte', () => {
    const data = { 'ca.crt': `# by hand\n${old.certificate.pem}`, note: 'x' }
    expect(secretOf(current({ data })).data).toEqual(caSecret(old, data).data)
  })

  it.each([
    ['a Secret that the operator has not taken up', { checksum: 'another' }, /has not taken up/],
    ['nodes that are held down', { cluster: { inMaintenance: ['dc1'] } }, /maintenance/],
    ['a region that is left out', { cluster: { managedRegions: ['us.example.com'] } }, /does not cover every region/],
    [
      'an unmanaged region for which nobody speaks',
      { cluster: { unmanagedRegions: ['10.0.0.1'] } },
      /unmanaged region/,
    ],
    ['a Secret without its signing key', { data: { 'ca.key': '' } }, /holds no signing key/],
  ] as const)('refuses %s', async (_, parts, what) => {
    const error = await refusal({ 'eu-1': current(parts as Parameters<typeof current>[0]) })
    expect(error?.exit).toBe(5)
    expect(error?.what).toMatch(what)
  })

  it('takes an unmanaged region and CQL clients where a person speaks for them', async () => {
    const attest = '{name: partner, why: no API shows it}'
    expect(await refusal({ 'eu-1': current({ cluster: { unmanagedRegions: ['10.0.0.1'] } }) }, { attest })).toBeNull()
    expect((await refusal({ 'eu-1': current() }, { ca: 'client' }))?.what).toMatch(/CQL clients/)
    expect(await refusal({ 'eu-1': current() }, { ca: 'client', attest })).toBeNull()
  })

  it('refuses regions that different CAs sign', async () => {
    const other = await cassandraCa('O=other')
    const region = { managedRegions: ['x.example.com'] }
    const error = await refusal({
      'eu-1': current({ cluster: region }),
      'us-1': current({ cluster: region, ca: other }),
    })
    expect(error?.what).toMatch(/different CAs/)
  })

  it('refuses SealedSecrets, whose controller takes the operator’s annotations away', async () => {
    const custody =
      '{sealedSecrets: {certificate: cert.pem, age: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]}}'
    expect((await refusal({ 'eu-1': current() }, { custody }))?.what).toMatch(/Sealed Secrets/)
  })
})

describe('the new CA', () => {
  it('is one RSA pair for all regions, with its key in PKCS#1 and no root key beside it', async () => {
    const declaration = await declared({ sites: ['eu-1', 'us-1'] })
    if (declaration.next.from !== 'generate') throw new Error('not generated')
    const made = await newCassandraCa(declaration, declaration.next, {
      now,
      random: size => Buffer.alloc(size, 7),
      keys: quickKeys,
      read: () => '',
      current: {},
    })
    expect(made.rootKey).toBeNull()
    expect(made.sites['eu-1']).toEqual(made.sites['us-1'])
    expect(made.sites['eu-1']?.key).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/)
    // Unique in a repository: a rotation's name is used once.
    expect(made.root.subject).toBe('O=example-db-2026')
    expect(made.root.sha256).toBe(made.sites['eu-1']?.issuer.sha256)
  })
})

describe('a new CA of the user’s own', () => {
  async function fromFiles(certificate: string, key: string): Promise<PlannedCa> {
    const files: Readonly<Record<string, string>> = { '/ca.pem': certificate, '/ca.key': key }
    const issuing = { '*': { certificate: '/ca.pem', key: '/ca.key', chain: null } }
    return await newCassandraCa(
      await declared(),
      { from: 'files', root: '/ca.pem', issuing },
      { now, random: size => Buffer.alloc(size, 7), keys: quickKeys, read: path => files[path] ?? '', current: {} },
    )
  }

  it('keeps its key as PKCS#1, given so or as PKCS#8, which OpenSSL 3 writes and the operator cannot read', async () => {
    const pkcs8 = createPrivateKey(fresh.key).export({ type: 'pkcs8', format: 'pem' }).toString()
    expect(pkcs8).toMatch(/^-----BEGIN PRIVATE KEY-----/)
    for (const given of [fresh.key, pkcs8, fresh.key.trimEnd()])
      expect((await fromFiles(fresh.certificate.pem, given)).sites['eu-1']?.key).toBe(fresh.key)
  })

  it('is refused with a key that is encrypted, of another CA, or no RSA, and no byte of the key in the error (F29)', async () => {
    const key = createPrivateKey(fresh.key)
    const options = { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' } as const
    const encrypted = key.export(options).toString()
    const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' })
    for (const given of [encrypted, old.key, curve.toString(), fresh.key.replace('MII', 'MIX')]) {
      const error = await fromFiles(fresh.certificate.pem, given).catch((cause: ReanchorError) => cause)
      if (!(error instanceof Error)) throw new Error('not refused')
      expect(error.exit).toBe(5)
      expect(error.message).not.toContain(given.split('\n')[2])
    }
  })

  it('is refused as a bundle, or as a leaf: the operator signs with one certificate and reads no second', async () => {
    await expect(fromFiles(fresh.certificate.pem + old.certificate.pem, fresh.key)).rejects.toThrow(/more than one/)
  })
})

describe('a CA of real size', () => {
  it('is RSA 4096 with SHA-256, PKCS#1, ten years, and passes acceptance: demo and tests use 2048 bits to be quick', async () => {
    const declaration = await declared()
    if (declaration.next.from !== 'generate') throw new Error('not generated')
    const means = { now, random: randomBytes, keys: systemKeys, read: () => '', current: {} }
    const made = await newCassandraCa(declaration, declaration.next, means)
    const key = made.sites['eu-1']?.key ?? ''
    expect(createPrivateKey(key).asymmetricKeyDetails?.modulusLength).toBe(4096)
    expect(made.root.key).toBe('RSA 4096')
    expect(Math.round((Date.parse(made.root.notAfter) - now.getTime()) / 86_400_000)).toBe(3650)
    expect(await refusal({ 'eu-1': current() }, {}, made)).toBeNull()
    const secret = caSecret({ certificate: made.root, key })
    expect(trustedEntries(secret).get('ca.crt')?.sha256).toBe(made.root.sha256)
  })
})

describe('what Cassandra does not take', () => {
  it.each(['renew', 'issuer'] as const)('is strategy %s: the error says why, and what to use', strategy => {
    const missing = missingStrategies[strategy]
    expect(missing?.what).toMatch(/does not exist for Cassandra: .{40}/)
    expect(missing?.todo).toContain('choose graceful')
  })

  it('is the CA in use from files: what stands in the cluster is taken over byte for byte, or all nodes restart', async () => {
    const source = { from: 'files', certificate: 'ca.pem' } as Extract<CurrentSource, { from: 'files' }>
    await expect(cassandra.currentFromFiles(source, () => '', await declared())).rejects.toThrow(
      /cannot be taken from files[\s\S]*byte for byte[\s\S]*from: cluster/,
    )
  })

  it('is a CA whose key stays offline: the operator signs with the key in the Secret', async () => {
    expect(cassandra.requestSecret(await declared(), undefined as never)).toBeNull()
  })

  it('is a graceful rotation of a CA that has expired: there is no overlap to keep, and what is left to do is said (F15)', async () => {
    const expired = await cassandraCa('O=ca', '2026-11-01T00:00:00Z')
    const error = await refusal({ 'eu-1': current({ ca: expired }) })
    expect(error?.exit).toBe(5)
    expect(error?.message).toMatch(/has expired[\s\S]*emergency with --accept-outage/)
  })
})

describe('a CA Secret that Git delivers already', () => {
  const secret = { namespace: 'anton', name: 'example-cluster-manual-tls-ca' }
  const file = (kind: string, namespace: string) =>
    new Map([['db/ca.yaml', `apiVersion: v1\nkind: ${kind}\nmetadata:\n  name: ${secret.name}\n${namespace}`]])

  it.each([
    ['Secret', '  namespace: anton\n'],
    ['SealedSecret', '  namespace: anton\n'],
    ['Secret', ''],
  ])(
    'is refused as a %s: two would write it, and the moment one lets go the operator makes up a CA',
    (kind, namespace) => {
      expect(() => refuseSecretInGit(file(kind, namespace), secret, [{ path: 'trust/eu-1' }])).toThrow(
        /prune: disabled/,
      )
    },
  )

  it('is no other object, no other namespace, and not the folder of the site itself', () => {
    expect(() => refuseSecretInGit(file('ConfigMap', ''), secret, [])).not.toThrow()
    expect(() => refuseSecretInGit(file('Secret', '  namespace: other\n'), secret, [])).not.toThrow()
    const own = new Map([['trust/eu-1/ca-secret.yaml', [...file('Secret', '').values()][0] ?? '']])
    expect(() => refuseSecretInGit(own, secret, [{ path: 'trust/eu-1' }])).not.toThrow()
  })
})
