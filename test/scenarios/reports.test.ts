/** A cluster that the runner cannot reach: a Job in it reports, over the repository alone. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Context } from '../../src/commands/context.ts'
import { next } from '../../src/commands/next.ts'
import { observe } from '../../src/commands/observe.ts'
import { plan } from '../../src/commands/plan.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { type Rehearsal, startRehearsal } from '../../src/rehearsal/rehearsal.ts'
import { readWrittenEvidence } from '../../src/verify/evidence-file.ts'
import { userGit } from '../repository/temporary.ts'
import { newKey, signerLine, signerOf } from '../signature/keys.ts'
import {
  asked,
  author,
  commit,
  contextOf,
  declaredWorld,
  identity,
  planOptions,
  rotation,
  start,
  type World,
} from './world.ts'

const site = 'eu-1'
const ref = 'refs/reanchor/reports/eu-1'
const declaration = `rotations/${rotation}/rotation.yaml`
const jobKey = newKey('ed25519')
const runnerKey = newKey('ed25519')
const minute = 60_000

let world: World
let rehearsal: Rehearsal
/** Sees the cluster, as a Job in it does. */
let job: Context
/** Sees the repository and the forge alone. */
let runner: Context

async function mergeAll(): Promise<void> {
  const at = new Date(rehearsal.clock.millis())
  const forge = await openLocalForge(world.repository, { now: () => at })
  for (const { number } of await forge.list('open')) await forge.merge(number, { method: 'merge', by: author, at })
}

async function step(): Promise<string> {
  const { outcome } = await next(runner, { ...asked, variant: 'step' })
  if (outcome.kind === 'opened') return outcome.branch.replace(`reanchor/${rotation}/`, '')
  if (outcome.kind !== 'waiting') return outcome.kind
  return `${outcome.verdict}: ${outcome.gates[0]?.id}: ${outcome.gates[0]?.because[0] ?? ''}`
}

async function report(): Promise<string> {
  return (await observe(job, { rotation: null, base: null, site, wait: null })).verdict
}

/** As the CronJob does, until its report says that every gate holds. */
async function reportUntilHolds(): Promise<void> {
  for (let count = 0; count < 60; count += 1) {
    if ((await report()) === 'holds') return
    await rehearsal.run(5 * minute)
  }
  throw new Error('the gates do not come to hold')
}

function pushed(): string {
  return userGit(world.bare, 'show', `${ref}:${rotation}.yaml`)
}

/** Puts a text in the place of the report, as somebody who may push could. */
async function forge(text: string): Promise<void> {
  const from = await world.repository.refNow(ref)
  const to = await world.repository.commit({
    parent: null,
    changes: new Map([[`${rotation}.yaml`, text]]),
    message: 'not by the Job',
    trailers: {},
    author,
    at: new Date(rehearsal.clock.millis()),
  })
  expect(await world.repository.publish([{ ref, from, to }])).toEqual({ ok: true })
}

beforeAll(async () => {
  const folder = join(process.env.TMPDIR ?? '/tmp', `reanchor-reports-${process.pid}`)
  world = await declaredWorld({ folder })
  const { repository } = world
  rehearsal = await startRehearsal({
    readBase: async () => {
      const head = await repository.head('main')
      const snapshot = repository.snapshot(head)
      const paths = [...(await snapshot.list()).keys()].filter(
        path => !/^rotations\/[^/]+\/(phases|evidence)\//.test(path),
      )
      return { commit: head, files: await snapshot.readMany(paths) }
    },
    sites: [site],
    ageIdentity: `${identity}\n`,
    seed: 'reports',
    now: start,
    sharedRoot: false,
  })
  const now = () => new Date(rehearsal.clock.millis())
  const common: Context = {
    ...contextOf(repository),
    now,
    sleep: milliseconds => rehearsal.run(milliseconds),
    openForge: async () => await openLocalForge(repository, { now }),
  }
  job = {
    ...common,
    signer: signerOf(jobKey),
    openCluster: async ({ name }) => {
      const cluster = rehearsal.clusters.get(name)
      if (cluster === undefined) throw new Error(`no cluster ${name}`)
      return { ...cluster, close: async () => {} }
    },
    openForge: async () => {
      throw new Error('a Job in the cluster has no business with the forge')
    },
  }
  runner = {
    ...common,
    signer: signerOf(runnerKey),
    openCluster: async () => {
      throw new Error('no runner can reach this cluster')
    },
  }
  await plan({ ...job, openForge: common.openForge }, planOptions(world))
  await mergeAll()
  const head = await repository.head('main')
  const text = (await repository.snapshot(head).read(declaration)) ?? ''
  const changed = text
    .replace(/ {6}cluster:\n {8}context: eu-1\n/, '      cluster: {reports: reports/eu-1, signer: job}\n')
    .replace(
      /$/,
      `  evidence:\n    signers:\n      - ${signerLine('job', jobKey)}\n      - ${signerLine('runner', runnerKey)}\n`,
    )
  expect(changed).toContain('reports/eu-1')
  await commit(repository, head, new Map([[declaration, changed]]), 'A Job in the cluster reports')
}, 300_000)

