import { afterEach, describe, expect, it, vi } from 'vitest'
import { readCertificate } from '../../../src/pki/certificate.ts'
import { scriptCa } from '../../../src/rehearsal/cassandra/certificates.ts'
import { demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import type { Evidence, GateResult, Plan } from '../../../src/rotation.ts'
import { type CaSecret, dataOf, type NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { cassandraRules } from '../../../src/systems/cassandra/gates.ts'
import { liveCa, refuseUnfitSecret } from '../../../src/systems/cassandra/material.ts'
import { observeCassandra } from '../../../src/systems/cassandra/observe.ts'
import { entriesOf } from '../../../src/systems/cassandra/phases.ts'
import { minute, type Region, second, startRegion } from '../../rehearsal/cassandra/region.ts'
import { evidenceOf, placeIn, planOf } from './plan.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

interface Rotation {
  readonly region: Region
  readonly plan: Plan
  readonly secret: CaSecret
  readonly next: NewCa
  /** Delivers the Secret of a phase as Flux does. */
  deliver(phase: number): void
  look(phase: number): Promise<Evidence>
  /** Verdicts by gate, without the prefix; only those that do not hold. */
  open(phase: number): Promise<Readonly<Record<string, string>>>
  results(phase: number): Promise<readonly GateResultLike[]>
}

type GateResultLike = Pick<GateResult, 'id' | 'verdict' | 'because' | 'hint'>

let running: Region | null = null

afterEach(async () => {
  await running?.close()
  running = null
})

async function rotation(): Promise<Rotation> {
  const region = await startRegion()
  running = region
  const pair = await scriptCa('example-ca-20261122', region.site.life(87_600))
  const next: NewCa = { certificate: readCertificate(pair.certificate), key: pair.key }
  const live = await liveCa(region.cluster, { ...demoCluster, ca: 'server' })
  refuseUnfitSecret(live, live.annotations['cassandra-cluster-checksum'] ?? '')
  const plan = planOf({ secret: live.secret, old: readCertificate(region.old.certificate), next })
  const place = (phase: number) => placeIn(plan, phase)
  const look = async (phase: number): Promise<Evidence> => {
    const seen = await observeCassandra({
      cluster: region.cluster,
      plan,
      site: 'eu-1',
      place: place(phase),
      cassandra: { namespace: demoCluster.namespace, name: demoCluster.name, ca: 'server' },
      concurrency: 4,
    })
    return evidenceOf(seen, place(phase), region.clock.instant())
  }
  const results = async (phase: number) => {
    const evidence = await look(phase)
    // Delivery and canary are the same for every system, and have their own tests.
    const own = cassandraRules(plan, place(phase)).filter(
      ({ id }) => id.startsWith('cassandra/') && id !== 'cassandra/canary',
    )
    return own.map(rule => ({
      id: rule.id,
      hint: rule.hint,
      ...rule.judge({
        plan,
        now: region.clock.now(),
        attestations: [],
        evidence,
        place: place(phase),
      }),
    }))
  }
  return {
    region,
    plan,
    secret: live.secret,
    next,
    look,
    results,
    deliver(phase) {
      const { state } = place(phase).tree
      region.deliver(dataOf({ entries: entriesOf(state), issuer: state.issuer }, live.secret, next))
    },
    async open(phase) {
      const judged = await results(phase)
      return Object.fromEntries(
        judged
          .filter(({ verdict }) => verdict !== 'holds')
          .map(({ id, verdict, because }) => [id.replace('cassandra/', ''), `${verdict}: ${because.join('; ')}`]),
      )
    },
  }
}

describe('the gates of a Cassandra rotation', () => {
  it('hold after adopt without a restart, and after each of add, swap and drop only once every node has restarted and all is still', async () => {
    const { region, deliver, open } = await rotation()
    deliver(0)
    await region.run(2 * minute)
    expect(await open(0)).toEqual({})
    for (const phase of [1, 2, 3]) {
      deliver(phase)
      // Nothing has happened yet, and the cluster still calls itself ready.
      expect(Object.keys(await open(phase))).toContain('taken-up')
      await region.settle()
      await region.run(2 * minute)
      expect(await open(phase)).toEqual({})
      // And not those of any other phase.
      for (const other of [1, 2, 3].filter(each => each !== phase)) expect(await open(other)).not.toEqual({})
    }
  })

  it('stay shut while one node of three has not restarted, and name it (F2, F14)', async () => {
    const { region, deliver, open } = await rotation()
    deliver(1)
    let seen: string | undefined
    for (let step = 0; step < 400 && seen === undefined; step += 1) {
      await region.run(second)
      const state = await open(1)
      const waiting = state['nodes-restarted'] ?? ''
      if (state['taken-up'] === undefined && !waiting.includes('-2:') && waiting.includes('-0: has not restarted'))
        seen = waiting
    }
    expect(seen).toContain(
      'node cassandra/example-cassandra-eu-1-0: has not restarted since its node certificate was made anew',
    )
  })

  it('do not take a matching checksum for a roll-out: another region is away, and no node restarts (F3)', async () => {
    const { region, deliver, open } = await rotation()
    region.operator.remoteRegionsDown = true
    deliver(1)
    await region.run(10 * minute)
    const state = await open(1)
    expect(state['taken-up']).toBeUndefined()
    expect(state['nodes-restarted']).toMatch(/^pending: .*-0: has not restarted.*-1: .*-2: /)
    expect(state['roots-trusted']).toMatch(/^pending/)
  })

  it('wait for more than a minute without a change: a write that was crossed makes the operator sign all nodes again', async () => {
    const { region, deliver, results } = await rotation()
    deliver(1)
    await region.settle()
    // The same again, as after a Conflict between the two writes.
    region.store.update(region.caSecret(), 'manager', next => {
      delete next.metadata.annotations?.['cassandra-cluster-checksum']
    })
    await region.run(80 * second)
    const stable = (await results(1)).find(({ id }) => id === 'cassandra/stable')
    expect(stable?.verdict).toBe('pending')
    await region.settle()
    await region.run(2 * minute)
    expect((await results(1)).filter(({ verdict }) => verdict !== 'holds')).toEqual([])
  })

  it('see that nodes present a CA which nobody planned', async () => {
    const { region, deliver, open } = await rotation()
    deliver(0)
    region.store.delete(region.caSecret())
    await region.run(10 * minute)
    await region.settle()
    deliver(0)
    const state = await open(0)
    expect(state['leaves-presented']).toMatch(/^violated: .*presents a leaf of [0-9a-f]{12}, expected/)
  })

  it('hold no private byte in what is seen', async () => {
    const { look, region, next } = await rotation()
    const text = JSON.stringify(await look(0))
    expect(text).not.toContain('PRIVATE')
    for (const key of [region.old.key, next.key, region.nodeSecret()['tls.key'] ?? ''])
      expect(text).not.toContain(key.split('\n')[1])
  })
})
