import { afterEach, describe, expect, it } from 'vitest'
import { advanceUntil, merge, nextWhenReady, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { plan } from '../../src/commands/plan.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { abandonBefore, closeRequest, isClosed, mergeVariant, openStep, positions, undoBefore } from './drive.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld
afterEach(async () => await test.close())

async function position(world: World) {
  return (await positions(world))['eu-1']
}

describe('ways back', () => {
  it('undoes issue-new with a nudge, lets leaves return, and goes forward again without a failed handshake', async () => {
    test = await testWorld({ seed: 'undo' })
    const { world } = test
    const made = await planAndMerge(world)
    const trustNew = made.phases.findIndex(phase => phase.name === 'trust-new')
    await undoBefore(world, 'trust-new')
    expect(await position(world)).toMatchObject({ kind: 'at', phase: trustNew - 1, variant: 'undo' })

    // Forward again: the gates of the undone state hold first, so every leaf is of the old CA by then.
    await advanceUntil(world, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    expect(await isClosed(world)).toBe(true)
  }, 600_000)

  it('abandons from trust-both: cacerts stays with the old root alone, and the rotation closes', async () => {
    test = await testWorld({ seed: 'abandon' })
    const { world } = test
    await planAndMerge(world)
    await abandonBefore(world, 'issue-new')
    const { closed, snapshot } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
    expect(closed).toBe(true)
    const roots = (await snapshot.read('trust/eu-1/root-cert.pem')) ?? ''
    expect(roots.match(/BEGIN CERTIFICATE/g)).toHaveLength(1)
    expect(await snapshot.read('trust/eu-1/cacerts.yaml')).not.toBeNull()
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)

    // What it left is where the next one starts.
    const second = await test.declare('second')
    const again = await planAndMerge(second)
    expect(again.phases.map(phase => phase.name)).toEqual(['adopt', 'trust-both', 'issue-new', 'trust-new'])
    expect(await position(second)).toMatchObject({ kind: 'at', phase: 0 })
  }, 600_000)
})

describe('a nudge', () => {
  it('brings proxies to the new CA whose requests reached a replica that still issued from the old one', async () => {
    test = await testWorld({ seed: 'b' })
    const { world } = test
    const site = world.rehearsal.sites.get('eu-1')
    if (site === undefined) throw new Error('no site')
    // A proxy's CA channel may reach another replica than the one that pushes trust to it, and these take files up at different times.
    site.faults.splitReplicas = true
    await planAndMerge(world)
    await recordMerge(world, await openStep(world, 'issue-new/restart'))
    const stuck = await nextWhenReady(world, 60 * 60_000)
    if (stuck.kind !== 'waiting') throw new Error(`expected stragglers under this seed, found ${stuck.kind}`)
    const stragglers = stuck.gates.find(gate => gate.id === 'istio/leaves-issued')
    expect(stragglers?.hint).toContain('next --nudge')

    expect((await mergeVariant(world, 'nudge')).title).toContain('nudge')

    // Under this seed the last phase leaves stragglers too: leaves that the lagging replica signed bring the old root along.
    await recordMerge(world, await openStep(world, 'trust-new/restart'))
    const held = await nextWhenReady(world, 60 * 60_000)
    if (held.kind === 'waiting') await mergeVariant(world, 'nudge')
    else if (held.kind === 'opened' && held.pullRequest !== null) await recordMerge(world, held.pullRequest)
    await advanceUntil(world, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    expect(await isClosed(world)).toBe(true)
  }, 600_000)
})

describe('a plan made again on the way', () => {
  it('renders only the steps ahead, keeps what sites have reached, and goes on to the end', async () => {
    test = await testWorld({ seed: 'again' })
    const { world } = test
    const made = await planAndMerge(world)
    const trustBoth = made.phases.findIndex(phase => phase.name === 'trust-both')
    await closeRequest(world, await openStep(world, 'trust-both/restart'))
    const options = { rotation: world.rotation, base: null, rootKeyOut: null, chain: null, acceptOutage: false }
    expect((await plan(world.context, options)).kind).toBe('unchanged')

    const path = `rotations/${world.rotation}/rotation.yaml`
    const parent = await world.repository.head('main')
    const text = (await world.repository.snapshot(parent).read(path)) ?? ''
    const at = world.context.now()
    const author = { name: 'a person', email: 'person@example.com' }
    const changes = new Map([[path, text.replace('hold: 10m', 'hold: 5m')]])
    const commit = await world.repository.commit({
      parent,
      changes,
      message: 'Hold for five minutes',
      trailers: {},
      author,
      at,
    })
    await world.repository.publish([{ ref: 'refs/heads/main', from: parent, to: commit }])

    const again = await plan(world.context, options)
    expect(again.kind).toBe('planned')
    expect(again.plan.gates.hold).toBe(5 * 60_000)
    const digests = (each: typeof made) =>
      each.phases.flatMap(phase => phase.steps.map(step => step.sites['eu-1']?.digest))
    expect(digests(again.plan)).toEqual(digests(made))
    if (again.pullRequest === null) throw new Error('no pull request')
    await merge(world, again.pullRequest)
    expect(await position(world)).toMatchObject({ kind: 'at', phase: trustBoth, step: 1 })
    await advanceUntil(world, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)

  it('refuses another CA under the same rotation', async () => {
    test = await testWorld({ seed: 'other' })
    const { world } = test
    await planAndMerge(world)
    const path = `rotations/${world.rotation}/rotation.yaml`
    const parent = await world.repository.head('main')
    const text = (await world.repository.snapshot(parent).read(path)) ?? ''
    const changes = new Map([[path, text.replace('algorithm: ecdsa-p256', 'algorithm: ecdsa-p384')]])
    const author = { name: 'a person', email: 'person@example.com' }
    const commit = await world.repository.commit({
      parent,
      changes,
      message: 'Another CA',
      trailers: {},
      author,
      at: world.context.now(),
    })
    await world.repository.publish([{ ref: 'refs/heads/main', from: parent, to: commit }])
    const options = { rotation: world.rotation, base: null, rootKeyOut: null, chain: null, acceptOutage: false }
    await expect(plan(world.context, options)).rejects.toMatchObject({
      exit: 5,
      what: expect.stringContaining('spec.next changed'),
    })
    expect((await nextWhenReady(world, 0)).kind).toBe('opened')
  }, 600_000)
})
