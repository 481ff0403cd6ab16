import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { dueText, type InspectView, inspectText } from '../../src/report/inspect-text.ts'
import { paintWith } from '../../src/report/paint.ts'
import { proveText } from '../../src/report/prove-text.ts'
import { type StatusView, statusText } from '../../src/report/status.ts'
import { provePlan } from '../../src/safety/prove.ts'
import { newRoot, oldRoot, runbookPlan } from './runbook.ts'

const now = '2026-11-22T06:00:00Z'
const status: StatusView = {
  rotation: 'mesh-2026',
  strategy: 'graceful',
  paused: false,
  now,
  phases: runbookPlan().phases.map(phase => ({
    number: phase.number,
    name: phase.name,
    title: phase.title,
    mark: phase.number < 2 ? 'done' : phase.number === 2 ? 'now' : 'ahead',
    steps: phase.steps.length,
  })),
  sites: [
    {
      name: 'eu-1',
      path: 'trust/eu-1',
      position: { kind: 'at', phase: 2, step: 1, variant: 'step' },
      label: '2-trust-both/1-data',
      wiring: [],
    },
    {
      name: 'us-1',
      path: 'trust/us-1',
      position: { kind: 'at', phase: 2, step: 1, variant: 'step' },
      label: '2-trust-both/1-data',
      wiring: [],
    },
    {
      name: 'ap-1',
      path: 'trust/ap-1',
      position: { kind: 'unknown', changed: [{ path: 'cacerts.yaml', what: 'changed' }] },
      label: null,
      wiring: ['clusters/ap-1/istio.yaml: the Component is not included'],
    },
  ],
  pullRequests: [
    {
      number: 7,
      title: 'mesh-2026: trust both roots (phase 2 of 4, step 2 of 2) · eu-1',
      state: 'open',
      url: null,
      gate: 'success, safe, all gates hold, seen at 2026-11-22T05:59:00Z, good until 2026-11-22T06:59:00Z',
    },
  ],
  evidence: [
    {
      site: 'eu-1',
      file: 'rotations/mesh-2026/evidence/1-enable-multiroot.yaml',
      at: '2026-11-22T05:50:00Z',
      authorship: 'signed by runner (SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8)',
    },
    {
      site: 'us-1',
      file: 'rotations/mesh-2026/evidence/1-enable-multiroot.yaml',
      at: '2026-11-22T05:50:00Z',
      authorship: 'unsigned',
    },
  ],
  gates: [
    {
      id: 'istio/istiod-rolled',
      site: 'eu-1',
      claim: 'every replica of istiod runs with the planned settings',
      verdict: 'holds',
      because: [],
      hint: null,
    },
    {
      id: 'istio/roots-trusted',
      site: 'eu-1',
      claim: 'every proxy trusts exactly the planned roots',
      verdict: 'pending',
      because: Array.from({ length: 9 }, (_, index) => `shop/cart-${index} trusts only the old root`),
      hint: 'restart it, or wait for its next leaf',
    },
    {
      id: 'istio/readable',
      site: 'us-1',
      claim: 'every consumer can be read',
      verdict: 'unknown',
      because: ['pods: 403'],
      hint: null,
    },
  ],
  seen: { from: 'live', at: now },
  time: {
    strategy: 'graceful',
    least: 262_845_000,
    usual: 608_445_000,
    requests: 4,
    ends: oldRoot.notAfter,
    startBy: '2035-06-15T11:08:00Z',
    lastStart: '2035-06-19T11:08:00Z',
    daysLeft: 3127,
    state: 'in-time',
  },
  drain: [
    {
      site: 'eu-1',
      before: '4-trust-new/1-data',
      roots: [oldRoot.sha256],
      begun: true,
      leaves: 415,
      left: 2,
      unseen: 1,
      clearedBy: '2026-11-23T03:00:00Z',
      stragglers: [{ consumer: 'sidecar', owner: 'shop/Deployment/cart', count: 2, ends: null }],
      named: [{ consumer: 'sidecar', name: 'shop/cart-6d4cf56db6-b2xkq', ends: '2026-11-23T03:00:00Z' }],
    },
  ],
  undo: {
    step: '2-trust-both/1-data',
    sites: ['eu-1', 'us-1'],
    verdict: 'holds',
    from: null,
    until: '2035-06-21T05:45:00Z',
    before: '2-trust-both/2-restart',
    because: `old-root ${JSON.stringify(oldRoot.subject)} ${oldRoot.sha256.slice(0, 12)} ends ${oldRoot.notAfter}, and going back takes 1 day 15 minutes at the least`,
    judged: 'evidence',
  },
  expires: [
    { role: 'old-root', subject: oldRoot.subject, sha256: oldRoot.sha256, notAfter: oldRoot.notAfter },
    { role: 'new-root', subject: newRoot.subject, sha256: newRoot.sha256, notAfter: newRoot.notAfter },
  ],
  next: 'merge #7, then run `reanchor next`',
}

