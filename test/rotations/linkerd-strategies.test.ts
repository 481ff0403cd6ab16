import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { plan as makePlan } from '../../src/commands/plan.ts'
import { foretoldPairs } from '../../src/safety/price.ts'
import { goOn, openStep } from './drive.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld | null = null
afterEach(async () => {
  await test?.close()
  test = null
})

/** Handshakes of one round that must fail, told by what each proxy holds and not by what anybody foretold: both ends of a pair trust one set. */
function breaking({ rehearsal }: World): number {
  const { parties } = rehearsal.handshakes
  const trusts = (id: string): string =>
    parties.find(party => party.id === id)?.endpoint.material.trusts.join(' ') ?? 'unknown'
  const identities = parties.filter(({ owner }) => owner === 'linkerd/Deployment/linkerd-identity')
  const pairs = parties.flatMap(client => parties.filter(server => server !== client).map(server => [client, server]))
  const requests = parties
    .filter(party => !identities.includes(party))
    .flatMap(client => identities.map(server => [client, server]))
  return [...pairs, ...requests].filter(([one, other]) => trusts(one?.id ?? '') !== trusts(other?.id ?? '')).length
}

describe('an emergency', () => {
  it('breaks exactly the pairs that the plan foretells, as often as they meet, and nothing once all have restarted', async () => {
    test = await testWorld({ system: 'linkerd', change: declared => ({ ...declared, strategy: 'emergency' }) })
    const { world } = test
    const options = { rotation: 'first', base: null, rootKeyOut: join(world.folder, 'r.age'), chain: null }
    await expect(makePlan(world.context, { ...options, acceptOutage: false })).rejects.toMatchObject({
      exit: 5,
      what: 'the plan is not safe',
      todo: expect.stringContaining('--accept-outage'),
    })
    const plan = await planAndMerge(world)
    const [old, fresh] = ['0-adopt/1-adopt', '1-replace/1-data']
    const pairs = foretoldPairs(plan).filter(({ server }) => server !== 'identity')
    const meeting = (client: string, server: string) => [
      { client, server, from: old, to: fresh },
      { client, server, from: fresh, to: old },
    ]
    expect(new Set(pairs.map(({ client, server, from, to }) => JSON.stringify({ client, server, from, to })))).toEqual(
      new Set(
        [
          ...meeting('proxy', 'proxy'),
          ...meeting('control-plane', 'proxy'),
          ...meeting('proxy', 'control-plane'),
          ...meeting('control-plane', 'control-plane'),
          ...meeting('identity', 'proxy'),
          ...meeting('identity', 'control-plane'),
        ].map(pair => JSON.stringify(pair)),
      ),
    )

    // Data alone: identity refuses the new issuer by its old anchors, says so, and goes on with the old one.
    const { handshakes } = world.rehearsal
    const restart = await openStep(world, 'replace/control-plane')
    expect(handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    const events = test.store('eu-1').list('', 'Event', 'linkerd')
    expect(new Set(events.map(({ reason }) => reason))).toEqual(new Set(['IssuerUpdateSkipped']))

    // The control plane is through and no workload is: one round breaks what it must, no more and no less.
    await recordMerge(world, restart)
    await openStep(world, 'replace/data-plane').then(async request => {
      const at = handshakes.counts
      const expected = breaking(world)
      await handshakes.round()
      expect(expected).toBe(96)
      expect(handshakes.counts.foretold - at.foretold).toBe(expected)
      expect(handshakes.counts.failed).toBe(0)
      await recordMerge(world, request)
    })
    expect(await goOn(world)).toEqual(['close/close'])
    const end = handshakes.counts
    expect(breaking(world)).toBe(0)
    await handshakes.round()
    expect(handshakes.counts).toMatchObject({ failed: 0, foretold: end.foretold })
    const foretoldOf = new Set(pairs.map(({ client, server }) => [client, server].sort().join(' ')))
    for (const { client, server, link } of handshakes.failures) {
      const of = (party: string): string => (party.split('/')[1] === 'linkerd' ? 'control-plane' : 'proxy')
      expect(foretoldOf).toContain([of(client), link === 'identity' ? 'identity' : of(server)].sort().join(' '))
    }
  }, 600_000)
})
