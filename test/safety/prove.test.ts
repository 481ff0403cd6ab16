import { once } from 'node:events'
import { connect, createServer, type TLSSocket } from 'node:tls'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { CertificateFacts, Plan, TrustState } from '../../src/rotation.ts'
import { provePlan } from '../../src/safety/prove.ts'
import {
  type Authority,
  authority,
  gracefulPlan,
  leaf,
  type Material,
  material,
  newKeys,
  now,
  planOf,
  state,
} from './material.ts'
import { survives } from './oracle.ts'

let made: Material
let oldIssuing: Authority
let thirdRoot: Authority
beforeAll(async () => {
  made = await material()
  oldIssuing = await authority({ subject: 'CN=Istio old, O=cluster.local', issuer: made.oldRoot })
  thirdRoot = await authority({ subject: 'CN=Third' })
})

function broken(plan: Plan): readonly string[] {
  return provePlan(plan).transitions.flatMap(row => (row.counterexample === null ? [] : [`${row.from} > ${row.to}`]))
}

describe('the graceful rotation from the self-signed CA', () => {
  it('is safe, with every undo and nudge', () => {
    const proof = provePlan(gracefulPlan(made))
    expect(proof.transitions.filter(row => row.counterexample !== null)).toEqual([])
    expect(proof.safe).toBe(true)
    expect(proof.transitions.map(row => `${row.from} > ${row.to}`)).toContain(
      '4-trust-new/1-data > 4-trust-new/1-data undo',
    )
    expect(survives(gracefulPlan(made))).toBe(true)
  })

  it('says until when each transition holds: the end of the old root where it is needed', () => {
    const row = provePlan(gracefulPlan(made)).transitions[0]
    expect(row?.goodUntil).toBe('2036-01-01T00:00:00Z')
  })

  it('proves what lies ahead only, where the sites have come further', () => {
    const rows = provePlan(gracefulPlan(made), { from: { phase: 3, step: 2 } }).transitions
    expect(rows[0]).toMatchObject({ from: '3-issue-new/2-restart', to: '3-issue-new/2-restart undo' })
    expect(rows.some(row => row.to.startsWith('2-'))).toBe(false)
  })

  it('gives the same JSON for the same JSON', () => {
    const plan = gracefulPlan(made)
    expect(JSON.stringify(provePlan(JSON.parse(JSON.stringify(plan)) as Plan))).toBe(JSON.stringify(provePlan(plan)))
  })

  it('judges alike sites once, however many there are', () => {
    const rows = provePlan(
      gracefulPlan(
        made,
        Array.from({ length: 1000 }, (_, index) => `s-${index}`),
      ),
    ).transitions
    expect(rows.length).toBe(provePlan(gracefulPlan(made)).transitions.length)
    expect(rows[0]?.site).toBe('s-0, s-1 and 998 more')
  })

  it('judges sites with an issuing CA of their own against each other', async () => {
    const plan = gracefulPlan(made, ['eu-1', 'us-1'])
    const other = await authority({ subject: 'CN=Istio us-1, O=acme', issuer: made.newRoot, pathLength: 0 })
    const swapped = plan
    const phases = swapped.phases.map(phase => ({
      ...phase,
      steps: phase.steps.map(step => {
        const site = step.sites['us-1']
        if (site === undefined) return step
        const text = JSON.stringify(site).replaceAll(made.issuing.facts.sha256, other.facts.sha256)
        return { ...step, sites: { ...step.sites, 'us-1': JSON.parse(text) as typeof site } }
      }),
    }))
    const certificates = [
      ...swapped.certificates,
      { ...other.facts, role: 'new-issuing' as const, sites: ['us-1'], file: 'x.pem' },
    ]
    const proof = provePlan({ ...swapped, phases, certificates })
    expect(proof.safe).toBe(true)
    expect(proof.transitions.some(row => row.site === '*')).toBe(true)
  })
})

