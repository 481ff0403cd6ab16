/** Three clusters of one mesh through a real Gitea, in each kind of roll-out, while one of them is out of reach, goes back in time, or has the wrong time. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments, parseDocument } from 'yaml'
import type { GateResult } from '../../src/rotation.ts'
import { type ApiFront, startApiFront } from './rig/api-front.ts'
import { type MeshSite, meshFleet, meshNamespace, startMesh } from './rig/clusters.ts'
import { type ButtonPresser, type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Said } from './rig/reanchor.ts'
import { report, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import type { TrafficFailure } from './rig/traffic.ts'
import { type Round, type UnattendedOptions, type UnattendedRecord, unattended } from './rig/unattended.ts'
import { byStep, failuresText, held, plannedTrust, ready, recordOf } from './rig/watch.ts'
import type { FluxCluster } from './rig/world.ts'

const [eu, us, ap] = [
  { name: 'eu-1', workloads: ['frontend'] },
  { name: 'us-1', workloads: ['orders'] },
  { name: 'ap-1', workloads: ['stock'] },
] as const satisfies readonly MeshSite[]
const sites: readonly MeshSite[] = [eu, us, ap]
const names = sites.map(({ name }) => name)
const workloads = sites.flatMap(site => site.workloads)

/** `parallel`, `serial`, or the names of the sites that enter a step together. */
type Rollout = 'parallel' | 'serial' | readonly (readonly string[])[]

/** Evidence of one site at one step. */
interface Seen {
  readonly site: string
  readonly phase: number
  readonly step: number
  readonly to: string
}

