import { afterEach, describe, expect, it, vi } from 'vitest'
import { certificateFacts, readCertificate } from '../../../src/pki/certificate.ts'
import { scriptCa } from '../../../src/rehearsal/cassandra/certificates.ts'
import { demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import type { Evidence, GateResult, Plan, PlannedPhase } from '../../../src/rotation.ts'
import { type CaSecret, dataOf, type NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { cassandraRules } from '../../../src/systems/cassandra/gates.ts'
import { liveCa, refuseUnfitSecret } from '../../../src/systems/cassandra/material.ts'
import { observeCassandra } from '../../../src/systems/cassandra/observe.ts'
import { cassandraPhases, entriesOf } from '../../../src/systems/cassandra/phases.ts'
import { observationDigest } from '../../../src/verify/observation.ts'
import { plannedAt } from '../../../src/verify/planned.ts'
import { minute, type Region, second, startRegion } from '../../rehearsal/cassandra/region.ts'

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
  open(phase: number, attested?: boolean): Promise<Readonly<Record<string, string>>>
  results(phase: number): Promise<readonly GateResultLike[]>
}

type GateResultLike = Pick<GateResult, 'id' | 'verdict' | 'because' | 'hint'>

let running: Region | null = null

afterEach(async () => {
  await running?.close()
  running = null
})

async function rotation(
  options: { readonly attest?: readonly string[]; readonly start?: Parameters<typeof startRegion>[0] } = {},
): Promise<Rotation> {
  const region = await startRegion(options.start)
  running = region
  const pair = await scriptCa('example-ca-20261122', region.site.life(87_600))
  const next: NewCa = { certificate: readCertificate(pair.certificate), key: pair.key }
  const live = await liveCa(region.cluster, { ...demoCluster, ca: 'server' })
  refuseUnfitSecret(live, live.annotations['cassandra-cluster-checksum'] ?? '')
  const drafts = cassandraPhases('graceful', { secret: live.secret, next, restarts: {} })
  const phases: PlannedPhase[] = drafts.map(({ name, title, steps }, number) => ({
    number,
    name,
    title,
    steps: steps.map(({ state, undo, what }) => {
      const digest = String(number).repeat(64)
      return {
        number: 1,
        name: 'data',
        what,
        sites: {
          'eu-1': { digest, state, undo: undo === null ? null : { digest: `${digest}u`, state: undo }, nudge: null },
        },
      }
    }),
  }))
  const certificates = [readCertificate(region.old.certificate), next.certificate].map((certificate, index) => ({
    ...certificateFacts(certificate),
    role: index === 0 ? ('old-root' as const) : ('new-root' as const),
    sites: [],
    file: `certificates/${index}.pem`,
  }))
  const plan: Plan = {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'db-2026' },
    createdAt: '2026-11-22T08:00:00Z',
    system: 'cassandra',
    strategy: 'graceful',
    base: 'main',
    inputs: { declaration: '', material: '', next: '' },
    certificates,
    sites: [{ name: 'eu-1', path: 'trust/eu-1' }],
    batches: [['eu-1']],
    phases,
    wiring: [],
    canaries: {},
    gates: {
      hold: 0,
      fresh: 3_600_000,
      settle: 0,
      attest: (options.attest ?? []).map(name => ({ name, why: 'no API shows them' })),
    },
    leafHours: 0,
    parties: ['node'],
    formerDigests: {},
  }
  const place = (phase: number) => {
    const found = plannedAt(plan, 'eu-1', phase, 1)
    if (found === null) throw new Error(`no phase ${phase}`)
    return found
  }
  const look = async (phase: number): Promise<Evidence> => {
    const seen = await observeCassandra({
      cluster: region.cluster,
      plan,
      site: 'eu-1',
      place: place(phase),
      cassandra: { namespace: demoCluster.namespace, name: demoCluster.name, ca: 'server' },
      concurrency: 4,
    })
    const looked = {
      cluster: { uid: 'uid' },
      delivery: {
        kind: 'flux' as const,
        object: 'Kustomization/flux-system/trust',
        suspended: false,
        observed: true,
        ready: true,
        revision: null,
        treeDigest: null,
        inventory: [],
        message: '',
        nextDue: null,
        hurry: null,
      },
      objects: seen.objects,
      groups: seen.groups,
      exceptions: seen.exceptions,
      complete: seen.complete,
    }
    return {
      apiVersion: 'reanchor.dev/v1alpha1',
      kind: 'Evidence',
      rotation: 'db-2026',
      site: 'eu-1',
      phase,
      step: 1,
      treeDigest: place(phase).tree.digest,
      from: region.clock.instant(),
      to: region.clock.instant(),
      observation: observationDigest(looked),
      agreesWith: null,
      lastChange: seen.lastChange,
      certificates: seen.certificates,
      ...looked,
    }
  }
  const results = async (phase: number, words: readonly { name: string; phase: number; bundle: string }[] = []) => {
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
        attestations: words,
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

  it('see a key that another owner keeps: drop could never take it away', async () => {
    const { region, deliver, results } = await rotation()
    deliver(1)
    await region.settle()
    region.store.update(region.caSecret(), 'someone', next => {
      ;(next.data as Record<string, string>)['ca3.crt'] = 'eA=='
    })
    const judged = (await results(1)).find(({ id }) => id === 'cassandra/secret')
    expect(judged?.verdict).toBe('violated')
    expect(judged?.because).toEqual([
      'Secret/cassandra/example-cluster-manual-tls-ca: key ca3.crt is not planned (owned by someone)',
    ])
    expect(judged?.hint).toContain('"path":"/data/ca3.crt"')
  })

  it('are violated where the Secret is gone, and where the CassandraCluster names another one', async () => {
    const { region, open } = await rotation()
    const cluster = region.store.get('db.ibm.com', 'CassandraCluster', demoCluster.namespace, demoCluster.name)
    region.store.update(cluster as NonNullable<typeof cluster>, 'someone', next => {
      const spec = next.spec as { encryption: { server: { caTLSSecret: { name: string } } } }
      spec.encryption.server.caTLSSecret.name = 'another'
    })
    region.store.delete(region.caSecret())
    const state = await open(0)
    expect(state.secret).toMatch(/^violated: .*does not exist/)
    expect(state.cluster).toMatch(/^violated: .*caTLSSecret is another/)
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

  it('are unknown where nodes cannot be connected to, and where pods cannot be listed (F27)', async () => {
    const { region, deliver, open } = await rotation()
    deliver(0)
    await region.run(2 * minute)
    region.site.faults.api.push({ asked: /^list pods/, failure: 'forbidden' })
    const state = await open(0)
    expect(state['leaves-presented']).toMatch(/^unknown/)
    expect(state['consumers-seen']).toMatch(/^unknown: object list pods/)
  })

  it('ask for a person’s word in add and swap, bound to that bundle, where someone is declared whom no API shows (F20)', async () => {
    const { plan, open } = await rotation({ attest: ['partner-region'] })
    const ids = (phase: number) =>
      cassandraRules(plan, plannedAt(plan, 'eu-1', phase, 1) as NonNullable<ReturnType<typeof plannedAt>>).map(
        ({ id }) => id,
      )
    expect(ids(0)).not.toContain('cassandra/attested')
    expect(ids(1)).toContain('cassandra/attested')
    expect(ids(2)).toContain('cassandra/attested')
    expect(ids(3)).not.toContain('cassandra/attested')
    expect((await open(1)).attested).toMatch(/^pending: partner-region: no word yet/)
  })

  it('count a stranger that mounts the nodes’ Secret: declared, or the step stays shut (F20)', async () => {
    const { region, deliver, open } = await rotation()
    deliver(0)
    await region.run(2 * minute)
    region.store.put(
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'backup', namespace: demoCluster.namespace },
        spec: { volumes: [{ name: 'tls', secret: { secretName: 'example-cluster-tls-node' } }], containers: [] },
      },
      'someone',
    )
    expect((await open(0))['strangers-declared']).toMatch(/^violated: client cassandra\/backup/)
  })

  it('hold no private byte in what is seen', async () => {
    const { look, region, next } = await rotation()
    const text = JSON.stringify(await look(0))
    expect(text).not.toContain('PRIVATE')
    for (const key of [region.old.key, next.key, region.nodeSecret()['tls.key'] ?? ''])
      expect(text).not.toContain(key.split('\n')[1])
  })
})
