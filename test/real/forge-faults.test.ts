/**
 * Istio through a real Gitea with nobody who looks, while the forge, the way to it and the runner's own disk break at one step after the other. None of it
 * leads to a pull request that should not be there, and each time the rotation goes on by itself.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { type Gitea, startGitea } from '../forges/gitea.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { type Asked, type ForgeFront, startFront } from './rig/forge-front.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Said } from './rig/reanchor.ts'
import { report, shortGates, stepOf } from './rig/rotation.ts'
import { fluxShopFiles, hasReached, shopInit, shopNamespace, shopSteps, startFluxShop } from './rig/shop.ts'
import { mountTinyDisk, type TinyDisk } from './rig/tiny-disk.ts'
import { gatesMerged, unattended } from './rig/unattended.ts'
import { byStep, failuresText, held, plannedTrust, recordOf } from './rig/watch.ts'
import type { FluxCluster } from './rig/world.ts'

const workloads = ['frontend', 'cart', 'orders']

interface Fault {
  readonly what: string
  /** Begins while this step, or one after it, is the last one that was merged. */
  readonly at: string
  readonly begin: () => Promise<void> | void
  /** Whether it has lasted for long enough, after so many rounds of the runner. */
  readonly over: (rounds: number) => boolean
  readonly end?: () => Promise<void> | void
  /** Whether a round must go wrong meanwhile; null: it may, or be made good within the round. */
  readonly hurts: boolean | null
}

interface Suffered extends Pick<Fault, 'what' | 'hurts'> {
  readonly seconds: number
  readonly rounds: readonly string[]
  /** Pull requests that there were before it and after it. */
  readonly before: number
  readonly after: number
}