describe('plans that break something', () => {
  it('refuses the one-step swap and says which handshake fails (F6)', () => {
    const [o, n, i] = [made.oldRoot.facts.sha256, made.newRoot.facts.sha256, made.issuing.facts.sha256]
    const plan = planOf({
      certificates: [made.oldRoot.facts, made.newRoot.facts, made.issuing.facts],
      sites: ['eu-1'],
      phases: [
        { name: 'adopt', steps: [{ name: 'adopt', sites: { 'eu-1': state({ bundle: [o], issuer: o }) } }] },
        {
          name: 'swap',
          steps: [{ name: 'data', sites: { 'eu-1': state({ bundle: [n], issuer: i, chain: [i, n] }) } }],
        },
      ],
    })
    const [row] = provePlan(plan).transitions
    expect(row?.counterexample?.sentence).toBe(
      `sidecar at eu-1 with a leaf of 0-adopt/1-adopt (issuer "O=cluster.local" ${o.slice(0, 12)}) meets sidecar at eu-1, which has the trust of 1-swap/1-data ("CN=Root 2026, O=acme" ${n.slice(0, 12)}): no path to a trusted root.`,
    )
    expect(row?.counterexample?.holder).toEqual({ party: 'sidecar at eu-1', at: '0-adopt/1-adopt', presents: o })
  })

  it('refuses to narrow while leaves of the old issuer may live (F1)', () => {
    const plan = without(gracefulPlan(made), 'issue-new', phase => ({ ...phase, steps: [] }))
    expect(provePlan(plan).safe).toBe(false)
  })

  it('refuses a phase that narrows in the step after the one that issues, before its gate', () => {
    const plan = gracefulPlan(made)
    const issue = plan.phases[3]
    const narrow = plan.phases[4]
    if (issue === undefined || narrow === undefined) throw new Error('no phases')
    const merged = {
      ...issue,
      steps: [...issue.steps.slice(0, 1), ...narrow.steps.map((step, index) => ({ ...step, number: index + 2 }))],
    }
    expect(provePlan({ ...plan, phases: [...plan.phases.slice(0, 3), merged] }).safe).toBe(false)
  })

  it('refuses the new root that arrives only with the new issuer (F2)', () => {
    const plan = without(gracefulPlan(made), 'trust-both', phase => ({ ...phase, steps: [] }))
    expect(broken(plan)[0]).toBe('1-enable-multiroot/2-restart > 3-issue-new/1-data')
  })

  it('refuses trust-both that forgot the old root', () => {
    const plan = without(gracefulPlan(made), 'trust-both', phase => ({
      ...phase,
      steps: phase.steps.map(step => ({
        ...step,
        sites: mapSites(step.sites, own => ({ ...own, bundle: [made.newRoot.facts.sha256] })),
      })),
    }))
    expect(provePlan(plan).safe).toBe(false)
  })

  it('refuses an empty bundle (F17)', () => {
    const plan = without(gracefulPlan(made), 'trust-both', phase => ({
      ...phase,
      steps: phase.steps.map(step => ({ ...step, sites: mapSites(step.sites, own => ({ ...own, bundle: [] })) })),
    }))
    expect(provePlan(plan).transitions.find(row => row.counterexample !== null)?.counterexample?.reason).toBe(
      'it trusts nothing',
    )
  })

  it('refuses an issuing CA whose root allows no CA below it', async () => {
    const newRoot = await authority({ subject: 'CN=tight', pathLength: 0 })
    const issuing = await authority({ subject: 'CN=too deep', issuer: newRoot })
    const row = provePlan(gracefulPlan({ ...made, newRoot, issuing })).transitions.find(
      found => found.counterexample !== null,
    )
    expect(row?.counterexample?.reason).toContain('path length 0, but 1 intermediate')
  })

  it('refuses an issuer that is not a CA', async () => {
    const issuing = await authority({ subject: 'CN=no CA', issuer: made.newRoot, ca: false })
    expect(provePlan(gracefulPlan({ ...made, issuing })).safe).toBe(false)
  })

  it('refuses a site that is a phase ahead of another which does not trust it yet', () => {
    const plan = gracefulPlan(made, ['eu-1', 'us-1'])
    const lagging = without(plan, 'trust-both', phase => ({
      ...phase,
      steps: phase.steps.map(step => ({ ...step, sites: { 'eu-1': step.sites['eu-1'] as never } })),
    }))
    const row = provePlan(lagging).transitions.find(found => found.site === '*' && found.counterexample !== null)
    expect(row?.counterexample?.holder.party).toBe('sidecar at eu-1')
    expect(row?.counterexample?.verifier.party).toBe('sidecar at us-1')
  })

  it('refuses an undo that takes away what leaves still need', () => {
    const plan = without(gracefulPlan(made), 'issue-new', phase => ({
      ...phase,
      steps: phase.steps.map(step => ({
        ...step,
        sites: Object.fromEntries(
          Object.entries(step.sites).map(([site, own]) => [
            site,
            {
              ...own,
              undo: {
                digest: 'f'.repeat(64),
                state: state({ bundle: [made.oldRoot.facts.sha256], issuer: made.oldRoot.facts.sha256 }),
              },
            },
          ]),
        ),
      })),
    }))
    expect(broken(plan)).toEqual([
      '3-issue-new/1-data > 3-issue-new/1-data undo',
      '3-issue-new/2-restart > 3-issue-new/2-restart undo',
    ])
  })

  it('throws for a state that names a certificate the plan does not hold', () => {
    const plan = gracefulPlan(made)
    expect(() => provePlan({ ...plan, certificates: plan.certificates.slice(0, 1) })).toThrow(
      /names a certificate that the plan does not hold/,
    )
  })
})

