import { beforeAll, describe, expect, it } from 'vitest'
import { findStep, type PlanStep } from '../../src/plan/steps.ts'
import { foremost, wayBack } from '../../src/plan/way-back.ts'
import { undoSentence } from '../../src/report/undo-text.ts'
import type { Plan, SitePosition } from '../../src/rotation.ts'
import { noWayBack, type UndoQuestion, type UndoWindow, undoWindow, undoWindows } from '../../src/safety/until-when.ts'
import { group, seenOf } from './evidence.ts'
import { authority, gracefulPlan, type Material, material } from './material.ts'

const now = new Date('2026-11-22T06:00:00Z')
let made: Material
let plan: Plan
beforeAll(async () => {
  made = await material()
  const oldRoot = await authority({ subject: 'O=cluster.local', notAfter: '2026-12-22T06:00:00Z' })
  made = { ...made, oldRoot }
  plan = gracefulPlan(made)
})

function at(phase: number, step: number): PlanStep {
  const found = findStep(plan, phase, step)
  if (found === null) throw new Error(`no step ${phase}/${step}`)
  return found
}

function ask(phase: number, step: number, more: Partial<UndoQuestion> = {}): UndoWindow {
  return undoWindow({ plan, at: at(phase, step), sites: ['eu-1'], evidence: [], now, ...more })
}

describe('until when a step can be taken back', () => {
  it('ends before the old root does, by the time that going back takes', () => {
    const window = ask(3, 1)
    // A leaf's life of 24 h, a hold of 10 min and half a minute between two looks.
    expect(window).toMatchObject({ verdict: 'holds', until: '2026-12-21T05:49:30Z', before: '3-issue-new/2-restart' })
    expect(window.because).toContain(
      `old-root "O=cluster.local" ${made.oldRoot.facts.sha256.slice(0, 12)} ends 2026-12-22`,
    )
    expect(undoSentence(window)).toBe(
      `Undo of \`3-issue-new/1-data\` is safe until \`3-issue-new/2-restart\` is merged, which then has to be taken back first, and at the latest until 2026-12-21T05:49:30Z: ${window.because}.`,
    )
  })

  it('does not end with a root that nobody needs any more', () => {
    expect(ask(4, 1)).toMatchObject({ verdict: 'holds', until: '2035-12-30T23:49:30Z' })
  })

  it('is over once the old root would end while it rolls out, and says so with the date (F28)', () => {
    const late = ask(3, 1, { now: new Date('2026-12-21T06:00:00Z') })
    expect(late).toMatchObject({ verdict: 'violated', until: '2026-12-21T05:49:30Z' })
    expect(late.because).toContain('it is too late: old-root "O=cluster.local"')
    const gone = ask(3, 1, { now: new Date('2026-12-23T00:00:00Z') })
    expect(gone.verdict).toBe('violated')
    expect(gone.because).toContain('ended 2026-12-22T06:00:00Z')
  })

  it('ends for the last step with the closing pull request, after which nothing can be taken back', () => {
    const window = ask(4, 2)
    expect(window.before).toBe('close')
    expect(undoSentence(window)).toContain(
      'is safe until the closing pull request is merged, which takes the copies of all steps away',
    )
    expect(undoSentence(noWayBack(plan, null, [], true))).toBe(
      'There is no way back: the rotation is closed, and the copies of its steps are gone: going back to the old root is a new rotation.',
    )
  })

  it('says why a step has none', () => {
    expect(ask(0, 1)).toMatchObject({ verdict: 'violated', before: null, because: expect.stringContaining('abandon') })
    expect(ask(1, 2).because).toContain('moves no trust')
    const emergency = { ...plan, strategy: 'emergency' as const }
    expect(ask(1, 2, { plan: emergency }).because).toContain('in foreign hands')
  })

  it('is told of every step of a plan that changes a site, before any is merged', () => {
    expect(undoWindows(plan).map(({ step, verdict }) => `${step} ${verdict}`)).toEqual([
      '1-enable-multiroot/1-data holds',
      '1-enable-multiroot/2-restart violated',
      '2-trust-both/1-data holds',
      '2-trust-both/2-restart holds',
      '3-issue-new/1-data holds',
      '3-issue-new/2-restart holds',
      '4-trust-new/1-data holds',
      '4-trust-new/2-restart holds',
    ])
  })
})

