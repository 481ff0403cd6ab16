import { existsSync, readFileSync } from 'node:fs'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { replacedOnce } from '../../safety/guards/build.ts'
import type { Ending } from '../../safety/guards/drive.ts'
import { type Guard, withoutGuard } from '../../safety/guards/guard.ts'
import { guards, quickScenarios } from '../../safety/guards/guards.ts'
import { verdictOf } from '../../safety/guards/run.ts'
import { scenarios } from '../../safety/guards/scenarios.ts'
import { guardRows } from '../../safety/guards/table.ts'

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile('tsconfig.build.json', ts.sys.readFile).config,
  ts.sys,
  '.',
)
/** One file by itself does not say that it is a module. */
const compilerOptions = {
  ...options,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
}
const built = new Map<string, string>()

/** A file as the build writes it. */
function builtText(file: string): string {
  const source = file.replace(/\.js$/, '.ts')
  const text = built.get(file) ?? ts.transpileModule(readFileSync(source, 'utf8'), { compilerOptions }).outputText
  built.set(file, text)
  return text
}

const ending: Ending = { ended: 'waits', at: 'add/data', by: [], failedHandshakes: 0, wrong: [], first: null }
const gated: Guard = {
  name: 'a/one',
  prevents: 'harm',
  failures: ['F1'],
  caughtBy: 'x',
  gates: ['a/one', 'a/two'],
}
const shut = { ...ending, by: ['a/one (pending): it lags', 'a/two (unknown): not seen'] }
const failing = { ...ending, failedHandshakes: 3, first: 'swap: workload: a → b: unable to verify' }

describe('the list of guards', () => {
  it.each(guards.map(guard => [guard.name, guard] as const))(
    '%s: what is taken out stands in the build once',
    (_, guard) => {
      const replacements = [...(guard.beside?.replacements ?? []), ...withoutGuard(guard)]
      expect(withoutGuard(guard).length).toBeGreaterThan(0)
      const texts = new Map<string, string>()
      for (const { file, ...replacement } of replacements)
        texts.set(file, replacedOnce(texts.get(file) ?? builtText(file), { file, ...replacement }))
    },
  )

  it('names gates that there are, scenarios that there are, and failures of the catalogue', () => {
    const gateFiles = ['istio', 'linkerd', 'kyma', 'cassandra']
      .map(system => `src/systems/${system}/gates.ts`)
      .concat('src/verify/common-gates.ts')
    const texts = gateFiles.map(file => readFileSync(file, 'utf8')).join('\n')
    for (const { gates = [], caughtBy, failures, name } of guards) {
      for (const id of gates) expect(texts, name).toMatch(new RegExp(`'${id}'`))
      expect(scenarios.map(scenario => scenario.name)).toContain(caughtBy)
      for (const failure of failures) expect(Number(failure.slice(1))).toSatisfy((n: number) => n >= 1 && n <= 32)
    }
    for (const name of quickScenarios) expect(scenarios.map(scenario => scenario.name)).toContain(name)
  })

  it('has each name once, and no scenario that catches nothing', () => {
    const names = guards.map(({ name }) => name)
    expect(names).toHaveLength(new Set(names).size)
    const scenarioNames = scenarios.map(({ name }) => name)
    expect(scenarioNames).toHaveLength(new Set(scenarioNames).size)
    expect(scenarioNames.filter(name => !guards.some(({ caughtBy }) => caughtBy === name))).toEqual([])
  })

  it('is the table of docs/safety.md', () => {
    const page = readFileSync('docs/safety.md', 'utf8')
    expect(page).toContain(`${guardRows().join('\n')}\n\n`)
    expect(existsSync('safety/guards/child.ts')).toBe(true)
  })
})

describe('a guard', () => {
  it('is caught where its scenario ends safely with it and not without it', () => {
    expect(verdictOf(gated, shut, failing)).toBeNull()
    expect(verdictOf(gated, shut, { ...ending, wrong: ['two pull requests are open'] })).toBeNull()
  })

  it('is not caught where the scenario ends as safely without it', () => {
    expect(verdictOf(gated, shut, ending)).toMatch(/ends as safely/)
  })

  it('is not caught where the scenario fails with the guard in too', () => {
    expect(verdictOf(gated, failing, failing)).toMatch(/does not end safely/)
  })

  it('is not caught where one of the gates taken out did not keep the step shut', () => {
    expect(verdictOf(gated, { ...shut, by: ['a/one (pending): it lags'] }, failing)).toMatch(/^a\/two does not keep/)
  })
})

describe('a replacement', () => {
  it('is refused where its text is not there, or there twice', () => {
    const replacement = { file: 'src/x.js', find: 'if (shut)', replace: 'if (false)' }
    expect(replacedOnce('if (shut) wait()', replacement)).toBe('if (false) wait()')
    expect(() => replacedOnce('wait()', replacement)).toThrow(/stale/)
    expect(() => replacedOnce('if (shut) if (shut) wait()', replacement)).toThrow(/stale/)
  })
})
