import { describe, expect, it } from 'vitest'
import { findStep } from '../../src/plan/steps.ts'
import { courseOf, stepTime } from '../../src/plan/time-left.ts'
import {
  countedPhases,
  type PullRequestView,
  pullRequestBody,
  pullRequestTitle,
  readMarker,
} from '../../src/report/pull-request.ts'
import { describeChange } from '../../src/report/trust-diff.ts'
import type { GateResult } from '../../src/rotation.ts'
import { provePlan } from '../../src/safety/prove.ts'
import { type UndoWindow, undoWindow, undoWindows } from '../../src/safety/until-when.ts'
import { newRoot, oldRoot, runbookPlan } from './runbook.ts'

const plan = runbookPlan()
const digest = 'd'.repeat(64)

function gate(more: Partial<GateResult> = {}): GateResult {
  return {
    id: 'istio/roots-trusted',
    site: 'eu-1',
    claim: 'every proxy trusts exactly the planned roots',
    verdict: 'holds',
    because: [],
    hint: null,
    retryAt: null,
    counted: { of: 412, conform: 412 },
    ...more,
  }
}

function undoAt(phase: number, step: number): readonly UndoWindow[] {
  const at = findStep(plan, phase, step)
  return at === null ? [] : [undoWindow({ plan, at, sites: ['eu-1'], evidence: [], now: new Date(plan.createdAt) })]
}

function view(more: Partial<PullRequestView> = {}): PullRequestView {
  return {
    plan,
    undo: undoAt(more.phase ?? 2, more.step ?? 1),
    planDigest: digest,
    kind: 'step',
    phase: 2,
    step: 1,
    sites: ['eu-1'],
    change: describeChange(
      { 'trust/eu-1/root-cert.pem': oldRoot.pem },
      { 'trust/eu-1/root-cert.pem': oldRoot.pem + newRoot.pem },
    ),
    gates: [
      gate(),
      gate({
        id: 'istio/istiod-rolled',
        claim: 'every replica of istiod runs with the planned settings',
        counted: { of: 2, conform: 2 },
      }),
    ],
    evidence: [
      {
        site: 'eu-1',
        file: 'rotations/mesh-2026/evidence/1-enable-multiroot.yaml',
        digest: 'e'.repeat(64),
        seenAt: '2026-11-22T05:50:00Z',
        signedBy: 'runner (SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8)',
      },
    ],
    proof: provePlan(plan),
    lasts: stepTime(courseOf(plan, plan.leafHours), more.phase ?? 2, more.step ?? 1),
    ...more,
  }
}

describe('the title', () => {
  it('is as documented', () => {
    expect(pullRequestTitle(view())).toBe('mesh-2026: trust both roots (phase 2 of 4, step 1 of 2) · eu-1')
  })

  it.each([
    [
      'a phase of one step names no step',
      { phase: 3, step: 1 },
      'mesh-2026: issue from the new CA (phase 3 of 4) · eu-1',
    ],
    [
      'several sites',
      { sites: ['eu-1', 'us-1'] },
      'mesh-2026: trust both roots (phase 2 of 4, step 1 of 2) · eu-1, us-1',
    ],
    ['adopt', { phase: 0, step: 1 }, 'mesh-2026: adopt (phase 0 of 4) · eu-1'],
    ['undo', { kind: 'undo', step: 2 }, 'mesh-2026: undo: trust both roots (phase 2 of 4, step 2 of 2) · eu-1'],
    ['nudge', { kind: 'nudge', phase: 3 }, 'mesh-2026: nudge: issue from the new CA (phase 3 of 4) · eu-1'],
    ['close', { kind: 'close', phase: 5 }, 'mesh-2026: close the rotation · eu-1'],
    ['plan', { kind: 'plan', phase: 0, step: 0, sites: [] }, 'mesh-2026: plan the rotation'],
  ] as const)('%s', (_, more, title) => {
    expect(pullRequestTitle(view(more as Partial<PullRequestView>))).toBe(title)
  })

  it('names three of a thousand sites and stays within what forges take', () => {
    const title = pullRequestTitle(view({ sites: Array.from({ length: 1000 }, (_, index) => `cluster-${index}`) }))
    expect(title).toBe('mesh-2026: trust both roots (phase 2 of 4, step 1 of 2) · cluster-0, cluster-1 and 998 more')
  })

  it('counts the phases that change trust', () => {
    expect(countedPhases(plan)).toBe(4)
  })
})

