import { beforeAll, describe, expect, it, vi } from 'vitest'
import { isAbout } from '../../../src/commands/views.ts'
import { ReanchorError } from '../../../src/errors.ts'
import { certificateFacts } from '../../../src/pki/certificate.ts'
import type { GateResult, Plan } from '../../../src/rotation.ts'
import { provePlan } from '../../../src/safety/prove.ts'
import type { NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { readCassandraCluster } from '../../../src/systems/cassandra/cassandra-cluster.ts'
import { cassandraRules } from '../../../src/systems/cassandra/gates.ts'
import { refuseUnfitRegions } from '../../../src/systems/cassandra/material.ts'
import type { CassandraCa } from '../../../src/systems/cassandra/model.ts'
import { cassandraWords } from '../../../src/systems/cassandra/words.ts'
import type { Attestation } from '../../../src/verify/gate.ts'
import { bundleDigest, plannedAt, vouchedBundle } from '../../../src/verify/planned.ts'
import { caSecret, cassandraCa } from './material.ts'
import { evidenceOf, placeIn, planOf } from './plan.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

let old: NewCa
let next: NewCa

beforeAll(async () => {
  old = await cassandraCa('O=ca')
  next = await cassandraCa('O=example-db-2026')
}, 120_000)

function plan(more: Partial<Parameters<typeof planOf>[0]> = {}): Plan {
  return planOf({ secret: caSecret(old), old: old.certificate, next, ...more })
}

describe('the proof of a Cassandra plan', () => {
  it.each(['server', 'client'] as const)('finds every mix of three regions safe, with the %s CA', ca => {
    expect(provePlan(plan({ ca, sites: ['eu-1', 'us-1', 'ap-1'] })).safe).toBe(true)
  })

  it('finds an emergency unsafe, within a region and between regions, and says so of nodes', () => {
    const proof = provePlan(plan({ strategy: 'emergency', sites: ['eu-1', 'us-1'] }))
    expect(proof.safe).toBe(false)
    expect(proof.transitions.find(({ counterexample }) => counterexample !== null)?.counterexample?.sentence).toMatch(
      /Cassandra node/,
    )
  })

  it('finds a plan unsafe in which the old CA, and every certificate of it, ends on the way (F28)', async () => {
    const ending = await cassandraCa('O=ca', '2026-11-22T08:04:00Z')
    const late = planOf({ secret: caSecret(ending), old: ending.certificate, next })
    const held = { ...late, gates: { ...late.gates, hold: 120_000 } }
    expect(provePlan(held).safe).toBe(false)
    expect(provePlan({ ...held, createdAt: '2026-11-22T07:00:00Z' }).safe).toBe(true)
  })

  it('notes of each datacenter with one or two nodes what fails while one restarts; RF 3 is nothing to note', () => {
    const proof = provePlan(plan({ settings: { datacenters: 'dc1=3 dc2=1 dc3=2' } }))
    const notes = proof.notes.filter(note => note.startsWith('datacenter '))
    expect(notes).toEqual([
      'datacenter dc2 of eu-1 has 1 node: while it restarts, what is stored in that datacenter alone is not served, and what asks for a quorum there fails',
      'datacenter dc3 of eu-1 has 2 nodes: while one restarts, what asks for a quorum there fails; with 3 nodes and a replication factor of 3 it goes on',
    ])
    expect(proof.safe).toBe(true)
  })

  it('notes that in several datacenters of a region one node each is down at once', () => {
    const notes = provePlan(plan({ settings: { datacenters: 'dc1=3 dc2=3' } })).notes
    expect(notes).toContain(
      'eu-1 has 2 datacenters, which the operator restarts at the same time: one node of each is down at once, so a replication factor of 3 must hold in each',
    )
  })

  it('notes where TLS between nodes is only partial, which hides a break from every look at one region', () => {
    const notes = provePlan(plan({ settings: { internodeEncryption: 'dc' } })).notes
    expect(notes.some(note => note.includes('internodeEncryption: dc'))).toBe(true)
    expect(provePlan(plan({ settings: { internodeEncryption: 'all' } })).notes.join()).not.toContain('internode')
  })
})

describe('the order of regions where hosts’ ports are used', () => {
  const hosts = {
    'eu-1': 'anton-example-cassandra-prober.eu.example.com',
    'us-1': 'anton-example-cassandra-prober.us.example.com',
  }

  /** As `plan` reads it: each region has the name of its own prober. */
  function withHosts(sites: readonly (keyof typeof hosts)[], batches: readonly (readonly string[])[]): Plan {
    const of = plan({ sites })
    const phases = of.phases.map(phase => ({
      ...phase,
      steps: phase.steps.map(step => ({
        ...step,
        sites: Object.fromEntries(
          sites.map(site => {
            const tree = step.sites[site]
            if (tree === undefined) throw new Error('no tree')
            const settings = { ...tree.state.settings, proberHost: hosts[site] }
            return [site, { ...tree, state: { ...tree.state, settings } }]
          }),
        ),
      })),
    }))
    return { ...of, phases, batches }
  }

  it('is that of their probers’ hosts: another order, or all at once, is noted', () => {
    const notes = (...of: Parameters<typeof withHosts>) =>
      provePlan(withHosts(...of)).notes.filter(note => note.startsWith('hostPort'))
    expect(notes(['eu-1', 'us-1'], [['eu-1'], ['us-1']])).toEqual([])
    expect(notes(['us-1', 'eu-1'], [['us-1'], ['eu-1']])).toEqual([
      'hostPort is enabled, and the operators start regions in the order eu-1, us-1, by their probers’ hosts: declare the sites in that order',
    ])
    expect(notes(['eu-1', 'us-1'], [['eu-1', 'us-1']])).toEqual([expect.stringContaining('rollout: serial')])
  })

  it('is read from the CassandraCluster, and only where hosts’ ports are on', () => {
    const object = (hostPort: unknown) => ({
      metadata: { name: 'example', namespace: 'anton' },
      spec: {
        dcs: [],
        hostPort,
        ingress: { domain: 'eu.example.com' },
        encryption: { server: { internodeEncryption: 'all' } },
      },
    })
    expect(readCassandraCluster(object({ enabled: true }), 'server', 'x').proberHost).toBe(hosts['eu-1'])
    expect(readCassandraCluster(object({ enabled: false }), 'server', 'x').proberHost).toBeUndefined()
  })
})

describe('the safety table of a pull request', () => {
  it('holds the rows of its step, way back, and those between regions: alike regions share one', () => {
    const rows = (step: string, site: string, sites: readonly string[]) =>
      provePlan(plan({ sites }))
        .transitions.filter(row => isAbout(row, step, [site]))
        .map(({ from, to, site: where }) => `${from} → ${to} at ${where}`)
    expect(rows('2-swap/1-data', 'us-1', ['eu-1', 'us-1'])).toEqual([
      '1-add/1-data → 2-swap/1-data at eu-1, us-1',
      '2-swap/1-data → 2-swap/1-data undo at eu-1, us-1',
      '2-swap/1-data → 3-drop/1-data at eu-1, us-1',
    ])
    expect(rows('3-drop/1-data', 'eu-1', ['eu-1'])).toContain('2-swap/1-data → 3-drop/1-data at eu-1')
    const row = { from: 'a', to: '1-add/1-data', site: '*' }
    expect(isAbout(row, '1-add/1-data', ['eu-1'])).toBe(true)
    expect(isAbout({ ...row, site: 'eu-1, us-1 and 7 more' }, '1-add/1-data', ['ap-9'])).toBe(true)
    expect(isAbout({ ...row, site: 'us-1' }, '1-add/1-data', ['eu-1'])).toBe(false)
  })
})

/** What the gate says of the words that were given, in a phase. */
function attested(
  of: Plan,
  phase: number,
  words: readonly Attestation[],
  variant: 'step' | 'undo' = 'step',
  site: string | null = null,
) {
  const place = site === null ? placeIn(of, phase, variant) : plannedAt(of, site, phase, 1, variant)
  if (place === null) throw new Error(`no phase ${phase} at ${site}`)
  const rule = cassandraRules(of, place).find(({ id }) => id === 'cassandra/attested')
  if (rule === undefined) return null
  const nothing = { groups: [], exceptions: [], objects: [], lastChange: null, certificates: [], complete: true }
  const evidence = evidenceOf(nothing, place, '2026-11-22T12:00:00Z')
  const judged: Pick<GateResult, 'verdict' | 'because'> & { readonly hint?: string } = rule.judge({
    plan: of,
    place,
    evidence,
    now: new Date('2026-11-22T12:00:00Z'),
    attestations: words,
  })
  return judged
}

describe('a person’s word for CQL clients and unmanaged regions (F20)', () => {
  const names = ['cql-clients', 'partner-region']

  it('is asked for in add and in swap, of each that is declared, and holds for that phase and that bundle only', () => {
    const of = plan({ ca: 'client', attest: names })
    for (const phase of [1, 2]) {
      const bundle = bundleDigest(of, placeIn(of, phase).tree.state)
      const word = (name: string, more: Partial<Attestation> = {}): Attestation => ({ name, phase, bundle, ...more })
      expect(attested(of, phase, [])?.verdict).toBe('pending')
      expect(attested(of, phase, [word('cql-clients')])?.because.join()).toMatch(/^partner-region: no word yet/)
      expect(
        attested(
          of,
          phase,
          names.map(name => word(name)),
        )?.verdict,
      ).toBe('holds')
      for (const other of [{ bundle: '0'.repeat(64) }, { phase: 3 - phase }, { name: 'CQL-clients' }])
        expect(attested(of, phase, [word('partner-region'), word('cql-clients', other)])?.verdict).toBe('pending')
    }
  })

  it('is asked for neither before anything is new, nor once the old CA goes, nor on a way back that changes no issuer', () => {
    const of = plan({ ca: 'client', attest: names })
    for (const phase of [0, 3]) expect(attested(of, phase, [])).toBeNull()
    for (const phase of [1, 3]) expect(attested(of, phase, [], 'undo')).toBeNull()
  })

  it('is asked for again after an undo of swap, of everyone: a further step back refuses whoever presents the new CA by now (F26)', () => {
    const of = plan({ ca: 'client', attest: names })
    const swapped = bundleDigest(of, placeIn(of, 2).tree.state)
    const back = bundleDigest(of, placeIn(of, 2, 'undo').tree.state)
    expect(back).not.toBe(swapped)
    const told: Attestation = { name: 'cql-clients', phase: 2, bundle: swapped }
    const returned = { ...told, bundle: back }
    // No word for the new CA yet does not say that no one behind the name has begun to present it.
    for (const words of [[], [told], [told, { ...told, name: 'partner-region' }]])
      expect(attested(of, 2, words, 'undo')?.because).toHaveLength(2)
    expect(attested(of, 2, [returned], 'undo')).toMatchObject({
      verdict: 'pending',
      because: [expect.stringMatching(/^partner-region: no word yet/)],
      hint: 'ask its owner whether all present certificates of the old CA again, where they present any, then run `reanchor attest partner-region --phase 2`',
    })
    expect(attested(of, 2, [returned, { ...returned, name: 'partner-region' }], 'undo')?.verdict).toBe('holds')
    // And forward again: that they present the old CA is no word for the new one.
    expect(attested(of, 2, [returned, { ...told, name: 'partner-region' }])?.because.join()).toMatch(/^cql-clients: no/)
  })

  it('is one for all regions, also where one of them trusts a further CA of its own', async () => {
    const partner = await cassandraCa('O=partner')
    const [alike, apart] = [caSecret(old), caSecret(old, { 'partner.crt': partner.certificate.pem })].map(secret =>
      planOf({ secret, old: old.certificate, next, ca: 'client', attest: ['cql-clients'], sites: ['eu-1', 'us-1'] }),
    ) as [Plan, Plan]
    const certificates = [
      ...apart.certificates,
      { ...certificateFacts(partner.certificate), role: 'old-root' as const, sites: ['us-1'], file: 'partner.pem' },
    ]
    const phases = alike.phases.map((phase, number) => ({
      ...phase,
      steps: phase.steps.map((step, index) => {
        const { 'eu-1': here } = step.sites
        const { 'us-1': there } = apart.phases[number]?.steps[index]?.sites ?? {}
        if (here === undefined || there === undefined) throw new Error('no tree')
        return { ...step, sites: { 'eu-1': here, 'us-1': there } }
      }),
    }))
    const of = { ...alike, certificates, phases }
    expect(provePlan(of).safe).toBe(true)
    const bundle = vouchedBundle(of, { phase: 1, step: 1, variant: 'step' })
    for (const site of ['eu-1', 'us-1']) {
      expect(attested(of, 1, [{ name: 'cql-clients', phase: 1, bundle }], 'step', site)?.verdict).toBe('holds')
      // No word about one region is one about the other.
      const [own] = [plannedAt(of, site, 1, 1)].map(place => bundleDigest(of, (place ?? placeIn(of, 1)).tree.state))
      expect(attested(of, 1, [{ name: 'cql-clients', phase: 1, bundle: own ?? '' }], 'step', site)?.verdict).toBe(
        'pending',
      )
    }
  })

  it('is none about another CA that nodes trust all along', async () => {
    const partner = await cassandraCa('O=partner')
    const secret = caSecret(old, { 'partner.crt': partner.certificate.pem })
    const of = planOf({ secret, old: old.certificate, next, attest: names })
    expect([0, 1, 2, 3].map(phase => attested(of, phase, [])?.verdict ?? null)).toEqual([
      null,
      'pending',
      'pending',
      null,
    ])
  })
})

describe('regions', () => {
  function region(ca: NewCa, more: { readonly managed?: readonly string[]; readonly name?: string } = {}) {
    const secret = caSecret(ca)
    const cluster = {
      namespace: 'anton',
      name: more.name ?? 'example',
      secret: secret.name,
      certificateKey: 'ca.crt',
      privateKey: 'ca.key',
      nodeSecret: 'example-cluster-tls-node',
      datacenters: [{ name: 'dc1', replicas: 3 }],
      managedRegions: more.managed ?? ['other.example.com'],
      unmanagedRegions: [],
      inMaintenance: [],
      internodeEncryption: 'all',
    }
    return { cluster, secret }
  }

  function refusal(regions: Parameters<typeof refuseUnfitRegions>[0], ca: CassandraCa = 'server'): string | null {
    try {
      refuseUnfitRegions(regions, ca, ca === 'client' ? ['cql-clients'] : [])
      return null
    } catch (error) {
      return error instanceof ReanchorError ? error.what : String(error)
    }
  }

  it('are taken with one CA for all, and refused where bytes or count differ', async () => {
    const other = await cassandraCa('O=other')
    expect(refusal({ 'eu-1': region(old), 'us-1': region(old) })).toBeNull()
    expect(refusal({ 'eu-1': region(old), 'us-1': region(other) })).toMatch(/different CAs/)
    expect(refusal({ 'eu-1': region(old) })).toMatch(/does not cover every region/)
  })
})

describe('what a reviewer is told to watch', () => {
  const told = (phase: string, of: Plan) => cassandraWords.watch(phase, of).join('\n')

  it('is the roll-out of the very cluster, with commands that can be copied', () => {
    const of = plan({ settings: { cluster: 'example' } })
    for (const phase of ['add', 'swap', 'drop'])
      expect(told(phase, of)).toContain(
        'kubectl --namespace anton get statefulset,pod -l cassandra-cluster-instance=example,cassandra-cluster-component=cassandra',
      )
    expect(told('adopt', of)).toBe('No node restarts: the Secret has the bytes that it had.')
  })

  it('is, for the client CA, the restart of prober and reaper and whose word is waited for, in the phases that need it', () => {
    const of = plan({ ca: 'client', attest: ['cql-clients'] })
    for (const phase of ['add', 'swap', 'drop']) expect(told(phase, of)).toContain('rollout restart deployment -l')
    expect(told('add', of)).toContain('reanchor attest cql-clients --phase 1')
    expect(told('swap', of)).toContain('reanchor attest cql-clients --phase 2')
    expect(told('drop', of)).not.toContain('attest')
    expect(told('add', plan())).not.toMatch(/prober|attest/)
  })
})
