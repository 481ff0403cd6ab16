/**
 * A GitOps repository with the demo's fleet and a declared rotation, and the Context that commands read the world through.
 * Time, randomness and keys are given: the same command on the same state ends in the same bytes.
 */
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { onTestFinished } from 'vitest'
import type { Cluster, KubernetesObject } from '../../src/cluster/cluster.ts'
import { resources } from '../../src/cluster/resources.ts'
import type { Context } from '../../src/commands/context.ts'
import { plan } from '../../src/commands/plan.ts'
import { runInit } from '../../src/declaration/init.ts'
import { type LocalForge, openLocalForge } from '../../src/forge/local.ts'
import type { KeySource } from '../../src/pki/keys.ts'
import { findStep, treeFolder, type Variant } from '../../src/plan/steps.ts'
import { selfSignedCa } from '../../src/rehearsal/certificates.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import type { Plan } from '../../src/rotation.ts'
import type { Signer } from '../../src/signature/sshsig.ts'
import { seededRandom, wrapWith } from '../custody/secrets.ts'
import { userGit } from '../repository/temporary.ts'

export const rotation = 'mesh-2026'
export const author = { name: 'Ada', email: 'ada@example.com' }
export const start = new Date('2026-03-01T12:00:00.000Z')
export const asked = { rotation, base: null }

export const identity = await generateX25519Identity()
const recipient = await identityToRecipient(identity)

/** RSA, because its signatures have no randomness of their own: a certificate that is made again has the same bytes. */
function rsaKey(): KeyObject {
  return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
}

/** The new root's key and then those of the issuing CAs, the same at each run. */
export const newKeys: readonly KeyObject[] = [rsaKey(), rsaKey(), rsaKey()]

function fixedKeys(): KeySource {
  let count = 0
  return {
    async generate() {
      const key = newKeys[count]
      count += 1
      if (key === undefined) throw new Error('a world has keys for one root and two sites')
      return key
    },
  }
}

/** istiod's self-signed CA; also the planted old key of the tests for leaks. */
const oldCa = selfSignedCa('cluster.local', {
  notBefore: new Date('2025-01-01T00:00:00Z'),
  notAfter: new Date('2035-01-01T00:00:00Z'),
})