describe('what was seen counts beside the plan', () => {
  const leaf = (ends: string | null, owner = 'shop/Deployment/cart') =>
    group({
      owner,
      presents: [made.issuing.facts.sha256, made.newRoot.facts.sha256],
      trusts: [made.oldRoot.facts.sha256, made.newRoot.facts.sha256],
      leavesExpire: ends === null ? null : { first: '2026-11-22T07:00:00Z', last: ends },
    })

  it('not before the last leaf of the new issuer has ended, which the old bundle would refuse (F26)', () => {
    const evidence = [seenOf('eu-1', [leaf('2026-11-22T20:00:00Z'), leaf('2026-11-23T04:00:00Z', 'shop/Job/report')])]
    const window = ask(2, 2, { evidence, undone: true })
    expect(window).toMatchObject({ verdict: 'pending', from: '2026-11-23T04:00:00Z', judged: 'evidence' })
    expect(window.because).toContain('3 sidecars of shop/Job/report at eu-1')
    expect(undoSentence(window)).toContain('is not safe before 2026-11-23T04:00:00Z')
    // The same leaves harm no step back that goes on trusting their root.
    expect(ask(3, 2, { evidence })).toMatchObject({ verdict: 'holds', judged: 'evidence' })
  })

  it('names no date where one of these leaves shows none', () => {
    const evidence = [seenOf('eu-1', [leaf('2026-11-22T20:00:00Z'), leaf(null)])]
    expect(ask(2, 2, { evidence })).toMatchObject({ verdict: 'pending', from: null })
  })

  it('never where a verifier would refuse the issuer of before', () => {
    const evidence = [seenOf('eu-1', [group({ trusts: [made.newRoot.facts.sha256] })])]
    const window = ask(3, 2, { evidence })
    expect(window).toMatchObject({ verdict: 'violated', from: null })
    expect(window.because).toContain('which would refuse leaves of "O=cluster.local"')
  })

  it('of another site too, where sites speak to one another', () => {
    const evidence = [seenOf('us-1', [leaf('2026-11-23T04:00:00Z')])]
    expect(ask(2, 1, { evidence }).verdict).toBe('pending')
  })

  it('is not known after a first step back that nobody has looked at', () => {
    expect(ask(2, 2, { undone: true })).toMatchObject({ verdict: 'unknown' })
  })

  it('a copy of the bundle in a ConfigMap is no verifier', () => {
    const evidence = [seenOf('eu-1', [group({ consumer: 'configmap', trusts: [made.newRoot.facts.sha256] })])]
    expect(ask(3, 2, { evidence }).verdict).toBe('holds')
  })
})

describe('which step is taken back', () => {
  const standing = (phase: number, step: number, variant: 'step' | 'undo' = 'step'): SitePosition => ({
    kind: 'at',
    phase,
    step,
    variant,
  })

  it('that of the foremost sites, and after one step back that of the phase before', () => {
    expect(wayBack(plan, { 'eu-1': standing(3, 2) })).toMatchObject({ at: { index: at(3, 2).index }, undone: false })
    expect(wayBack(plan, { 'eu-1': standing(3, 1, 'undo') })).toMatchObject({
      at: { index: at(2, 2).index },
      undone: true,
    })
  })

  it('none from a step that has no way back, though its site is known', () => {
    expect(wayBack(plan, { 'eu-1': standing(1, 2) })).toBeNull()
    expect(foremost(plan, { 'eu-1': standing(1, 2) })).toHaveLength(1)
    expect(wayBack(plan, { 'eu-1': { kind: 'absent' } })).toBeNull()
  })
})
