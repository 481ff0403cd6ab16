import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Cluster, KubernetesObject } from '../../src/cluster/cluster.ts'
import { plan } from '../../src/commands/plan.ts'
import { planAt } from '../../src/commands/rotation.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { mintsOf } from '../../src/mint/certificate.ts'
import { readPins } from '../../src/mint/pin.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { certificateAuthority, companyRoot, type Pair } from '../../src/rehearsal/certificates.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import { userGit } from '../repository/temporary.ts'
import {
  asked,
  author,
  commit,
  contextOf,
  countWrites,
  declaredWorld,
  forkAt,
  inRepository,
  Killed,
  refsOf,
  rotation,
  selfSignedCluster,
  start,
  temporary,
  type World,
} from './world.ts'

const file = `rotations/${rotation}/rotation.yaml`
const day = 86_400_000
const life = (days: number) => ({
  notBefore: new Date(start.getTime() - 3_600_000),
  notAfter: new Date(start.getTime() + days * day),
})
const root = companyRoot('minting root', life(3650))

function mintedPair(): Pair {
  return certificateAuthority({
    name: [['2.5.4.3', 'minted']],
    key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    issuer: root,
    dns: [],
    life: life(730),
  })
}

/** The declared fleet, whose new CA cert-manager mints. */
async function mintWorld(): Promise<World> {
  const world = await declaredWorld()
  const head = await world.repository.head('main')
  const text = (await world.repository.snapshot(head).read(file)) ?? ''
  const next = '  next:\n    certManager: {issuer: {name: mesh-root}, path: "clusters/{site}"}\n'
  await commit(world.repository, head, new Map([[file, text.replace(/ {2}next:\n(?: {4}.*\n)+/, next)]]), 'Mint')
  return world
}

/** The site's cluster once cert-manager has issued `pair`; the Secret may hold another by then. */
async function mintedCluster(world: World, pair: Pair, held: Pair = pair): Promise<(site: string) => Cluster> {
  const text = (await world.repository.snapshot(await world.repository.head('main')).read(file)) ?? ''
  const [mint] = mintsOf(await readDeclaration(text, file))
  if (mint === undefined) throw new Error('no mint')
  const { namespace, name } = mint
  const base64 = (value: string): string => Buffer.from(value).toString('base64')
  const creationTimestamp = start.toISOString()
  const { notAfter } = readCertificate(pair.certificate)
  const objects: Readonly<Record<string, KubernetesObject>> = {
    certificates: {
      metadata: { name, namespace, uid: 'own', generation: 1, creationTimestamp },
      spec: mint.manifest.spec,
      status: {
        revision: 1,
        notAfter,
        renewalTime: notAfter,
        conditions: [{ type: 'Ready', status: 'True', observedGeneration: 1 }],
      },
    },
    secrets: {
      metadata: { name, namespace, creationTimestamp },
      data: { 'tls.crt': base64(held.certificate), 'tls.key': base64(held.key), 'ca.crt': base64(root.certificate) },
    },
  }
  const request: KubernetesObject = {
    metadata: {
      name: `${name}-1`,
      namespace,
      annotations: { 'cert-manager.io/certificate-revision': '1' },
      ownerReferences: [{ kind: 'Certificate', name, uid: 'own' }],
    },
    status: { certificate: base64(pair.certificate), ca: base64(root.certificate) },
  }
  return site => {
    const own = selfSignedCluster(undefined, site)
    const find: Cluster['get'] = async (type, at, object) =>
      object === name && at === namespace ? (objects[type.plural] ?? null) : await own.get(type, at, object)
    return {
      ...own,
      get: find,
      metadata: find,
      async *list(type) {
        if (type.plural === 'certificaterequests') yield [request]
      },
    }
  }
}

async function run(folder: string, hook: WriteHook, clusters?: (site: string) => Cluster) {
  const options = { ...asked, rootKeyOut: null, chain: null, acceptOutage: false }
  const given = clusters === undefined ? {} : { clusters }
  return await inRepository(folder, hook, repository => plan(contextOf(repository, given), options))
}

const waiting = { exit: 3, what: 'cert-manager has to mint the new CA first' }
const quiet = countWrites(null).hook

async function mergeMint(world: World): Promise<void> {
  await expect(run(world.folder, quiet)).rejects.toMatchObject(waiting)
  const [request, ...others] = await world.forge.list('open')
  if (request === undefined || others.length > 0) throw new Error('not one pull request')
  await world.forge.merge(request.number, { method: 'squash', by: author, at: start })
}

