/** Cassandra's server CA in one region from `init` to the closed rotation through a real Gitea, with no hand in between. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cassandraArgoFleet, cassandraFleet } from './rig/cassandra-fleet.ts'
import { rotateRing } from './rig/cassandra-rotation.ts'
import {
  type CassandraRing,
  issuerServed,
  startCassandraRing,
  startCassandraRingUnderArgo,
} from './rig/cassandra-world.ts'
import { containerOf } from './rig/faults.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { report } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { gatesMerged, type Round } from './rig/unattended.ts'
import { failuresText, recordOf } from './rig/watch.ts'

const names = ['eu-1']
const replicas = 3
/** The program of KSOPS, which no registry of Go modules has: the rotation under Argo CD runs by hand. */
const ksops = process.env.REANCHOR_KSOPS ?? ''

interface World {
  readonly deliverer: string
  /** A node dies in the middle. */
  readonly loses?: true
  readonly flags?: readonly string[]
  fleet(): Promise<ForgeFleet>
  ring(network: Network, fleet: ForgeFleet): Promise<CassandraRing>
}

const underFlux: World = {
  deliverer: 'Flux',
  loses: true,
  fleet: () => makeForgeFleet((_url, recipient) => cassandraFleet(recipient, names, replicas)),
  ring: (network, repository) => startCassandraRing({ network, repository, regions: names, replicas }),
}
const underArgo: World = {
  deliverer: 'Argo CD with KSOPS',
  flags: ['--ksops'],
  fleet: () => makeForgeFleet((url, recipient) => cassandraArgoFleet(url, recipient, names, replicas)),
  ring: (network, repository) => startCassandraRingUnderArgo({ network, repository, regions: names, replicas }, ksops),
}

for (const { deliverer, loses = false, flags = [], ...world } of ksops === '' ? [underFlux] : [underFlux, underArgo]) {
  describe(`Cassandra through a real Gitea and ${deliverer}, with nobody who looks`, () => {
    let network: Network
    let fleet: ForgeFleet
    let ring: CassandraRing

    beforeAll(async () => {
      network = await createNetwork()
      fleet = await world.fleet()
      ring = await world.ring(network, fleet)
    }, 1_200_000)

    afterAll(async () => {
      await ring?.stop()
      await fleet?.close()
      await network?.close()
    })

    it(`goes from init to the closed rotation; no node is lost${loses ? ', nor is one that dies in the middle,' : ''} and no query fails`, async () => {
      const death = loses ? killsOne(ring) : null
      const { record, traffic, trusted, presented } = await rotateRing(ring, fleet, 'first', {
        flags,
        ...(death === null ? {} : { onRound: death.look }),
      })
      await report({
        ...recordOf(`Cassandra through a real Gitea and ${deliverer}, unattended: one region`, record, traffic),
        ...{ refused: record.refused, trusted, presented },
      })
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '0-adopt/1-adopt',
        '1-add/1-data',
        '2-swap/1-data',
        '3-drop/1-data',
        '4-close',
      ])
      expect(record.merges).toHaveLength(record.steps.length)
      expect(gatesMerged(record)).toEqual(['success'])
      expect(record.refused).toBeGreaterThan(0)
      expect(trusted).toEqual(['eu-1: o=ca', 'eu-1: o=ca,o=example-first', 'eu-1: o=example-first'])
      expect(presented.at(0)).toBe('eu-1: ca')
      expect(presented.at(-1)).toBe('eu-1: example-first')
      for (const step of record.steps.slice(1, -1)) expect(step.consumers.node, step.step).toBe(replicas)
      expect(failuresText(traffic)).toEqual([])
      expect(traffic.slice(0, -1).every(step => step.sent > 0)).toBe(true)
      const [region] = ring.regions
      const nodes = region?.nodes() ?? []
      expect(nodes.map(pod => pod.restarts('cassandra'))).toEqual([0, 0, 0])
      for (const { address } of nodes) expect(await issuerServed(address)).toBe('O = example-first')
      await ring.whole()
      if (death === null) return
      const { at, back } = await death.lasted()
      const next = record.merges.map(({ mergedAt }) => Date.parse(mergedAt)).find(merged => merged > at)
      expect(next).toBeGreaterThan(back)
    }, 3_600_000)
  })
}

/** A node that dies once all have restarted for the swap, before the gate has let go. Another one is never down then, so that QUORUM holds. */
function killsOne({ regions: [region] }: CassandraRing) {
  let at: number | null = null
  let back: Promise<number> | null = null
  return {
    async look({ kind, buttons }: Round): Promise<void> {
      if (at !== null || region === undefined || kind !== 'waiting') return
      if (!buttons.merges.some(({ branch }) => branch.includes('/2-swap-'))) return
      const nodes = region.nodes()
      const issuers = await Promise.all(nodes.map(({ address }) => issuerServed(address)))
      const [, victim] = nodes
      if (victim === undefined || issuers.some(issuer => issuer !== 'O = example-first')) return
      await region.ready()
      at = Date.now()
      await region.kubelet.kill(victim, 'cassandra')
      back = until(
        'the node is back',
        async () => {
          const { restartCount, ready } = await containerOf(region.plane, victim, 'cassandra')
          return restartCount === 1 && ready && Date.now()
        },
        600_000,
        500,
      )
      back.catch(() => {})
    },
    /** Milliseconds since 1970, of its death and of when it was ready again; throws where that never was. */
    async lasted(): Promise<{ readonly at: number; readonly back: number }> {
      if (at === null || back === null) throw new Error('no node died')
      return { at, back: await back }
    },
  }
}
