import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { dueText, type InspectView, inspectText } from '../../src/report/inspect-text.ts'
import { paintWith } from '../../src/report/paint.ts'
import { proveText } from '../../src/report/prove-text.ts'
import { statusText } from '../../src/report/status.ts'
import { provePlan } from '../../src/safety/prove.ts'
import { newRoot, oldRoot, runbookPlan } from './runbook.ts'
import { now, status } from './status-view.ts'

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