describe('the body', () => {
  it('of a step', async () => {
    await expect(pullRequestBody(view())).toMatchFileSnapshot('golden/pull-request-trust-both.md')
  })

  it('tells who restarts, how long to watch, and what is an alarm', () => {
    const watched = (phase: number, step: number) =>
      /### What to watch[^#]*/.exec(pullRequestBody(view({ phase, step, undo: undoAt(phase, step) })))?.[0] ?? ''
    expect(watched(2, 1)).toContain('- Nothing restarts at this merge.')
    expect(watched(2, 2)).toContain('- Restarts at this merge: `istiod`.')
    const last = plan.phases[3]?.steps.length ?? 0
    expect(watched(3, last)).toMatch(
      /- Its gate holds .+ after the last change at the earliest; leaves that nobody hurries are renewed within 1 day: watch until then\. What is pending 1 day after that counts as violated\./,
    )
    expect(watched(2, 1)).not.toContain('renewed within')
    for (const [phase, step] of [
      [2, 1],
      [2, 2],
      [3, last],
    ] as const)
      expect(watched(phase, step)).toContain('- Alarm: `ssl.fail_verify_error`')
    expect(watched(0, 1)).not.toMatch(/Alarm|estarts at this merge/)
  })

  it('of a step that restarts says what, where no certificate changes', () => {
    const body = pullRequestBody(view({ step: 2, change: describeChange({}, {}) }))
    expect(body).toContain(
      '### What changes\n\nNo file that holds a certificate changes.\n\n**restart** of `istiod`: token none → `x`\n',
    )
  })

  it('of the plan', async () => {
    await expect(
      pullRequestBody(
        view({ kind: 'plan', phase: 0, step: 0, gates: [], evidence: [], change: null, undo: undoWindows(plan) }),
      ),
    ).toMatchFileSnapshot('golden/pull-request-plan.md')
  })

  it('of the closing pull request', async () => {
    const cleanUp = [
      'delete the Secret `istio-ca-secret` in istio-system',
      'the old key stays in the history of Git, sealed',
    ]
    await expect(
      pullRequestBody(view({ kind: 'close', phase: 5, step: 1, change: null, proof: null, cleanUp })),
    ).toMatchFileSnapshot('golden/pull-request-close.md')
  })

  it('says what is to be done before the merge ahead of all else', () => {
    const first = ['`eu-1`: let the controller take over `istio-system/cacerts`: `kubectl annotate <it>`']
    const body = pullRequestBody(view({ phase: 0, step: 1, first }))
    expect(body).toContain(
      '### Before you merge\n\n- `eu-1`: let the controller take over `istio-system/cacerts`: `kubectl annotate <it>`\n',
    )
    expect(body.indexOf('### Before you merge')).toBeLessThan(body.indexOf('### What changes'))
    expect(pullRequestBody(view())).not.toContain('Before you merge')
  })

  it('carries the marker in its first line, and reads it from there only', () => {
    expect(readMarker(pullRequestBody(view()))).toEqual({ plan: digest, phase: 2, step: 1 })
    expect(readMarker(`hello\n<!-- reanchor:plan=${digest} phase=2 step=1 -->`)).toBeNull()
  })

  it('names exceptions and puts what does not hold first', () => {
    const body = pullRequestBody(
      view({
        gates: [
          gate(),
          gate({
            id: 'istio/attested',
            claim: 'partners hold both roots',
            verdict: 'pending',
            because: ['partner-vms: nobody has attested'],
          }),
        ],
      }),
    )
    expect(body.indexOf('**pending**')).toBeLessThan(body.indexOf('**holds**'))
    expect(body).toContain('eu-1: partner-vms: nobody has attested')
  })

  it('shows the counterexample of a step that breaks', () => {
    const swapped = provePlan({ ...plan, phases: plan.phases.filter(phase => phase.name !== 'trust-both') })
    const body = pullRequestBody(view({ phase: 3, step: 1, proof: swapped }))
    expect(body).toContain('**breaks**')
    expect(body).toMatch(/> \*\*sidecar at eu-1 with a leaf of/)
  })

  it('pings nobody, whatever names, gates and subjects say', () => {
    const evil = '@team <b>x</b> [a](http://b) #12 ![i](//e) <!-- --> $x$ ~~~ \u202e'
    const body = pullRequestBody(
      view({
        gates: [gate({ site: evil, because: [evil], claim: evil, id: evil, verdict: 'pending' })],
        warnings: [evil],
        cleanUp: [evil],
        sites: [evil],
      }),
    )
    const outside = body
      .split('\n')
      .slice(1)
      .join('\n')
      .replace(/```[\s\S]*?```/g, '')
      .replace(/`[^`\n]*`/g, '')
    expect(outside).not.toMatch(/@[a-z]/)
    expect(outside).not.toMatch(/<(?!br>)|\[a\]|http:\/\/|(?<!&)#12|\u202e/)
    expect(body.split('<!--')).toHaveLength(2 + (body.match(/`[^`\n]*<!--[^`\n]*`/g) ?? []).length)
  })

  it('stays within the limit with a thousand sites, and counts what it leaves out', () => {
    const sites = Array.from({ length: 1000 }, (_, index) => `cluster-${index}`)
    const names = Array.from({ length: 2000 }, (_, index) => `shop/Deployment/cart-${index}: ${'x'.repeat(200)}`)
    const files = (pem: (index: number) => string): Record<string, string> =>
      Object.fromEntries(sites.map((site, index) => [`trust/${site}/root-cert.pem`, pem(index)]))
    const body = pullRequestBody(
      view({
        sites,
        change: describeChange(
          files(() => oldRoot.pem),
          files(index => oldRoot.pem + newRoot.pem.repeat(1 + (index % 60))),
        ),
        gates: sites.map(site => gate({ site, verdict: 'pending', because: names.slice(0, 30) })),
        evidence: sites.map(site => ({ site, file: 'f', digest, seenAt: '2026-11-22T05:50:00Z', signedBy: null })),
      }),
    )
    expect(body.length).toBeLessThanOrEqual(60_000)
    expect(readMarker(body)).not.toBeNull()
    expect(body).toContain('and evidence of')
    expect(body).toContain('more group')
    expect(pullRequestBody(view(), 3000).length).toBeLessThanOrEqual(3000)
  })
})