afterAll(async () => {
  await rehearsal?.close()
  world?.repository.close()
  if (world !== undefined) rmSync(world.folder, { recursive: true, force: true, maxRetries: 3 })
})

describe('a rotation of a cluster that no runner can reach', () => {
  test('begins without it, and waits for a report once something was delivered', async () => {
    expect(await step()).toBe('0-adopt-1-adopt')
    await mergeAll()
    expect(await step()).toBe(`unknown: evidence/report: ${ref} holds no report of ${rotation}`)
  }, 120_000)

  test('goes on by what the Job pushes, under the Job’s signature', async () => {
    await reportUntilHolds()
    expect(await step()).toBe('1-enable-multiroot-1-data')
    await mergeAll()
    const committed = userGit(world.bare, 'show', `main:rotations/${rotation}/evidence/0-adopt.yaml`)
    const [brought] = readWrittenEvidence(`${committed}\n`, 'committed')
    const [reported] = readWrittenEvidence(`${pushed()}\n`, 'pushed')
    expect(brought).toEqual(reported)
    expect(brought?.signature).toContain('SSH SIGNATURE')
  }, 300_000)

  test('does not take the report of the step before for one of the next', async () => {
    expect(await step()).toMatch(
      /^unknown: evidence\/report: it is about phase 0 step 1, and the folder is at phase 1 step 1/,
    )
  })

  test('takes a report for a quarter of an hour, and no longer', async () => {
    await reportUntilHolds()
    const text = pushed()
    const looks = async () => {
      const loaded = await loadRotation(world.repository, asked)
      return await lookAtSites(runner, loaded, await positionsAt(loaded.snapshot, loaded.plan))
    }
    expect((await looks())[0]).toMatchObject({ unseen: null, verdict: { verdict: 'holds' } })
    await rehearsal.run(16 * minute)
    const [stale] = await looks()
    expect(stale?.verdict).toMatchObject({ verdict: 'unknown', gates: [{ id: 'evidence/report' }] })
    expect(stale?.unseen?.message).toContain('longer ago than the 15 minutes')
    expect(pushed()).toBe(text)
  }, 300_000)

  test('takes none that was edited, is signed by the runner, is no evidence, or is of two sites', async () => {
    await reportUntilHolds()
    const text = `${pushed()}\n`
    const signedByRunner = await observe(
      { ...job, signer: signerOf(runnerKey) },
      { rotation: null, base: null, site, wait: null },
    ).catch((error: Error) => error.message)
    expect(signedByRunner).toContain('the signing key is none of those')
    for (const [wrong, because] of [
      [text.replace(/^ready: .*/m, '').replace('complete: true', 'complete: false'), 'does not match its digest'],
      [text.replace(/signature:[\s\S]*$/, ''), 'it is unsigned'],
      ['no evidence\n', 'cannot be read'],
      [text + text, '2 documents'],
    ] as const) {
      await forge(wrong)
      expect(await step(), because).toContain(because)
    }
    await forge(text)
    expect(await step()).toBe('1-enable-multiroot-2-restart')
    await mergeAll()
  }, 300_000)

  test('a report that is older does not take the place of a newer one, and no failure of the Job leaves anything behind', async () => {
    await report()
    const newer = pushed()
    const at = rehearsal.clock.millis()
    const slow: Context = {
      ...job,
      openCluster: async asked => {
        const cluster = await job.openCluster(asked)
        const was = new Date(at - 10 * minute).toISOString()
        return { ...cluster, identity: async () => ({ ...(await cluster.identity()), now: was }) }
      },
    }
    await observe(slow, { rotation: null, base: null, site, wait: null })
    expect(pushed()).toBe(newer)
    const blind: Context = { ...job, openCluster: async () => silent() }
    const { rotations, verdict } = await observe(blind, { rotation: null, base: null, site, wait: null })
    expect(verdict).toBe('unknown')
    expect(rotations[0]?.pushed).toBeNull()
    expect(pushed()).toBe(newer)
  }, 120_000)

  test('a dry run pushes nothing, and a site that nobody declared is an error', async () => {
    const before = await world.repository.refNow(ref)
    await observe({ ...job, dryRun: true }, { rotation: null, base: null, site, wait: null })
    expect(await world.repository.refNow(ref)).toBe(before)
    await expect(observe(job, { rotation: null, base: null, site: 'us-1', wait: null })).rejects.toMatchObject({
      what: 'no open rotation has this site',
      exit: 2,
    })
  }, 120_000)

  test('whoever waits for a step lets go once the base branch has another', async () => {
    const waiting = observe(
      {
        ...job,
        sleep: async milliseconds => {
          await rehearsal.run(milliseconds)
          await backToData()
        },
      },
      { rotation: null, base: null, site, wait: 3_600_000 },
    )
    await expect(waiting).rejects.toMatchObject({
      exit: 3,
      what: expect.stringContaining('is not the one of the base branch'),
    })
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  }, 120_000)
})