describe('time', () => {
  it('refuses a rotation whose old root ends before it can be over, with the date (F28)', async () => {
    const oldRoot = await authority({ subject: 'O=cluster.local', notAfter: '2026-11-24T06:00:00Z' })
    const row = provePlan(gracefulPlan({ ...made, oldRoot })).transitions.find(found => found.counterexample !== null)
    expect(row?.counterexample?.reason).toMatch(
      /ends 2026-11-24T06:00:00Z, and the step cannot be over before 2026-11-2/,
    )
  })

  it('refuses an old root that has expired already (F15)', async () => {
    const oldRoot = await authority({ subject: 'O=cluster.local', notAfter: '2026-11-01T00:00:00Z' })
    const proof = provePlan(gracefulPlan({ ...made, oldRoot }))
    expect(proof.transitions[0]?.counterexample?.reason).toBe(
      `"O=cluster.local" ${oldRoot.facts.sha256.slice(0, 12)} ended 2026-11-01T00:00:00Z`,
    )
  })

  it('refuses a new root that has not begun', async () => {
    const newRoot = await authority({ subject: 'CN=later', notBefore: '2027-01-01T00:00:00Z' })
    const issuing = await authority({ subject: 'CN=i', issuer: newRoot })
    expect(provePlan(gracefulPlan({ ...made, newRoot, issuing })).safe).toBe(false)
  })

  it('says that a root ends soon without refusing it', async () => {
    const oldRoot = await authority({ subject: 'O=cluster.local', notAfter: '2026-12-20T00:00:00Z' })
    const proof = provePlan(gracefulPlan({ ...made, oldRoot }))
    expect(proof.safe).toBe(true)
    expect(proof.notes.some(note => note.includes('2026-12-20'))).toBe(true)
  })

  it('is unsafe one second after the end and safe one second before', () => {
    const plan = gracefulPlan(made)
    expect(provePlan(plan, { at: new Date('2035-12-20T00:00:00Z') }).safe).toBe(true)
    expect(provePlan(plan, { at: new Date('2036-01-01T00:00:01Z') }).safe).toBe(false)
  })
})

describe('equal subjects (F8)', () => {
  it('notes two roots of one subject that key identifiers tell apart', async () => {
    const newRoot = await authority({ subject: 'O=cluster.local' })
    const issuing = await authority({ subject: 'CN=i', issuer: newRoot })
    const proof = provePlan(gracefulPlan({ ...made, newRoot, issuing }))
    expect(proof.safe).toBe(true)
    expect(proof.notes.join()).toContain('told apart by key identifier only')
  })

  it('refuses two roots of one subject without key identifiers', async () => {
    const oldRoot = await authority({ subject: 'O=twin', identifiers: false })
    const newRoot = await authority({ subject: 'O=twin', identifiers: false })
    const issuing = await authority({ subject: 'CN=i', issuer: newRoot, identifiers: false })
    const row = provePlan(gracefulPlan({ oldRoot, newRoot, issuing })).transitions.find(
      found => found.counterexample !== null,
    )
    expect(row?.counterexample?.reason).toContain('share a subject')
  })

  it('takes a renewed root of the same key and subject, which every leaf chains to (F7)', async () => {
    const keys = await newKeys()
    const oldRoot = await authority({ subject: 'O=same', keys })
    const newRoot = await authority({ subject: 'O=same', keys, notAfter: '2046-01-01T00:00:00Z' })
    const issuing = await authority({ subject: 'CN=i', issuer: newRoot })
    const proof = provePlan(gracefulPlan({ oldRoot, newRoot, issuing }))
    expect(proof.safe).toBe(true)
    expect(proof.notes.join()).toContain('share the subject "O=same" and the key')
  })
})