describe('three clusters of one mesh, with nobody who looks', () => {
  let network: Network
  let fleet: ForgeFleet
  let clusters: readonly FluxCluster[] = []
  /** By site: what the runner reaches each cluster through. */
  const fronts = new Map<string, ApiFront>()

  beforeAll(async () => {
    network = await createNetwork()
    fleet = await makeForgeFleet((_url, recipient) => meshFleet(recipient, sites))
    clusters = await startMesh(network, fleet, sites)
    for (const { plane, verifier } of clusters) fronts.set(plane.name, await startApiFront(plane, verifier))
  }, 1_200_000)

  afterAll(async () => {
    for (const front of fronts.values()) await front.stop()
    for (const cluster of clusters) await cluster.stop()
    await fleet?.close()
    await network?.close()
  })

  function frontOf(site: string): ApiFront {
    const front = fronts.get(site)
    if (front === undefined) throw new Error(`no front of ${site}`)
    return front
  }

  function clusterOf(site: string): FluxCluster {
    const found = clusters.find(({ plane }) => plane.name === site)
    if (found === undefined) throw new Error(`no cluster ${site}`)
    return found
  }

  function options(name: string, rollout: Rollout): UnattendedOptions {
    return {
      system: 'istio',
      name,
      fleet,
      administrator: clusters.map(({ plane }) => plane.kubeconfig),
      verifier: names.map(site => frontOf(site).kubeconfig),
      init: names.flatMap(site => ['--site', `${site}=trust/${site}`, '--context', `${site}=${site}`]),
      edit(text) {
        const document = parseDocument(shortGates(text))
        document.setIn(['spec', 'rollout'], typeof rollout === 'string' ? rollout : { batches: rollout })
        return document.toString()
      },
      patience: 600_000,
    }
  }

  async function told(what: string, record: UnattendedRecord, since: number) {
    const traffic = await byStep(clusters, record, since)
    await report({
      ...recordOf(`Istio, three clusters, through Gitea: ${what}`, record, traffic),
      refused: record.refused,
    })
    expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
    return traffic
  }

  async function expectNewTrust(name: string): Promise<void> {
    const { roots, issuers } = await plannedTrust(fleet, name)
    expect(issuers).toHaveLength(names.length)
    const ends = await Promise.all(clusters.map(cluster => held(cluster, meshNamespace)))
    expect(ends.map(end => end.roots)).toEqual(names.map(() => roots))
    expect(ends.flatMap(end => end.issuers).sort()).toEqual(issuers)
  }

  it('parallel: while one is out of reach nothing opens, and no site begins a step before all have ended the one before', async () => {
    const since = Date.now()
    const trouble = watchTrouble({
      begins: waitsAfter('trust-both-1-data'),
      begin: () => frontOf('us-1').silence(true),
      end: () => frontOf('us-1').silence(false),
    })
    const record = await unattended({ ...options('first', 'parallel'), onRound: trouble.look })
    const traffic = await told('parallel, one out of reach', record, since)
    expect(failuresText(traffic)).toEqual([])
    expect(trouble.merged()).toBe(0)
    for (const gates of trouble.seen()) {
      const ofIt = gates.filter(({ site }) => site === 'us-1')
      expect(ofIt.map(({ verdict }) => verdict)).toContain('unknown')
      expect(ofIt.flatMap(({ because }) => because).join('\n')).toMatch(
        /no answer|did not answer|not reached|timed out/,
      )
    }

    await fleet.pull()
    const folder = join(fleet.clone, 'rotations/first/evidence')
    const evidence: Seen[] = []
    for (const file of await readdir(folder)) {
      for (const document of parseAllDocuments(await readFile(join(folder, file), 'utf8')))
        evidence.push(document.toJS())
    }
    const steps = record.steps.filter(({ step }) => step.includes('/'))
    expect(steps).toHaveLength(9)
    for (const [index, { step }] of steps.entries()) {
      const next = record.steps[index + 2]
      const seen = evidence.filter(each => step.startsWith(`${each.phase}-`) && step.includes(`/${each.step}-`))
      expect(seen.map(each => each.site).sort(), step).toEqual([...names].sort())
      for (const each of seen) expect(Date.parse(each.to), step).toBeLessThanOrEqual(Date.parse(next?.mergedAt ?? ''))
    }
    // Each asked each, most of them across the clusters.
    const asked = new Set<string>()
    for (const { traffic: watch } of clusters) {
      for (const { from, to, sent } of (await watch.read(since)).pairs) if (sent > 0) asked.add(`${from} ${to}`)
    }
    expect(asked.size).toBe(workloads.length * (workloads.length - 1))
    await expectNewTrust('first')
  }, 2_400_000)

  it('serial: one that is restored from before all trusted both keeps every site from issuing until it has caught up', async () => {
    const since = Date.now()
    const cluster = clusterOf('us-1')
    const backup = await cluster.plane.backUp()
    const restored = { from: Number.POSITIVE_INFINITY, to: Number.POSITIVE_INFINITY }
    const trouble = watchTrouble({
      // Every other site has been seen with both roots, and the last one is about to be: what comes next is the first new issuer.
      begins: ({ kind, said, buttons }) =>
        (kind === 'waiting' && mergesOf('trust-both-2-restart', buttons) === 3) ||
        (kind === 'opened' && titleOf(said).includes('phase 1 of 3, step 2 of 2) · ap-1')),
      async begin({ buttons }) {
        await until('the last site got its restart', () => mergesOf('trust-both-2-restart', buttons) === 3)
        restored.from = Date.now()
        // Its administrators bring up the delivery last.
        cluster.source.hold(true)
        await cluster.flux.kill()
        await cluster.plane.restore(backup)
      },
      async end() {
        cluster.source.hold(false)
        await cluster.flux.start()
      },
    })
    const record = await unattended({
      ...options('second', 'serial'),
      async onRound(round) {
        await trouble.look(round)
        if (trouble.over() && restored.to === Number.POSITIVE_INFINITY) {
          await ready(cluster, meshNamespace, us.workloads)
          restored.to = Date.now()
        }
      },
    })
    const traffic = await told('serial, one restored from an older state', record, since)
    expect(record.steps.map(({ step }) => step.replace(/-(?:eu|us|ap)-1$/, ''))).toEqual([
      'plan',
      ...['1-trust-both/1-data', '1-trust-both/2-restart', '2-issue-new/1-data', '2-issue-new/2-restart'].flatMap(
        thrice,
      ),
      ...['3-trust-new/1-data', '3-trust-new/2-restart'].flatMap(thrice),
      '4-close',
    ])
    expect(trouble.merged()).toBe(0)
    for (const gates of trouble.seen())
      expect(gates.filter(({ site }) => site === 'us-1').map(({ verdict }) => verdict)).not.toEqual([])
    // Pods of that cluster were taken away and others put there: whoever asked them then got no answer, and nobody else.
    const mine = new Set<string>(us.workloads)
    const others = (failure: TrafficFailure): boolean => {
      const at = Date.parse(failure.at)
      return !(mine.has(failure.from) || mine.has(failure.to)) || at < restored.from || at > restored.to
    }
    expect(traffic.flatMap(({ failures }) => failures.filter(others))).toEqual([])
    await expectNewTrust('second')
  }, 3_600_000)

  it('batched: one whose clock is wrong opens nothing while it is, in either direction, and a minute is no matter', async () => {
    const since = Date.now()
    const minute = 60_000
    const troubles = [
      { after: 'trust-both-1-data', off: 10 * minute },
      { after: 'issue-new-1-data', off: -30 * minute },
    ].map(({ after, off }) =>
      watchTrouble({
        begins: waitsAfter(after),
        begin: () => frontOf('ap-1').clock(off),
        // From then on within what any two clocks may differ.
        end: () => frontOf('ap-1').clock(Math.sign(off) * 30_000),
      }),
    )
    const record = await unattended({
      ...options('third', [['eu-1'], ['us-1', 'ap-1']]),
      async onRound(round) {
        for (const trouble of troubles) await trouble.look(round)
      },
    })
    const traffic = await told('in two batches, one whose clock is wrong', record, since)
    expect(failuresText(traffic)).toEqual([])
    for (const trouble of troubles) {
      expect(trouble.merged()).toBe(0)
      for (const gates of trouble.seen()) {
        const ofIt = gates.filter(({ site }) => site === 'ap-1')
        expect(ofIt.map(({ hint }) => hint ?? '').join('\n')).toContain('set the clocks')
      }
    }
    await expectNewTrust('third')
  }, 2_400_000)
})