describe('a hook that a delivery by Argo CD waits for', () => {
  const revision = async () => await world.repository.head('main')

  /** The cluster as it is, and an Application that is syncing this commit; null: none. */
  function syncing(commitOfSync: string | null): Context {
    return {
      ...job,
      openCluster: async asked => {
        const cluster = await job.openCluster(asked)
        return {
          ...cluster,
          get: async (type, namespace, name) => {
            if (type.plural !== 'applications') return await cluster.get(type, namespace, name)
            const state = { phase: 'Running', syncResult: { revision: commitOfSync } }
            return {
              metadata: { name },
              operation: {},
              spec: { source: { path: 'trust/eu-1' }, syncPolicy: { automated: {} } },
              status: {
                sync: { status: 'Synced', revision: commitOfSync },
                operationState: commitOfSync === null ? {} : state,
              },
            }
          },
        }
      },
    }
  }

  const asHook = { rotation: null, base: null, site, wait: null, hook: true } as const

  test('is refused where Flux delivers', async () => {
    await expect(observe(job, asHook)).rejects.toMatchObject({ exit: 2, what: '--hook is for a hook of Argo CD' })
  })

  test('waits for all gates but the one on the delivery, of the commit that is being synced', async () => {
    const { repository } = world
    const head = await revision()
    const text = (await repository.snapshot(head).read(declaration)) ?? ''
    const byArgo = text
      .replace(/ {6}delivery:\n(?: {8}.*\n)+/, '      delivery: {argocd: {application: argocd/trust}}\n')
      // SOPS under Argo CD is refused without.
      .replace(/^ {4}sops:\n/m, '    sops:\n      ksops: true\n')
    expect(byArgo).toContain('ksops: true')
    expect(byArgo).not.toBe(text)
    const before = await commit(repository, head, new Map([[declaration, byArgo]]), 'As if Argo CD delivered')
    await rehearsal.run(30 * minute)
    await expect(observe(syncing(null), asHook)).rejects.toMatchObject({
      exit: 4,
      what: expect.stringContaining('no hook'),
    })
    const { verdict, gates } = await observe(syncing(before), asHook)
    expect(gates.map(({ id }) => id)).not.toContain('delivery/applied')
    expect(gates.filter(gate => gate.verdict !== 'holds').map(({ id, because }) => [id, because])).toEqual([])
    expect(verdict).toBe('holds')
    const without = await observe(syncing(before), { ...asHook, hook: false })
    expect(without.gates.find(({ id }) => id === 'delivery/applied')?.verdict).toBe('pending')
    await forward()
    await expect(observe(syncing(before), asHook)).rejects.toMatchObject({ exit: 3 })
  }, 180_000)
})

test('a folder that matches no step is unknown to whoever waits, and nothing is reported of it', async () => {
  const { repository } = world
  const before = await repository.refNow(ref)
  const head = await repository.head('main')
  const text = (await repository.snapshot(head).read('trust/eu-1/trust.txt')) ?? ''
  await commit(repository, head, new Map([['trust/eu-1/trust.txt', `${text}by hand\n`]]), 'Edit the folder by hand')
  const { verdict, passed, rotations } = await observe(job, { rotation: null, base: null, site, wait: null })
  expect({ verdict, rotations, passed }).toMatchObject({ verdict: 'unknown', rotations: [], passed: [{ rotation }] })
  expect(await repository.refNow(ref)).toBe(before)
}, 60_000)

/** The folder as it was one merge before, by hand. */
async function backToData(): Promise<void> {
  await to('1-enable-multiroot/1-data')
}

async function forward(): Promise<void> {
  await to('1-enable-multiroot/2-restart')
}

async function to(place: string): Promise<void> {
  const { repository } = world
  const head = await repository.head('main')
  const loaded = await loadRotation(repository, asked)
  const files = await repository.snapshot(head).readFolder(`rotations/${rotation}/phases/${place}/${site}`)
  const path = loaded.plan.sites[0]?.path ?? ''
  const paths = [...(await repository.snapshot(head).list(path)).keys()]
  const changes = new Map<string, string | null>(paths.map(each => [each, null]))
  for (const [file, text] of files) changes.set(`${path}/${file}`, text)
  await commit(repository, head, changes, `To ${place} by hand`)
}

function silent() {
  const cluster = rehearsal.clusters.get(site)
  if (cluster === undefined) throw new Error('no cluster')
  return {
    ...cluster,
    identity: async () => {
      const { ClusterError } = await import('../../src/cluster/cluster.ts')
      throw new ClusterError('unreachable', 'get namespace kube-system', 'no answer')
    },
    close: async () => {},
  }
}
