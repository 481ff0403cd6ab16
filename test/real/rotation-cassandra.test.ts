/** A whole rotation of Cassandra's server CA: real nodes, and a CQL client that writes and reads at QUORUM, for which every coordinator needs another node. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cassandraFleet, cassandraNames } from './rig/cassandra-fleet.ts'
import {
  aliasesOf,
  type CassandraAuthorities,
  type CassandraRegion,
  makeCassandraAuthorities,
  startCassandraRegion,
} from './rig/cassandra-world.ts'
import { output } from './rig/components.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { byStep, failuresText, recordOf } from './rig/watch.ts'

const { namespace } = cassandraNames
const names = ['eu-1']
const replicas = 3

describe('a rotation of Cassandra', () => {
  let network: Network
  let authorities: CassandraAuthorities
  let repository: FleetRepository
  let regions: CassandraRegion[]

  beforeAll(async () => {
    network = await createNetwork()
    authorities = await makeCassandraAuthorities()
    repository = await makeRepository((_url, recipient) => cassandraFleet(recipient, names, replicas))
    regions = []
    for (const [number, name] of names.entries()) {
      const options = { name, network, number, repository, authorities, regions: names, replicas }
      regions.push(await startCassandraRegion(options))
    }
    for (const region of regions) await region.ready()
    for (const region of regions) await region.ask(Object.fromEntries(names.map(name => [name, replicas])))
    await until(
      'queries are answered',
      async () => {
        for (const { traffic } of regions) {
          const { sent, failed } = await traffic.read(Date.now() - 10_000)
          if (sent < 10 || failed > 0) return false
        }
        return true
      },
      300_000,
      1000,
    )
  }, 1_200_000)

  afterAll(async () => {
    for (const region of regions ?? []) await region.stop()
    await repository?.close()
    await authorities?.close()
    await network?.close()
  })

  it('goes from init to the closed rotation; no node is lost and no query fails', async () => {
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
    for (const { kubelet, name } of regions) {
      const nodes = kubelet.find(namespace, `example-cassandra-${name}`)
      expect(nodes.map(pod => pod.restarts('cassandra'))).toEqual(nodes.map(() => 0))
      expect(nodes).toHaveLength(replicas)
      for (const { address } of nodes) expect(await issuerServed(address)).toBe('O = example-first')
    }
  }, 3_600_000)
})

/** Who signed what a node presents to other nodes, past the product. */
async function issuerServed(address: string): Promise<string> {
  const said = await output('bash', ['-c', `openssl s_client -connect ${address}:7001 </dev/null 2>/dev/null || true`])
  return /^issuer=(.*)$/m.exec(said)?.[1] ?? said
}