export function temporary(): string {
  const dir = mkdtempSync(join(tmpdir(), 'reanchor-world-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}

export interface World {
  readonly folder: string
  /** The bare repository. */
  readonly bare: string
  readonly repository: Repository
  readonly forge: LocalForge
  readonly sites: readonly string[]
  context(options?: ContextOptions): Context
}

export interface ContextOptions {
  /** Opened with a write hook, say. Default: the world's. */
  readonly repository?: Repository
  readonly now?: Date
  readonly seed?: string
  readonly clusters?: (site: string) => Cluster
  readonly said?: string[]
  readonly dryRun?: boolean
  readonly signer?: Signer
}

/** The fleet and rotation.yaml on main of a new bare repository; nothing is planned yet. Goes away with the test unless `folder` is given. */
export async function declaredWorld(
  options: { readonly sites?: readonly string[]; readonly folder?: string } = {},
): Promise<World> {
  const sites = options.sites ?? ['eu-1']
  const folder = options.folder ?? temporary()
  const bare = join(folder, 'fleet.git')
  mkdirSync(bare, { recursive: true })
  userGit(bare, 'init', '-q', '--bare', '-b', 'main', '.')
  const repository = await openRepository(bare)
  const fleet = demoFleet({ sites, ageRecipient: recipient })
  const first = await commit(repository, null, fleet, 'The fleet as it is')
  const declared = await runInit({
    files: fleet,
    flags: {
      name: rotation,
      site: sites.map(name => `${name}=trust/${name}`),
      context: sites.map(name => `${name}=${name}`),
      delivery: sites.map(name => `${name}=flux:flux-system/trust`),
      age: [recipient],
      forge: 'local',
    },
    existing: () => null,
    now: start,
    ask: null,
  })
  await commit(repository, first, new Map([[declared.path, declared.text]]), `Declare rotation ${rotation}`)
  if (options.folder === undefined) onTestFinished(() => repository.close())
  return await worldAt(folder, sites, repository)
}

async function worldAt(folder: string, sites: readonly string[], repository: Repository): Promise<World> {
  const bare = join(folder, 'fleet.git')
  const forge = await openLocalForge(repository, { now: () => start })
  return { folder, bare, repository, forge, sites, context: given => contextOf(repository, given) }
}

export function contextOf(opened: Repository, options: ContextOptions = {}): Context {
  const repository = options.repository ?? opened
  const random = seededRandom(options.seed ?? 'world')
  let time = (options.now ?? start).getTime()
  const now = () => new Date(time)
  const clusters = options.clusters ?? (site => selfSignedCluster(oldCa, site))
  return {
    repository,
    now,
    sleep: async milliseconds => {
      time += milliseconds
    },
    random,
    keys: fixedKeys(),
    wrapDataKey: wrapWith(random),
    author,
    openForge: async () => await openLocalForge(repository, { now }),
    openCluster: async site => clusters(site.name),
    readFile: path => {
      throw new Error(`a world has no file ${path}`)
    },
    environment: {},
    progress: line => options.said?.push(line),
    dryRun: options.dryRun ?? false,
    ...(options.signer === undefined ? {} : { signer: options.signer }),
  }
}

/** A cluster with nothing in it but istiod's own CA: enough for `plan`. */
export function selfSignedCluster(
  ca: { readonly certificate: string; readonly key: string } = oldCa,
  site = 'eu-1',
): Cluster {
  const digits = createHash('sha256').update(site).digest('hex').slice(0, 12)
  const refuse = async (): Promise<never> => {
    throw new Error('this cluster has no pods')
  }
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const secret: KubernetesObject = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'istio-ca-secret', namespace: 'istio-system' },
    type: 'istio.io/ca-root',
    data: {
      'ca-cert.pem': base64(ca.certificate),
      'ca-key.pem': base64(ca.key),
      'cert-chain.pem': '',
      'root-cert.pem': '',
    },
  }
  return {
    identity: async () => ({ uid: `00000000-0000-4000-8000-${digits}`, now: '2026-03-01T12:00:00Z' }),
    get: async (type, namespace, name) =>
      type.plural === resources.secrets.plural && namespace === 'istio-system' && name === 'istio-ca-secret'
        ? secret
        : null,
    metadata: async () => null,
    async *list() {},
    httpGet: refuse,
    servedTls: refuse,
    close: async () => {},
  }
}

/** A world whose plan pull request is merged. */
export async function plannedWorld(
  options: { readonly sites?: readonly string[]; readonly folder?: string } = {},
): Promise<World & { readonly plan: Plan }> {
  const world = await declaredWorld(options)
  const outcome = await plan(world.context(), planOptions(world))
  await mergeOpen(world)
  return { ...world, plan: outcome.plan }
}

export function planOptions(world: Pick<World, 'folder'>) {
  return { ...asked, rootKeyOut: join(world.folder, 'root.key.age'), chain: null, acceptOutage: false }
}

async function mergeOpen(
  world: Pick<World, 'forge'>,
  method: 'merge' | 'squash' | 'rebase' = 'merge',
): Promise<string> {
  const open = await world.forge.list('open')
  const [one] = open
  if (one === undefined || open.length > 1) throw new Error(`there are ${open.length} open pull requests`)
  const merged = await world.forge.merge(one.number, { method, by: author, at: start })
  return merged.mergeCommit ?? ''
}

/** Commits a planned step's files into its sites' folders by hand, as a pull request of `next` would, without its evidence. */
export async function placeStep(
  world: World & { readonly plan: Plan },
  phase: string,
  step: number,
  options: { readonly sites?: readonly string[]; readonly variant?: Variant; readonly branch?: string } = {},
): Promise<string> {
  const number = world.plan.phases.find(each => each.name === phase)?.number ?? -1
  const at = findStep(world.plan, number, step)
  if (at === null) throw new Error(`the plan has no step ${phase}/${step}`)
  const head = await world.repository.head('main')
  const snapshot = world.repository.snapshot(head)
  const changes = new Map<string, string | null>()
  for (const site of options.sites ?? world.sites) {
    const path = `trust/${site}`
    for (const old of (await snapshot.list(path)).keys()) changes.set(old, null)
    const tree = await snapshot.readFolder(treeFolder(rotation, at, options.variant ?? 'step', site))
    for (const [file, text] of tree) changes.set(`${path}/${file}`, text)
  }
  return await commit(world.repository, head, changes, `${phase}/${step}`, options.branch ?? 'main')
}

export async function commit(
  repository: Repository,
  parent: string | null,
  changes: ReadonlyMap<string, string | null>,
  message: string,
  branch = 'main',
): Promise<string> {
  const to = await repository.commit({ parent, changes, message, trailers: {}, author, at: start })
  const from = await repository.readRef(`refs/heads/${branch}`)
  const result = await repository.publish([{ ref: `refs/heads/${branch}`, from, to }])
  if (!result.ok) throw new Error(`${branch} moved`)
  return to
}

/** Every ref by name: a commit's id stands for all of its bytes and of its history. */
export function refsOf(bare: string): Readonly<Record<string, string>> {
  const lines = userGit(bare, 'for-each-ref', '--format=%(refname) %(objectname)').split('\n')
  return Object.fromEntries(lines.filter(line => line !== '').map(line => line.split(' ') as [string, string]))
}

/** A bare repository of its own at the given refs, which borrows its objects: made in no time. */
export function forkAt(folder: string, refs: Readonly<Record<string, string>>, from: string): string {
  const bare = join(folder, 'fleet.git')
  for (const dir of ['objects/info', 'objects/pack', 'refs/heads']) mkdirSync(join(bare, dir), { recursive: true })
  writeFileSync(join(bare, 'HEAD'), 'ref: refs/heads/main\n')
  writeFileSync(join(bare, 'config'), '[core]\n\trepositoryformatversion = 0\n\tbare = true\n')
  writeFileSync(join(bare, 'objects/info/alternates'), `${join(from, 'objects')}\n`)
  const lines = Object.entries(refs).map(([ref, id]) => `${id} ${ref}\n`)
  writeFileSync(join(bare, 'packed-refs'), `# pack-refs with: peeled fully-peeled sorted \n${lines.join('')}`)
  return bare
}

export class Killed extends Error {
  constructor(at: string) {
    super(`killed ${at}`)
    this.name = 'Killed'
  }
}

/** Counts writes; kills at one of them where asked. */
export function countWrites(kill: { readonly number: number; readonly when: 'before' | 'after' } | null): {
  readonly hook: WriteHook
  readonly seen: string[]
} {
  const seen: string[] = []
  return {
    seen,
    hook(what, when) {
      if (when === 'before') seen.push(what)
      if (kill !== null && seen.length === kill.number && when === kill.when) throw new Killed(`${when} ${what}`)
    },
  }
}

/** Opens the repository of a world's folder for one command, whose writes go through this hook. */
export async function inRepository<T>(
  folder: string,
  hook: WriteHook,
  run: (repository: Repository) => Promise<T>,
): Promise<T> {
  const repository = await openRepository(join(folder, 'fleet.git'), { onWrite: hook })
  try {
    return await run(repository)
  } finally {
    repository.close()
  }
}
