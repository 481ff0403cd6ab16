/** A whole rotation of Cassandra's server CA: real nodes, and a CQL client that writes and reads at QUORUM, for which every coordinator needs another node. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cassandraFleet } from './rig/cassandra-fleet.ts'
import { aliasesOf, type CassandraRing, issuerServed, startCassandraRing } from './rig/cassandra-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { byStep, failuresText, recordOf } from './rig/watch.ts'

const names = ['eu-1']
const replicas = 3

describe('a rotation of Cassandra', () => {
  let network: Network
  let repository: FleetRepository
  let ring: CassandraRing

  beforeAll(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) => cassandraFleet(recipient, names, replicas))
    ring = await startCassandraRing({ network, repository, regions: names, replicas })
  }, 1_200_000)

  afterAll(async () => {
    await ring?.stop()
    await repository?.close()
    await network?.close()
  })

  it('goes from init to the closed rotation; no node is lost and no query fails', async () => {
    const { regions, authorities } = ring
    const since = Date.now()
    const trusted: string[] = []
    const record = await rotate({
      system: 'cassandra',
      name: 'first',
      repository,
      administrator: regions.map(({ plane }) => plane.kubeconfig),
      verifier: regions.map(({ verifier }) => verifier),
      init: names.flatMap(name => ['--site', `${name}=trust/${name}`, '--context', `${name}=${name}`]),
      edit: shortGates,
      patience: 1_200_000,
      async onOpened() {
        trusted.push((await Promise.all(regions.map(({ plane }) => aliasesOf(plane, authorities.folder)))).join(' | '))
        return true
      },
    })
    const traffic = await byStep(regions, record, since)
    await report(recordOf('Cassandra 5.0.5, one region of three nodes: graceful', record, traffic))
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-add/1-data',
      '2-swap/1-data',
      '3-drop/1-data',
      '4-close',
    ])
    // What Java reads of the truststore that the nodes got, whenever a pull request was opened.
    expect([...new Set(trusted)]).toEqual(['o=ca', 'o=ca,o=example-first', 'o=example-first'])
    for (const step of record.steps.slice(1, -1)) expect(step.consumers.node, step.step).toBe(replicas * names.length)
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.slice(0, -1).every(step => step.sent > 0)).toBe(true)
    for (const region of regions) {
      const nodes = region.nodes()
      expect(nodes.map(pod => pod.restarts('cassandra'))).toEqual(nodes.map(() => 0))
      expect(nodes).toHaveLength(replicas)
      for (const { address } of nodes) expect(await issuerServed(address)).toBe('O = example-first')
    }
    await ring.whole()
  }, 3_600_000)
})