describe('against a second opinion', () => {
  it('says safe exactly where no party that walks through the rotation ever fails a handshake', () => {
    const all: readonly CertificateFacts[] = [made.oldRoot, made.newRoot, made.issuing, oldIssuing, thirdRoot].map(
      made => made.facts,
    )
    const [o, n, i, oi, t] = all.map(facts => facts.sha256) as [string, string, string, string, string]
    const bundles = fc.constantFrom([o], [o, n], [o, n, n], [n], [n, o], [o, t], [o, n, t], [])
    const issuers = fc.constantFrom([o], [oi, o], [i, n], [i], [n], [t])
    const states = fc
      .record({ bundle: bundles, chain: issuers })
      .map(({ bundle, chain }) => state({ bundle, issuer: chain[0] ?? o, chain }))
    const graceful: readonly TrustState[] = [
      state({ bundle: [o], issuer: o }),
      state({ bundle: [o, n], issuer: o }),
      state({ bundle: [o, n, n], issuer: i, chain: [i, n] }),
      state({ bundle: [n], issuer: i, chain: [i, n] }),
    ]
    const step = (at: number) =>
      fc.record({
        own: fc.oneof(
          { arbitrary: fc.constant(graceful[at] as TrustState), weight: 12 },
          { arbitrary: states, weight: 1 },
        ),
        restart: fc.boolean(),
        undo: fc.oneof(
          { arbitrary: fc.constant(null), weight: 4 },
          { arbitrary: fc.constant(graceful[at - 1] ?? null), weight: 4 },
          { arbitrary: states, weight: 1 },
        ),
      })
    let safe = 0
    let unsafe = 0
    fc.assert(
      fc.property(
        fc.tuple(step(0), step(1), step(2), step(3)),
        fc.tuple(step(0), step(1), step(2), step(3)),
        fc.subarray([0, 1, 2, 3], { minLength: 2 }),
        fc.boolean(),
        fc.boolean(),
        (first, second, chosen, twoSites, together) => {
          const sites = twoSites ? ['eu-1', 'us-1'] : ['eu-1']
          const phases = chosen.map(at => {
            const eu = first[at]
            const us = together ? eu : second[at]
            if (eu === undefined || us === undefined) throw new Error('no step')
            const own = { 'eu-1': eu.own, ...(twoSites ? { 'us-1': us.own } : {}) }
            const undo = {
              ...(eu.undo === null ? {} : { 'eu-1': eu.undo }),
              ...(us.undo === null || !twoSites ? {} : { 'us-1': us.undo }),
            }
            const data = { name: 'data', sites: own, undo }
            return { name: `p${at}`, steps: eu.restart ? [data, { name: 'restart', sites: own, undo }] : [data] }
          })
          const plan = planOf({ certificates: all, sites, phases })
          const expected = survives(plan)
          if (expected) safe++
          else unsafe++
          expect(provePlan(plan).safe).toBe(expected)
        },
      ),
      { numRuns: 300 },
    )
    // A property that only ever sees one verdict proves nothing.
    expect(safe).toBeGreaterThan(20)
    expect(unsafe).toBeGreaterThan(20)
  })

  it('agrees with real TLS for every issuer and every set of roots', async () => {
    const twins = await Promise.all([0, 1].map(() => authority({ subject: 'O=cluster.local' })))
    const holders = [made.oldRoot, made.issuing, oldIssuing, ...twins]
    const roots = [made.oldRoot, made.newRoot, ...twins]
    const chains = new Map([
      [made.issuing, [made.issuing, made.newRoot]],
      [oldIssuing, [oldIssuing]],
    ])
    for (const issuer of holders) {
      const chain = chains.get(issuer) ?? [issuer]
      const presented = await leaf(issuer)
      for (const set of [[0], [1], [0, 1], [1, 0], [2, 3], [3, 2], [0, 2], [2, 0]]) {
        const trusted = set.flatMap(index => roots[index] ?? [])
        const certificates = [...new Set([...chain, ...trusted])].map(made => made.facts)
        const own = state({
          bundle: trusted.map(made => made.facts.sha256),
          issuer: issuer.facts.sha256,
          chain: chain.map(made => made.facts.sha256),
        })
        const plan = planOf({
          certificates,
          sites: ['eu-1'],
          phases: [
            {
              name: 'a',
              steps: [
                { name: 'one', sites: { 'eu-1': own } },
                { name: 'two', sites: { 'eu-1': own } },
              ],
            },
          ],
        })
        const real = await tls(
          `${presented.pem}${chain.map(made => made.facts.pem).join('')}`,
          presented.key,
          trusted.map(made => made.facts.pem),
        )
        expect({ issuer: issuer.facts.subject, set, safe: provePlan(plan).safe }).toEqual({
          issuer: issuer.facts.subject,
          set,
          safe: real,
        })
      }
    }
  })
})

async function tls(chain: string, key: string, trusted: readonly string[]): Promise<boolean> {
  const server = createServer({ cert: chain, key })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const socket: TLSSocket = connect({
    port: address.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: [...trusted],
  })
  try {
    await once(socket, 'secureConnect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
    server.close()
  }
}

type Phase = Plan['phases'][number]

function without(plan: Plan, name: string, change: (phase: Phase) => Phase): Plan {
  return { ...plan, phases: plan.phases.map(phase => (phase.name === name ? change(phase) : phase)) }
}

function mapSites<T extends { readonly state: TrustState }>(
  sites: Readonly<Record<string, T>>,
  change: (own: TrustState) => TrustState,
): Record<string, T> {
  return Object.fromEntries(Object.entries(sites).map(([site, own]) => [site, { ...own, state: change(own.state) }]))
}

it('begins at the time of the plan unless told otherwise', () => {
  expect(provePlan({ ...gracefulPlan(made), createdAt: now }).safe).toBe(true)
  expect(() => provePlan({ ...gracefulPlan(made), createdAt: 'soon' })).toThrow(/cannot be read/)
})
