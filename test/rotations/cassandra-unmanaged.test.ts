import { afterEach, expect, it } from 'vitest'
import { advanceUntil, planAndMerge, recordMerge } from '../../src/commands/demo.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { outsidersOf } from '../../src/rehearsal/cassandra/fleet.ts'
import { listAt, type StoredObject, textAt } from '../../src/rehearsal/objects.ts'
import { bundleDigest } from '../../src/verify/planned.ts'
import { type CassandraTestWorld, cassandraWorld } from '../rehearsal/cassandra/world.ts'
import { screens } from './cassandra-screens.ts'
import { commitWord, waiting } from './cassandra-words.ts'
import { closeRequest, isClosed, mergeVariant, openStep } from './drive.ts'

let test: CassandraTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

/** Until the first node has restarted and the last has not. */
async function halfWay({ world, pods }: CassandraTestWorld): Promise<void> {
  const before = new Set(pods('eu-1').map(pod => pod.metadata.uid))
  for (let round = 0; round < 60; round += 1) {
    await world.rehearsal.run(5_000)
    const born = pods('eu-1').filter(pod => !before.has(pod.metadata.uid))
    if (born.length === 1 && born.every(isReady)) return
  }
  throw new Error('no node restarted by itself')
}

function isReady(pod: StoredObject): boolean {
  return listAt(pod, 'status', 'conditions').some(
    condition => textAt(condition, 'type') === 'Ready' && textAt(condition, 'status') === 'True',
  )
}

it('goes with a region that no operator looks after: no step opens before a person vouches for it, about that very phase and bundle, on the way back too (F20, F26)', async () => {
  test = await cassandraWorld({ variant: 'unmanaged-region', seed: 'unmanaged' })
  const { world } = test
  const { attested: name } = outsidersOf['unmanaged-region']
  await planAndMerge(world)
  const { plan } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  const bundleOf = (phase: number): string => {
    const state = plan.phases[phase]?.steps[0]?.sites['eu-1']?.state
    if (state === undefined) throw new Error(`no phase ${phase}`)
    return bundleDigest(plan, state)
  }
  const add = await openStep(world, 'add')
  // Of settings a reviewer has to know one: the operator's checksum, by which it is seen at work.
  const checksum = plan.phases[1]?.steps[0]?.sites['eu-1']?.state.settings.checksum
  expect(add.body).not.toContain('**setting**')
  expect(add.body).toContain(`the operator writes \`${checksum}\` into the annotation`)
  await recordMerge(world, add)
  await halfWay(test)
  const seen = await screens(world)
  expect(seen.status).toContain('the next pull request is 2-swap/1-data for eu-1')
  for (const text of [seen.live, seen.verify]) {
    // Each node that lags is named once, and is not taken for one that cannot be reached.
    expect(text.match(/example-cassandra-eu-1-0: has not restarted since/g)).toHaveLength(1)
    expect(text).toMatch(/[12] of 3 nodes have not come that far: see “every node is ready/)
    expect(text).toContain('status.ready is not true')
    expect(text).toContain('so it is while nodes restart')
    expect(text).not.toContain('port-forward')
    expect(text).toContain('`reanchor attest on-premises --phase 1`')
  }
  // Nodes before and after their restart stand in groups of their own, and are counted together.
  const [old = '', fresh = ''] = seen.inspect.split('O=example-first')
  expect(old).toMatch(/used by {3}[23] nodes of cassandra\/StatefulSet\/example-cassandra-eu-1/)
  expect(fresh).toMatch(/used by {3}[12] nodes? of cassandra\/StatefulSet\/example-cassandra-eu-1/)
  await world.rehearsal.run(10 * 60_000)
  for (const word of [
    { phase: 1, bundle: bundleOf(2) },
    { phase: 3, bundle: bundleOf(1) },
  ]) {
    await commitWord(world, { name, ...word })
    expect(await waiting(world)).toEqual({
      'cassandra/attested': `on-premises: no word yet for bundle ${bundleOf(1).slice(0, 12)} | ask its owner whether all trust the new CA beside the old one, then run \`reanchor attest on-premises --phase 1\``,
    })
  }
  // From here on people of the demo do what they are asked, and say so.
  await closeRequest(world, await openStep(world, 'drop'))
  await mergeVariant(world, 'undo')
  await world.rehearsal.run(10 * 60_000)
  // Forward again would be safe; a further step back is not, before it has left the new CA.
  const back = await waiting(world, { abandon: true })
  expect(Object.keys(back)).toEqual(['cassandra/attested'])
  expect(back['cassandra/attested']).toContain('whether all present certificates of the old CA again')
  await advanceUntil(world, () => false)
  expect(await isClosed(world)).toBe(true)
  const { counts, failures } = world.rehearsal.handshakes
  expect(failures).toEqual([])
  expect(counts.attempted).toBeGreaterThan(200)
  // It was among those who met, with all that it had been told to trust and present.
  const words = [
    ...(
      await world.repository.snapshot(await world.repository.head('main')).list('rotations/first/attestations')
    ).keys(),
  ]
  expect(words.filter(path => !path.endsWith('by-hand.yaml'))).toEqual([
    'rotations/first/attestations/1-add-on-premises.yaml',
    'rotations/first/attestations/2-swap-on-premises.yaml',
  ])
}, 300_000)
