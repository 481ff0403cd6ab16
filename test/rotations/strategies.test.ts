import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { advanceUntil, merge, planAndMerge, rotate, type World } from '../../src/commands/demo.ts'
import { type PlanOptions, plan } from '../../src/commands/plan.ts'
import { ageDecrypt } from '../../src/custody/age.ts'
import { createIssuing, createRoot, readPrivateKey, readRequest } from '../../src/pki/authority.ts'
import { joinPem } from '../../src/pki/bundle.ts'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import { isClosed } from './drive.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld
afterEach(async () => await test.close())

const day = 24 * 60 * 60 * 1000

function optionsFor(world: World): PlanOptions {
  return { rotation: world.rotation, base: null, rootKeyOut: null, chain: null, acceptOutage: false }
}

/** The world with files that lie outside of the repository. */
function withFiles(world: World, files: Readonly<Record<string, string>>): World {
  const readFile = (path: string) => {
    const text = files[path]
    if (text === undefined) throw new Error(`no file ${path}`)
    return text
  }
  return { ...world, context: { ...world.context, readFile } }
}

async function issuingUnder(
  root: Certificate,
  rootKey: KeyObject,
  key: KeyObject,
  name: string,
  now: Date,
): Promise<Certificate> {
  return await createIssuing({
    subject: `CN=${name}`,
    key,
    issuer: { certificate: root, key: rootKey },
    notBefore: new Date(now.getTime() - 3_600_000),
    notAfter: new Date(now.getTime() + 300 * day),
    serial: '51',
  })
}

describe('strategy issuer', () => {
  it('replaces the issuing CA under the root that everyone trusts, in one phase', async () => {
    test = await testWorld({ seed: 'issuer' })
    const { world } = test
    await rotate(world)
    const identity = readFileSync(world.ageKeyFile, 'utf8').trim()
    const opened = await ageDecrypt(readFileSync(join(world.folder, 'first-root.key.age'), 'utf8'), [identity])
    const text = opened?.toString() ?? ''
    const root = readCertificate(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----\n/.exec(text)?.[0] ?? '')
    const rootKey = readPrivateKey(
      /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n/.exec(text)?.[0] ?? '',
    )
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const issuer = await issuingUnder(root, rootKey, key, 'issuing 2', world.context.now())
    const files = {
      '/offline/root.pem': root.pem,
      '/offline/ca.pem': issuer.pem,
      '/offline/ca.key': privateKeyPem(key),
    }
    const declared = await test.declare('second', declaration => ({
      ...declaration,
      strategy: 'issuer',
      next: {
        from: 'files',
        root: '/offline/root.pem',
        issuing: { '*': { certificate: '/offline/ca.pem', key: '/offline/ca.key', chain: null } },
      },
    }))
    const second = withFiles(declared, files)
    const made = await planAndMerge(second)
    expect(made.phases.map(phase => phase.name)).toEqual(['adopt', 'issue-new'])
    await advanceUntil(second, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    expect(await isClosed(second)).toBe(true)
  }, 600_000)
})

describe('strategy emergency', () => {
  it('is refused without the outage accepted, says what breaks, and then ends trust in the old root in one phase', async () => {
    test = await testWorld({ seed: 'emergency', change: declaration => ({ ...declaration, strategy: 'emergency' }) })
    const { world } = test
    const options = { ...optionsFor(world), rootKeyOut: join(world.folder, 'root.age') }
    await expect(plan(world.context, options)).rejects.toMatchObject({
      exit: 5,
      what: 'the plan is not safe',
      todo: expect.stringContaining('--accept-outage'),
    })
    const outcome = await plan(world.context, { ...options, acceptOutage: true })
    if (outcome.pullRequest === null) throw new Error('no pull request')
    await merge(world, outcome.pullRequest)
    world.rehearsal.handshakes.foretells = () => true
    await advanceUntil(world, () => false)
    const { failed, foretold } = world.rehearsal.handshakes.counts
    expect(failed).toBe(0)
    expect(foretold).toBeGreaterThan(0)
    expect(await isClosed(world)).toBe(true)
  }, 600_000)
})

describe('an offline root', () => {
  it('gets a request for each site, and its signed chain makes the plan; the issuing key never leaves custody', async () => {
    test = await testWorld({
      seed: 'offline',
      change: declaration => ({
        ...declaration,
        next: {
          from: 'csr',
          root: null,
          issuing: { algorithm: 'ecdsa-p256', subject: 'CN=offline issuing,L={site}', validityDays: 300 },
        },
      }),
    })
    const { world } = test
    await expect(plan(world.context, optionsFor(world))).rejects.toMatchObject({
      exit: 3,
      what: 'the offline root has to sign first',
    })
    // Asked again, the requests that are out with the signer stay what they are.
    const branch = await world.repository.branch('reanchor/first/plan')
    await expect(plan(world.context, optionsFor(world))).rejects.toMatchObject({ exit: 3 })
    expect(await world.repository.branch('reanchor/first/plan')).toBe(branch)

    const text = (await world.repository.snapshot(branch ?? '').read('rotations/first/certificates/eu-1.csr')) ?? ''
    const request = await readRequest(text)
    const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
    const now = world.context.now()
    const dates = { notBefore: new Date(now.getTime() - 3_600_000), notAfter: new Date(now.getTime() + 3000 * day) }
    const root = await createRoot({ subject: 'CN=offline root', key: rootKey, ...dates, serial: '41' })
    const issuer = await issuingUnder(root, rootKey, request.publicKey, 'offline issuing', now)
    const signed = withFiles(world, { '/offline/eu-1.pem': joinPem(issuer.pem, root.pem) })

    const other = await createRoot({
      subject: 'CN=somebody',
      key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      ...dates,
      serial: '42',
    })
    const wrong = withFiles(world, { '/offline/eu-1.pem': other.pem })
    await expect(plan(wrong.context, { ...optionsFor(world), chain: ['/offline/eu-1.pem'] })).rejects.toMatchObject({
      exit: 2,
    })

    const outcome = await plan(signed.context, { ...optionsFor(world), chain: ['/offline/eu-1.pem'] })
    if (outcome.pullRequest === null) throw new Error('no pull request')
    await merge(world, outcome.pullRequest)
    await advanceUntil(world, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    expect(await isClosed(world)).toBe(true)
  }, 600_000)
})
