import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCases } from '../../safety/cases.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'reanchor-cases-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function run(text: string): ReturnType<typeof runCases> {
  writeFileSync(join(folder, 'case.yaml'), text)
  return runCases(folder)
}

describe('cases written by others', () => {
  it('are as expected where the examples say so', () => {
    const results = runCases('examples/safety-cases')
    expect(results.filter(({ failure }) => failure !== null)).toEqual([])
    expect(results).toHaveLength(6)
  })

  it('say what came out where it is not what was expected, verdict or reason', () => {
    const text = (expected: string): string =>
      `function: checkChange\ninput: {before: {}, after: {}, live: {at: "2026-11-22T06:00:00Z", plan: null, sites: {}, certificates: []}}\nexpect: ${expected}\n`
    expect(run(text('{verdict: safe, reason: no-change}'))[0]?.failure).toBeNull()
    expect(run(text('{verdict: unsafe}'))[0]?.failure).toBe('safe: no-change: no change of trust')
    expect(run(text('{verdict: safe, reason: next-step}'))[0]?.failure).toContain('no-change')
  })

  it('take an input that is refused for an answer', () => {
    const text = `function: judgeGate\ninput: {plan: {}, evidence: [], now: never}\nexpect: {verdict: refused, reason: cannot be read}\n`
    expect(run(text)[0]?.failure).toBeNull()
  })

  it.each([
    ['an unknown function', 'function: prove\ninput: {}\nexpect: {verdict: safe}\n'],
    ['no expectation', 'function: provePlan\ninput: {}\n'],
    ['broken YAML', 'a: [1\n'],
  ])('are refused where there is %s', (_what, text) => {
    expect(() => run(text)).toThrow('this is no case')
  })
})