/** How many pull requests of a step were merged: one for each batch. */
function mergesOf(step: string, buttons: ButtonPresser): number {
  return buttons.merges.filter(({ branch }) => branch.includes(`-${step}`)).length
}

/** That nothing is open, and a step was merged: a look may come too late for any one of them. */
function waitsAfter(step: string): (round: Round) => boolean {
  return ({ kind, buttons }) => kind === 'waiting' && mergesOf(step, buttons) > 0
}

function titleOf({ json }: Said): string {
  return (json as { readonly pullRequest?: { readonly title: string } } | null)?.pullRequest?.title ?? ''
}

const thrice = (step: string): readonly string[] => [step, step, step]

interface Trouble {
  /** For `onRound`. */
  look(round: Round): Promise<void>
  over(): boolean
  /** How many pull requests were merged while it lasted. */
  merged(): number
  /** Gates of each round while it lasted; throws where it never came, or ended early. */
  seen(): readonly (readonly GateResult[])[]
}

/** Rounds that go by while it lasts. */
const rounds = 3

function watchTrouble(what: {
  readonly begins: (round: Round) => boolean
  readonly begin: (round: Round) => void | Promise<void>
  readonly end: () => void | Promise<void>
}): Trouble {
  const seen: (readonly GateResult[])[] = []
  let state: 'before' | 'under way' | 'over' = 'before'
  let before = 0
  let after = 0
  return {
    async look(round) {
      const merged = round.buttons.merges.length
      if (state === 'before' && what.begins(round)) {
        await what.begin(round)
        before = round.buttons.merges.length
        state = 'under way'
      } else if (state === 'under way') {
        expect(['waiting', 'later'], JSON.stringify(round.said)).toContain(round.kind)
        seen.push(round.gates)
        if (seen.length < rounds) return
        after = merged
        await what.end()
        state = 'over'
      }
    },
    over: () => state === 'over',
    merged: () => after - before,
    seen() {
      if (seen.length !== rounds) throw new Error(`it lasted for ${seen.length} rounds`)
      return seen
    },
  }
}
