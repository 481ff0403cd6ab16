import type { StatusView } from '../../src/report/status.ts'
import { newRoot, oldRoot, runbookPlan } from './runbook.ts'

/** When these screens are looked at. */
export const now = '2026-11-22T06:00:00Z'
/** Three sites in phase 2, one of them edited by hand. */
export const status: StatusView = {
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
    takes: { gates: 600_000, usual: 87_000_000 },
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
    because: `old-root ${JSON.stringify(oldRoot.subject)} ${oldRoot.sha256.slice(0, 12)} ends ${oldRoot.notAfter}, and until every leaf has gone back too 1 day 15 minutes pass at the least`,
    judged: 'evidence',
  },
  expires: [
    { role: 'old-root', subject: oldRoot.subject, sha256: oldRoot.sha256, notAfter: oldRoot.notAfter },
    { role: 'new-root', subject: newRoot.subject, sha256: newRoot.sha256, notAfter: newRoot.notAfter },
  ],
  next: 'merge #7, then run `reanchor next`',
}