describe('Istio through a Gitea that breaks', () => {
  let network: Network
  let folder: string
  let front: ForgeFront
  let gitea: Gitea
  let disk: TinyDisk
  let fleet: ForgeFleet
  let cluster: FluxCluster

  beforeAll(async () => {
    network = await createNetwork()
    folder = await mkdtemp(join(tmpdir(), 'ra-forge-'))
    front = await startFront(inject('certificate'))
    await mkdir(join(folder, 'gitea'))
    gitea = await startGitea(join(folder, 'gitea'), inject('certificate'), front.port)
    front.to(gitea.port)
    disk = await mountTinyDisk(join(folder, 'disk'), 24)
    fleet = await makeForgeFleet((_url, recipient) => fluxShopFiles(recipient), gitea)
    cluster = await startFluxShop(network, fleet, workloads)
  }, 900_000)

  afterAll(async () => {
    await cluster?.stop()
    await fleet?.close()
    await disk?.close()
    await front?.close()
    await gitea?.close()
    await network?.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  })

  const requests = (): Promise<readonly { readonly number: number; readonly head: { readonly ref: string } }[]> =>
    fleet.api('GET', `/repos/${fleet.name}/pulls?state=all&limit=50`)

  const pushes = ({ method, path, body }: Asked): boolean =>
    method === 'POST' && path.endsWith('/git-receive-pack') && body.includes('refs/heads/reanchor/')
  const opens = ({ method, path }: Asked): boolean => method === 'POST' && /\/pulls$/.test(path)
  const once = (hurts: true | null) => ({ hurts, over: (): boolean => front.befell() })

  const faults = (): readonly Fault[] => [
    {
      what: 'Gitea killed: its proxy answers 502',
      at: '0-adopt/1-adopt',
      begin: () => gitea.kill(),
      over: rounds => rounds >= 3,
      end: () => gitea.start(),
      hurts: true,
    },
    {
      what: 'Gitea and its proxy away: connections are refused',
      at: '1-enable-multiroot/1-data',
      async begin() {
        await front.shut()
        await gitea.kill()
      },
      over: rounds => rounds >= 3,
      async end() {
        await gitea.start()
        await front.open()
      },
      hurts: true,
    },
    {
      what: 'every answer half a second late',
      at: '1-enable-multiroot/2-restart',
      begin: () => front.slow(500),
      over: rounds => rounds >= 1,
      end: () => front.slow(0),
      hurts: false,
    },
    {
      what: 'the connection cut in the middle of the push of the next step',
      at: '2-trust-both/1-data',
      begin: () => front.befall({ matches: pushes, passes: 300 }),
      ...once(true),
    },
    {
      what: 'the push of the next step taken, and its answer lost',
      at: '2-trust-both/2-restart',
      begin: () => front.befall({ matches: pushes, passes: 'all' }),
      ...once(null),
    },
    {
      what: 'the pull request opened, and the answer lost',
      at: '3-issue-new/1-data',
      begin: () => front.befall({ matches: opens, passes: 'all' }),
      ...once(null),
    },
    {
      what: 'the disk of the runner full',
      at: '3-issue-new/2-restart',
      begin: () => disk.fill(),
      over: rounds => rounds >= 3,
      end: () => disk.free(),
      hurts: true,
    },
    {
      what: 'Gitea killed after the first bytes of the push of the next step',
      at: '4-trust-new/1-data',
      begin: () => front.befall({ matches: pushes, passes: 300, after: () => gitea.kill() }),
      over: () => front.befell(),
      end: () => gitea.start(),
      hurts: null,
    },
  ]

  it('opens nothing that should not be there, loses no request, and comes to its end', async () => {
    const since = Date.now()
    const left = [...faults()]
    const suffered: Suffered[] = []
    let now: { fault: Fault; from: number; before: number; rounds: string[] } | null = null
    const record = await unattended({
      system: 'istio',
      name: 'first',
      fleet,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: shopInit,
      edit: shortGates,
      // A runner that could not give its lock back stands in its successor's way for so long.
      run: ['--lock-for', '1m'],
      folder: disk.clone,
      env: disk.env,
      // What a fault may end a round with; each is looked at below.
      tolerates: () => now !== null,
      async onRound({ step, kind, said }) {
        if (now !== null) {
          now.rounds.push(`${said.exit} ${kind}: ${firstLine(said)}`)
          if (now.fault.over(now.rounds.length)) {
            const { fault, from, before, rounds } = now
            await fault.end?.()
            const after = (await requests()).length
            const { what, hurts } = fault
            suffered.push({ what, hurts, seconds: (Date.now() - from) / 1000, rounds, before, after })
            now = null
          }
        }
        const next = left[0]
        if (now === null && next !== undefined && hasReached(step, next.at)) {
          left.shift()
          now = { fault: next, from: Date.now(), before: (await requests()).length, rounds: [] }
          await next.begin()
        }
      },
    })
    const traffic = await byStep([cluster], record, since)
    await report({
      ...recordOf('Istio through a real Gitea that breaks, unattended', record, traffic),
      ...{ refused: record.refused, suffered },
    })
    expect(left.map(({ what }) => what)).toEqual([])
    expect(record.steps.map(step => step.step)).toEqual(shopSteps)
    // Every pull request that there ever was: each step once.
    const all = (await requests()).map(({ number, head }) => ({ number, step: stepOf(head.ref, 'first') }))
    all.sort((one, other) => one.number - other.number)
    expect(all.map(({ step }) => step)).toEqual(shopSteps)
    expect(gatesMerged(record)).toEqual(['success'])
    for (const { what, hurts, before, after, rounds } of suffered) {
      // At most the step that was due.
      expect(after - before, what).toBeLessThanOrEqual(1)
      // A forge that is away ends a round with 3 as gates do, but with no answer.
      const wrong = rounds.filter(round => !/^[03] (?:opened|open|waiting|done):/.test(round))
      if (hurts === true) expect(wrong.length, what).toBeGreaterThan(0)
      if (hurts === false) expect(wrong, what).toEqual([])
    }
    expect(failuresText(traffic)).toEqual([])
    const { roots, issuers } = await plannedTrust(fleet, 'first')
    expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers })
    const refs = await fleet.git('ls-remote', 'origin', 'refs/reanchor/*')
    expect(refs).toBe('')
  }, 2_400_000)
})

function firstLine({ stderr, stdout }: Said): string {
  return (stderr.trim() === '' ? stdout : stderr).trim().split('\n').slice(0, 3).join(' / ').slice(0, 300)
}
