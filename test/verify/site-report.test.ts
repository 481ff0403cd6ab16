import { describe, expect, it } from 'vitest'
import type { Evidence } from '../../src/rotation.ts'
import { readWrittenEvidence, type WrittenEvidence, writeSignedEvidence } from '../../src/verify/evidence-file.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import { type ReportDemand, reportGate, whyNotTaken } from '../../src/verify/site-report.ts'
import { newKey, signerLine, signerOf } from '../signature/keys.ts'
import { lookTwice, meshAt, planOf, site } from './mesh.ts'

const plan = await planOf()
const [phase, step] = [2, 2]
const mesh = await meshAt(plan, phase, step)
const evidence = await lookTwice(plan, mesh, { phase, step })
const own = newKey('ed25519')
const other = newKey('ed25519')
const minute = 60_000

const demand: ReportDemand = {
  plan,
  site,
  phase,
  step,
  variant: 'step',
  reports: { kind: 'reports', ref: `reports/${site}`, within: 15 * minute, signer: null },
  signers: [],
  delivered: { treeDigest: evidence.delivery.treeDigest, holdsMerge: true },
  committedAt: null,
  now: new Date(evidence.to),
}

const plain: WrittenEvidence = { evidence, signature: null }

async function signedWith(key: typeof own, one: Evidence = evidence): Promise<WrittenEvidence> {
  const [written] = readWrittenEvidence(await writeSignedEvidence([one], signerOf(key)), 'report')
  if (written === undefined) throw new Error('nothing was written')
  return written
}

function seenAs(change: Partial<Evidence>): WrittenEvidence {
  const changed = { ...evidence, ...change }
  return { evidence: { ...changed, observation: observationDigest(changed) }, signature: null }
}

function later(milliseconds: number): Date {
  return new Date(Date.parse(evidence.to) + milliseconds)
}

const byOther = await signedWith(other)
const ofAnother = await signedWith(own, { ...evidence, to: later(1000).toISOString() })

it('a report of this step, from a moment ago, is taken', () => {
  expect(whyNotTaken(plain, demand)).toBeNull()
  expect(reportGate(site, null, demand.now)).toMatchObject({ id: 'evidence/report', verdict: 'holds', retryAt: null })
})

describe('a report is not taken, with the reason,', () => {
  const cases: Readonly<Record<string, [WrittenEvidence, Partial<ReportDemand>, RegExp]>> = {
    'if it is older than is allowed': [plain, { now: later(16 * minute) }, /begun at .*longer ago than the 15 minutes/],
    'if it is from a time to come': [plain, { now: later(-2 * minute) }, /it is from .*, and now is/],
    'if it was edited': [
      { ...plain, evidence: { ...evidence, complete: !evidence.complete } },
      {},
      /does not match its digest/,
    ],
    'if it is another rotation’s': [seenAs({ rotation: 'mesh-2025' }), {}, /about rotation mesh-2025/],
    'if it is another site’s': [plain, { site: 'us-1' }, /it is about site eu-1/],
    'if it is about the step before': [
      plain,
      { phase: 3, step: 1 },
      /about phase 2 step 2, and the folder is at phase 3 step 1/,
    ],
    'if it is about the step, and the folder is at its undo': [
      plain,
      { variant: 'undo' },
      /folder is at phase 2 step 2 \(undo\)/,
    ],
    'if it is about a tree that is not planned': [
      seenAs({ treeDigest: 'f'.repeat(64) }),
      {},
      /is not planned at its step/,
    ],
    'if what it calls delivered is not in this clone': [
      plain,
      { delivered: { treeDigest: null, holdsMerge: null } },
      /whose folder is not in this clone/,
    ],
    'if the commit has another tree than it says': [
      plain,
      { delivered: { treeDigest: 'e'.repeat(64), holdsMerge: true } },
      /says that commit .* and it has eeeeeeeeeeee/,
    ],
    'if what was delivered is the step of an earlier time, as after an undo and the step once more': [
      plain,
      { delivered: { treeDigest: evidence.delivery.treeDigest, holdsMerge: false } },
      /does not contain the merge of this step/,
    ],
    'if newer evidence is committed already': [
      plain,
      { committedAt: later(minute).toISOString() },
      /is committed already/,
    ],
    'if it is unsigned, and signers are declared': [plain, { signers: [signerLine('eu-1', own)] }, /unsigned/],
    'if it is signed by another key': [byOther, { signers: [signerLine('eu-1', own)] }, /none of evidence.signers/],
    'if the signature is one of another look': [
      { evidence, signature: ofAnother.signature },
      {},
      /is not one of this evidence/,
    ],
    'if it is signed by a signer of another site': [
      byOther,
      {
        signers: [signerLine('eu-1', own), signerLine('us-1', other)],
        reports: { ...demand.reports, signer: 'eu-1' },
      },
      /signed by us-1, and only eu-1 may/,
    ],
  }

  it.each(Object.entries(cases))('%s', (_name, [written, change, because]) => {
    const asked = { ...demand, ...change }
    const why = whyNotTaken(written, asked)
    expect(why?.because).toMatch(because)
    expect(why?.hint).not.toBe('')
    expect(reportGate(site, why, asked.now)).toMatchObject({ verdict: 'unknown', because: [why?.because] })
  })
})

describe('a report is taken all the same', () => {
  it('by the signer that the site names', async () => {
    const signers = [signerLine('eu-1', own), signerLine('us-1', other)]
    const reports = { ...demand.reports, signer: 'eu-1' }
    expect(whyNotTaken(await signedWith(own), { ...demand, signers, reports })).toBeNull()
  })

  it('where it says itself that the delivery is not through: that is for the gates to say', () => {
    const behind = seenAs({ delivery: { ...evidence.delivery, treeDigest: 'a'.repeat(64) } })
    const delivered = { treeDigest: 'a'.repeat(64), holdsMerge: false }
    expect(whyNotTaken(behind, { ...demand, delivered })).toBeNull()
  })
})
