import { afterEach, expect, it } from 'vitest'
import { rotate } from '../../../src/commands/demo.ts'
import { loadRotation } from '../../../src/commands/rotation.ts'
import { type CassandraTestWorld, cassandraWorld } from './world.ts'

let test: CassandraTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

it('takes a region from init to the closed rotation: three restarts of every node as planned, and no failed handshake (F5)', async () => {
  test = await cassandraWorld({ seed: 'whole' })
  const { world, secret } = test
  const old = secret('eu-1')
  await rotate(world)
  expect(world.phases.map(({ name }) => name)).toEqual(['adopt', 'add', 'swap', 'drop', 'close'])
  expect(world.rehearsal.handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
  expect(world.rehearsal.handshakes.counts.attempted).toBeGreaterThan(100)
  expect(world.rehearsal.restarts()).toEqual([
    { consumer: 'cassandra/StatefulSet/example-cassandra-eu-1', site: 'eu-1', count: 3 },
  ])
  expect((await loadRotation(world.repository, { rotation: 'first', base: 'main' })).closed).toBe(true)
  expect(Object.keys(secret('eu-1'))).toEqual(['ca.crt', 'ca.key'])
  expect(secret('eu-1')['ca.crt']).not.toBe(old['ca.crt'])
}, 120_000)
