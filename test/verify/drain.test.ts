import { beforeAll, describe, expect, it } from 'vitest'
import { drainLines } from '../../src/report/drain-text.ts'
import type { Evidence, EvidenceGroup, Plan } from '../../src/rotation.ts'
import { alike } from '../../src/verify/alike.ts'
import { clearedText, exceptionText } from '../../src/verify/common-gates.ts'
import { type Drain, drainOf } from '../../src/verify/drain.ts'
import { readEvidence, writeEvidence } from '../../src/verify/evidence-file.ts'
import { lookAround } from '../../src/verify/looking.ts'
import { group, seenOf } from '../safety/evidence.ts'
import { authority, gracefulPlan, type Material, material } from '../safety/material.ts'

const now = new Date('2026-11-22T12:00:00Z')
let made: Material
let plan: Plan
beforeAll(async () => {
  made = await material()
  plan = gracefulPlan(made)
})

const ending = (last: string) => ({ first: '2026-11-22T13:00:00Z', last })
const ofNew = () => [made.issuing.facts.sha256, made.newRoot.facts.sha256]
const ofOld = () => [made.oldRoot.facts.sha256]

function at(phase: number, step: number, groups: readonly EvidenceGroup[], part: Partial<Evidence> = {}): Evidence {
  const treeDigest = plan.phases[phase]?.steps.find(({ number }) => number === step)?.sites['eu-1']?.digest ?? ''
  return { ...seenOf('eu-1', groups, part), phase, step, treeDigest }
}

function drained(evidence: Evidence): Drain {
  const drain = drainOf(plan, evidence, now)
  if (drain === null) throw new Error('nothing narrows')
  return drain
}

describe('leaves that the old root alone verifies, before it goes (F1)', () => {
  it('are counted, named, and given the day on which they have ended by themselves', () => {
    const groups = [
      group({ count: 200, presents: ofNew(), leavesExpire: ending('2026-11-23T12:00:00Z') }),
      group({ owner: 'shop/Job/report', count: 1, presents: ofOld(), leavesExpire: ending('2026-11-22T20:00:00Z') }),
      group({
        owner: 'shop/Deployment/old',
        count: 2,
        presents: ofOld(),
        leavesExpire: ending('2026-11-23T03:00:00Z'),
      }),
    ]
    const exceptions = [
      {
        consumer: 'sidecar' as const,
        name: 'shop/old-1',
        reason: 'old-issuer',
        detail: 'leaf is signed by x',
        verdict: 'pending' as const,
        ends: '2026-11-23T03:00:00Z',
      },
    ]
    const drain = drained(at(3, 2, groups, { exceptions }))
    expect(drain).toMatchObject({
      before: '4-trust-new/1-data',
      roots: [made.oldRoot.facts.sha256],
      begun: true,
      leaves: 203,
      left: 3,
      unseen: 0,
      clearedBy: '2026-11-23T03:00:00Z',
      named: [{ name: 'shop/old-1', ends: '2026-11-23T03:00:00Z' }],
    })
    expect(drain.stragglers.map(({ owner }) => owner)).toEqual(['shop/Deployment/old', 'shop/Job/report'])
    expect(drainLines(drain, plan.certificates)).toEqual([
      `3 of 203 leaves still chain to "O=cluster.local" ${made.oldRoot.facts.sha256.slice(0, 12)} alone, which 4-trust-new/1-data takes away; their lifetime alone clears them by 2026-11-23T03:00:00Z`,
      '  sidecar shop/old-1: its leaf ends 2026-11-23T03:00:00Z',
    ])
  })

  it('are none only where all were seen', () => {
    const done = drained(at(3, 2, [group({ presents: ofNew() })]))
    expect(done).toMatchObject({ left: 0, unseen: 0, clearedBy: null })
    const blind = drained(at(3, 2, [group({ presents: ofNew() }), group({ owner: 'shop/Deployment/x', count: 4 })]))
    expect(blind).toMatchObject({ left: 0, unseen: 4 })
    expect(drainLines(blind, []).join()).toContain('4 not seen, and none of those counts')
  })

  it('have no such day while the old CA issues, nor where one shows no end', () => {
    const old = group({ presents: ofOld(), leavesExpire: ending('2026-11-23T03:00:00Z') })
    expect(drained(at(2, 2, [old]))).toMatchObject({ begun: false, left: 3, clearedBy: null })
    const endless = group({ owner: 'shop/Deployment/x', presents: ofOld() })
    expect(drained(at(3, 1, [old, endless]))).toMatchObject({ begun: true, left: 6, clearedBy: null })
  })

  it('count a proxy that holds leaves of both, and no bundle, webhook or ztunnel without workloads', () => {
    const both = group({ presents: ofNew(), facts: { entries: 'differ' } })
    const others = [
      group({ consumer: 'webhook', presents: ofOld() }),
      group({ consumer: 'configmap', trusts: ofOld() }),
      group({ consumer: 'ztunnel', facts: { state: 'no-identities' } }),
    ]
    expect(drained(at(3, 2, [both, ...others]))).toMatchObject({ leaves: 3, left: 3, unseen: 0 })
  })

  it('by its dates, where a holder’s certificate cannot be read', () => {
    const runtime = (renewed: string) => group({ consumer: 'runtime', count: 1, facts: { renewed } })
    expect(drained(at(3, 2, [runtime('true')]))).toMatchObject({ left: 0, unseen: 0 })
    expect(drained(at(3, 2, [runtime('false')]))).toMatchObject({ left: 1, unseen: 0 })
    const doubtful = group({ consumer: 'runtime', count: 1, facts: { renewed: 'false', dates: 'unknown' } })
    expect(drained(at(3, 2, [doubtful]))).toMatchObject({ left: 0, unseen: 1 })
  })

  it('are none where key and subject stay: an old leaf verifies with the new certificate (F7)', async () => {
    const renewed = await authority({ subject: 'O=cluster.local', keys: made.oldRoot.keys })
    plan = gracefulPlan({ ...made, newRoot: renewed, issuing: renewed })
    expect(drained(at(3, 2, [group({ presents: ofOld() })]))).toMatchObject({ leaves: 3, left: 0 })
    plan = gracefulPlan(made)
  })

  it('are not asked about where no root goes, or the evidence is of no step', () => {
    const kept = { ...plan, phases: plan.phases.slice(0, 4) }
    expect(drainOf(kept, at(3, 2, []), now)).toBeNull()
    expect(drainOf(plan, { ...at(3, 2, []), treeDigest: 'f'.repeat(64) }, now)).toBeNull()
  })
})