describe('reanchor status', () => {
  it('is one screen', async () => {
    await expect(statusText(status)).toMatchFileSnapshot('golden/status.txt')
  })

  it('keeps to the width, colours only what it is given, and says the same without', () => {
    const narrow = statusText(
      { ...status, sites: status.sites.slice(0, 1), pullRequests: [], expires: [] },
      { width: 60 },
    )
    expect(Math.max(...narrow.split('\n').map(line => line.length))).toBeLessThanOrEqual(60)
    const coloured = statusText(status, { paint: paintWith(pc.createColors(true)) })
    expect(coloured).toContain('\u001b[')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: takes the colours out again
    expect(coloured.replace(/\u001b\[\d+m/g, '')).toBe(statusText(status))
  })

  it('puts a thousand sites that stand alike on one line', () => {
    const [first] = status.sites
    if (first === undefined) throw new Error('no site')
    const many = Array.from({ length: 1000 }, (_, index) => ({ ...first, name: `s-${index}` }))
    expect(statusText({ ...status, sites: many })).toContain('s-0, s-1, s-2 and 997 more: 2-trust-both/1-data')
  })
})

describe('reanchor inspect', () => {
  const view: InspectView = {
    now,
    within: 60 * 86_400_000,
    startWithin: null,
    due: [{ sha256: newRoot.sha256, what: 'ends', at: '2026-12-24T00:00:00Z' }],
    certificates: [
      {
        ...oldRoot,
        use: 'anchor and issuer',
        places: [
          'Secret istio-system/istio-ca-secret: ca-cert.pem',
          'ConfigMap istio-system/istio-ca-root-cert: root-cert.pem',
        ],
        usedBy: ['412 sidecars', '3 gateways', 'istiod'],
        startBy: '2035-05-01T00:00:00Z',
        lastStart: '2035-05-15T00:00:00Z',
        daysLeft: 3081,
        remarks: [],
      },
      {
        ...newRoot,
        notAfter: '2026-12-24T00:00:00Z',
        use: 'anchor',
        places: ['certs/root-cert.pem'],
        usedBy: [],
        startBy: '2026-11-20T00:00:00Z',
        lastStart: '2026-12-18T00:00:00Z',
        daysLeft: -3,
        remarks: ['stands twice in certs/root-cert.pem'],
      },
    ],
    strategies: [
      {
        strategy: 'graceful',
        fits: true,
        why: 'both subjects differ, and the old root outlives the rotation',
        time: {
          strategy: 'graceful',
          least: 345_600_000,
          usual: 950_400_000,
          requests: 7,
          ends: oldRoot.notAfter,
          startBy: '2035-05-01T00:00:00Z',
          lastStart: '2035-05-15T00:00:00Z',
          daysLeft: 3081,
          state: 'in-time',
        },
      },
      {
        strategy: 'issuer',
        fits: false,
        why: 'the root signs leaves itself: there is no issuing CA to replace',
        time: null,
      },
    ],
    remarks: ['pods in kube-system could not be listed: 403'],
  }

  it('names every anchor and issuer, who uses it, and what fits', async () => {
    await expect(inspectText(view)).toMatchFileSnapshot('golden/inspect.txt')
  })

  it('tells a scheduled job what is due and nothing else', () => {
    const start = { sha256: oldRoot.sha256, what: 'start-by' as const, at: '2026-12-01T00:00:00Z' }
    expect(dueText({ ...view, due: [...view.due, start] })).toBe(
      [
        `CN=Root CA,O=Istio ${newRoot.sha256.slice(0, 12)} ends 2026-12-24T00:00:00Z (in 31 days)`,
        `O=cluster.local ${oldRoot.sha256.slice(0, 12)}: start a graceful rotation by 2026-12-01T00:00:00Z (in 8 days)`,
      ].join('\n'),
    )
    expect(dueText({ ...view, due: [] })).toBe('')
  })
})

describe('reanchor prove', () => {
  it('prints the table of a safe plan', async () => {
    await expect(proveText(provePlan(runbookPlan()))).toMatchFileSnapshot('golden/prove-safe.txt')
  })

  it('prints the smallest counterexample of one that is not', async () => {
    const plan = runbookPlan()
    const proof = provePlan({ ...plan, phases: plan.phases.filter(phase => phase.name !== 'trust-both') })
    await expect(proveText(proof)).toMatchFileSnapshot('golden/prove-unsafe.txt')
  })
})
