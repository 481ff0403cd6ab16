import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readTrustHeader, readTrustText, trustHeader, trustText } from '../../src/report/trust-txt.ts'
import { newRoot, oldRoot } from './runbook.ts'

const header = 'reanchor mesh-2026 2-trust-both/1-data eu-1'

describe('trust.txt', () => {
  it('lists each certificate of each place on one line', async () => {
    const text = trustText({
      header,
      places: [
        { place: 'cacerts.yaml:ca-cert.pem', role: 'issuer', certificates: [oldRoot] },
        { place: 'cacerts.yaml:root-cert.pem', role: 'trusted', certificates: [oldRoot, newRoot, newRoot] },
      ],
    })
    await expect(text).toMatchFileSnapshot('golden/trust.txt')
  })

  it('changes no other line when a certificate is added', () => {
    const of = (certificates: (typeof oldRoot)[]): string[] =>
      trustText({ header, places: [{ place: 'a', role: 'trusted', certificates }] }).split('\n')
    const more = of([
      oldRoot,
      { ...newRoot, subject: 'CN=a subject that is longer than any column is wide at first, O=acme' },
    ])
    expect(more.filter(line => !of([oldRoot]).includes(line))).toHaveLength(1)
  })

  it('reads back what it wrote, whatever the subject holds', () => {
    const place = fc.string({ minLength: 1, unit: 'binary' })
    fc.assert(
      fc.property(place, place, fc.string({ unit: 'binary' }), (name, role, subject) => {
        const text = trustText({ header, places: [{ place: name, role, certificates: [{ ...oldRoot, subject }] }] })
        expect(text.split('\n')).toHaveLength(3)
        expect(readTrustText(text).certificates).toEqual([
          { place: name, role, subject, sha256: oldRoot.sha256, key: oldRoot.key, notAfter: oldRoot.notAfter },
        ])
      }),
    )
  })

  it('says which line cannot be read', () => {
    expect(() => readTrustText(`${header}\nnonsense\n`, 'trust/eu-1/trust.txt')).toThrow(
      'trust/eu-1/trust.txt:2: a line of trust.txt',
    )
    expect(() => readTrustText('hello\n')).toThrow('trust.txt:1: not a trust.txt')
  })
})

describe('the first line', () => {
  it('names the step, its undo and its nudge', () => {
    const parts = { rotation: 'mesh-2026', phase: 3, phaseName: 'issue-new', step: 1, stepName: 'data', site: 'eu-1' }
    expect(trustHeader({ ...parts, variant: 'step' })).toBe('reanchor mesh-2026 3-issue-new/1-data eu-1')
    expect(trustHeader({ ...parts, variant: 'undo' })).toBe('reanchor mesh-2026 3-issue-new/1-data undo eu-1')
    for (const variant of ['step', 'undo', 'nudge'] as const)
      expect(readTrustHeader(trustHeader({ ...parts, variant }))).toEqual({ ...parts, variant })
    expect(readTrustHeader('hello')).toBeNull()
  })
})