describe('the end of a leaf that is behind', () => {
  const seen = async (count: number) =>
    await lookAround(
      { cluster: {} as never, plan },
      () => [{ reason: 'old-issuer', detail: 'leaf is signed by x', verdict: 'pending' }],
      async ({ add }) => {
        for (let index = 0; index < count; index++)
          add({
            consumer: 'sidecar',
            owner: 'shop/Deployment/cart',
            name: `shop/cart-${index}`,
            trusts: null,
            presents: ofOld(),
            bundleDigest: null,
            facts: {},
            leafExpires: new Date(now.getTime() + index * 60_000),
          })
      },
    )

  it('stands beside its name where few are, and with the group alone where many are', async () => {
    const few = await seen(50)
    expect(few.exceptions.every(({ ends }) => ends !== undefined)).toBe(true)
    expect(exceptionText(few.exceptions[0] as never)).toBe(
      'sidecar shop/cart-0: leaf is signed by x; its leaf ends 2026-11-22T12:00:00Z',
    )
    const many = await seen(51)
    expect(many.exceptions.some(({ ends }) => ends !== undefined)).toBe(false)
    expect(alike(many.exceptions)).toHaveLength(1)
  })

  it('is read back from committed evidence', async () => {
    const { exceptions, groups } = await seen(12)
    const evidence = at(3, 2, groups, { exceptions })
    const [read] = readEvidence(writeEvidence([evidence]), 'evidence.yaml')
    expect(read).toEqual(evidence)
  })

  it('tells of those that show one, and that others show none', () => {
    const some = [group({ leavesExpire: ending('2026-11-23T03:00:00Z') }), group()]
    expect(clearedText(some)).toEqual([
      'at the latest at 2026-11-23T03:00:00Z the last of these leaves has ended, of those that show an end',
    ])
    expect(clearedText([group()])).toEqual([])
  })
})
