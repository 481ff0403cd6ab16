/** The mutants of `npm run safety` at a small scale; docs/safety.md has the counts of the whole. */
import { describe, expect, it } from 'vitest'
import { failureOf } from '../../safety/mutants/mutant.ts'
import { runMutants } from '../../safety/mutants/run.ts'

describe('mutants of plans, changes and evidence', () => {
  it('are all refused for the reason that they were made for, and what is harmless is let through (F1, F6, F25 to F27)', async () => {
    const lines: string[] = []
    const { mutants, harmless, classes, failures } = await runMutants({
      seed: 7,
      scale: 0.02,
      say: line => lines.push(line),
    })
    expect(failures).toEqual([])
    expect(mutants.refused).toBe(mutants.made)
    expect(harmless.passed).toBe(harmless.made)
    expect(lines).toHaveLength(classes.length)
    for (const { kind, bySystem } of classes)
      for (const [system, made] of Object.entries(bySystem)) expect(made, `${kind} of ${system}`).toBeGreaterThan(0)
  })

  it('are told from what is refused for another reason, and from what is let through', () => {
    const mutant = { system: 'istio', kind: 'plan/x', name: 'one', expected: new Set(['no-path']) } as const
    const said = (passed: boolean, reasons: readonly string[]) =>
      failureOf({ ...mutant, answer: () => ({ passed, reasons }) })
    expect(said(false, ['no-path'])).toBeNull()
    expect(said(true, [])?.found).toEqual(['let through'])
    expect(said(false, ['expired'])?.found).toEqual(['expired'])
    expect(said(false, ['no-path', 'expired'])?.found).toEqual(['expired'])
    expect(said(false, [])?.found).toEqual([])
  })
})