describe('plan with a CA from cert-manager', () => {
  test('killed at any write of its mint pull request and run again ends with one pull request', async () => {
    const world = await mintWorld()
    const refs = refsOf(world.bare)
    const whole = temporary()
    forkAt(whole, refs, world.bare)
    const { hook, seen } = countWrites(null)
    await expect(run(whole, hook)).rejects.toMatchObject(waiting)
    expect(seen.length).toBeGreaterThan(2)
    for (let number = 1; number <= seen.length; number += 1) {
      const folder = temporary()
      const bare = forkAt(folder, refs, world.bare)
      const killing = countWrites({ number, when: 'after' })
      await expect(run(folder, killing.hook), seen[number - 1]).rejects.toBeInstanceOf(Killed)
      await expect(run(folder, quiet), seen[number - 1]).rejects.toMatchObject(waiting)
      const repository = await openRepository(bare)
      const forge = await openLocalForge(repository, { now: () => start })
      const open = await forge.list('open')
      expect(open.map(request => request.branch)).toEqual([`reanchor/${rotation}/mint`])
      const head = await repository.branch(`reanchor/${rotation}/mint`)
      expect(await forge.status(head ?? '', 'reanchor/gate')).toMatchObject({ state: 'success' })
      repository.close()
    }
  }, 120_000)

  test('killed at any write and run again ends with a plan of the pinned CA, whose key is in no object in the clear', async () => {
    const world = await mintWorld()
    await mergeMint(world)
    const pair = mintedPair()
    const { sha256 } = readCertificate(pair.certificate)
    const clusters = await mintedCluster(world, pair)
    const refs = refsOf(world.bare)
    const whole = temporary()
    forkAt(whole, refs, world.bare)
    const { hook, seen } = countWrites(null)
    await run(whole, hook, clusters)
    for (let number = 1; number <= seen.length; number += 1) {
      const folder = temporary()
      const bare = forkAt(folder, refs, world.bare)
      const killing = countWrites({ number, when: 'after' })
      await expect(run(folder, killing.hook, clusters), seen[number - 1]).rejects.toBeInstanceOf(Killed)
      await run(folder, quiet, clusters)
      const repository = await openRepository(bare)
      const snapshot = repository.snapshot((await repository.branch(`reanchor/${rotation}/plan`)) ?? '')
      const made = await planAt(snapshot, rotation)
      expect(made?.certificates.find(({ role }) => role === 'new-issuing')?.sha256, seen[number - 1]).toBe(sha256)
      const record = `rotations/${rotation}/minted.yaml`
      expect(readPins((await snapshot.read(record)) ?? '', rotation, record).map(pin => pin.sha256)).toEqual([sha256])
      repository.close()
      const objects = userGit(bare, 'cat-file', '--batch-all-objects', '--batch')
      expect(objects).toContain(sha256)
      for (const line of pair.key.split('\n').filter(each => each !== '' && !each.startsWith('-----')))
        expect(objects.includes(line)).toBe(false)
    }
  }, 240_000)

  test('takes no other CA than the one that was seen first, in another clone as little, and plans nothing (F16)', async () => {
    const world = await mintWorld()
    await mergeMint(world)
    const seen = mintedPair()
    const other = mintedPair()
    await expect(run(world.folder, quiet, await mintedCluster(world, seen, other))).rejects.toMatchObject({
      exit: 5,
      expected: expect.stringContaining(readCertificate(seen.certificate).sha256),
      found: readCertificate(other.certificate).sha256,
    })
    const clone = temporary()
    forkAt(clone, refsOf(world.bare), world.bare)
    await expect(run(clone, quiet, await mintedCluster(world, other))).rejects.toMatchObject({
      exit: 4,
      found: expect.stringContaining('is pinned'),
    })
    expect(Object.keys(refsOf(`${clone}/fleet.git`)).filter(ref => ref.endsWith('/plan'))).toEqual([])
    const outcome = await run(clone, quiet, await mintedCluster(world, seen))
    expect(outcome.kind).toBe('planned')
  }, 120_000)

  test('asked again after the merge, tells that the file was edited', async () => {
    const world = await mintWorld()
    await mergeMint(world)
    const head = await world.repository.head('main')
    const path = `clusters/eu-1/reanchor-${rotation}-eu-1.yaml`
    const text = (await world.repository.snapshot(head).read(path)) ?? ''
    await commit(world.repository, head, new Map([[path, text.replace('Never', 'Always')]]), 'Edit')
    await expect(run(world.folder, quiet)).rejects.toMatchObject({ exit: 5, where: { file: path } })
  })
})
