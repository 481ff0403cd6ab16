import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseDocument } from 'yaml'
import { ReanchorError } from '../src/errors.ts'
import { checkChange, judgeGate, provePlan } from '../src/index.ts'
import { readEvidence } from '../src/verify/evidence-file.ts'

/** What a case names, and what the library said; docs/safety-cases.md gives the format. */
export interface CaseResult {
  readonly file: string
  readonly name: string
  /** Null: as expected. Else what was found in its place. */
  readonly failure: string | null
}

const noCase = 'this is no case'

type Values = Readonly<Record<string, unknown>>

interface Said {
  readonly verdict: string
  readonly reasons: readonly string[]
}

/** Runs every case of a folder, by the order of file names. Throws ReanchorError (2) where a file is no case. */
export function runCases(folder: string): readonly CaseResult[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const chosen = files.filter(file => /\.(ya?ml|json)$/.test(file)).sort()
  if (chosen.length === 0) throw wrong(folder, 'files of cases, *.yaml or *.json', 'none')
  return chosen.flatMap(file => casesIn(folder, file))
}

function casesIn(folder: string, file: string): readonly CaseResult[] {
  const path = join(folder, file)
  const value = read(path)
  const cases = Array.isArray(value) ? value : [value]
  return cases.map((one, index) => {
    const where = cases.length === 1 ? path : `${path}[${index}]`
    const fields = mapOf(one, where)
    const name = typeof fields.name === 'string' ? fields.name : where
    return { file: path, name, failure: judged(fields, folder, where) }
  })
}

function read(path: string): unknown {
  const document = parseDocument(readFileSync(path, 'utf8'), { uniqueKeys: true, merge: true })
  const [error] = document.errors
  if (error !== undefined) throw wrong(path, 'YAML or JSON', error.message.split('\n')[0] ?? '')
  return document.toJS({ maxAliasCount: 100 })
}

function judged(fields: Values, folder: string, where: string): string | null {
  const expected = mapOf(fields.expect, `${where}: expect`)
  if (typeof expected.verdict !== 'string')
    throw wrong(`${where}: expect.verdict`, 'a verdict', String(expected.verdict))
  const said = say(fields, folder, where)
  if (said.verdict !== expected.verdict) return `${said.verdict}: ${said.reasons.join('; ')}`
  if (expected.reason === undefined) return null
  const reason = String(expected.reason)
  return said.reasons.some(each => each.includes(reason)) ? null : said.reasons.join('; ') || 'no reason'
}

function say(fields: Values, folder: string, where: string): Said {
  const input = mapOf(resolved(fields.input, folder), `${where}: input`)
  try {
    switch (fields.function) {
      case 'provePlan': {
        const { at, ...more } = mapOf(input.options ?? {}, `${where}: input.options`)
        const options = { ...more, ...(at === undefined ? {} : { at: new Date(String(at)) }) }
        const { safe, transitions } = provePlan(input.plan as never, options)
        const reasons = transitions.flatMap(({ counterexample }) =>
          counterexample === null ? [] : [counterexample.sentence],
        )
        return { verdict: safe ? 'safe' : 'unsafe', reasons }
      }
      case 'judgeGate': {
        const { plan, evidence, now, options } = input
        const { verdict, gates } = judgeGate(plan as never, evidence as never, String(now), (options ?? {}) as never)
        const open = gates.filter(gate => gate.verdict !== 'holds')
        return { verdict, reasons: open.map(gate => `${gate.id} ${gate.verdict}: ${gate.because.join('; ')}`) }
      }
      case 'checkChange': {
        const { safe, sites, reason, sentence } = checkChange(
          input.before as never,
          input.after as never,
          input.live as never,
        )
        const more = sites.filter(site => !site.safe).map(site => `${site.reason}: ${site.sentence}`)
        return { verdict: safe ? 'safe' : 'unsafe', reasons: [`${reason}: ${sentence}`, ...more] }
      }
      default:
        throw wrong(`${where}: function`, 'provePlan, judgeGate or checkChange', String(fields.function))
    }
  } catch (error) {
    // An input that is refused is an answer, too. What is no case at all is not.
    if (error instanceof ReanchorError && error.what !== noCase) return { verdict: 'refused', reasons: [error.message] }
    throw error
  }
}

/** What stands in files, by their paths from the folder of the cases: `$file` a value, `$text` its text, `$evidence` a file of evidence, `$folder` all files of a folder. */
function resolved(value: unknown, folder: string): unknown {
  if (Array.isArray(value)) return value.map(each => resolved(each, folder))
  if (typeof value !== 'object' || value === null) return value
  const fields = value as Values
  if (typeof fields.$file === 'string') return read(join(folder, fields.$file))
  if (typeof fields.$text === 'string') return readFileSync(join(folder, fields.$text), 'utf8')
  if (typeof fields.$evidence === 'string') {
    const path = join(folder, fields.$evidence)
    return readEvidence(readFileSync(path, 'utf8'), path)
  }
  if (typeof fields.$folder === 'string') return textsOf(join(folder, fields.$folder), String(fields.at ?? ''))
  return Object.fromEntries(Object.entries(fields).map(([key, each]) => [key, resolved(each, folder)]))
}

/** Files by the path that they would have in the repository. */
function textsOf(folder: string, at: string): Values {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  return Object.fromEntries(
    entries.map(entry => {
      const path = join(entry.parentPath, entry.name)
      const inside = relative(folder, path).replaceAll('\\', '/')
      return [at === '' ? inside : `${at}/${inside}`, readFileSync(path, 'utf8')]
    }),
  )
}

function mapOf(value: unknown, where: string): Values {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Values
  throw wrong(where, 'a map', value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 60))
}

function wrong(file: string, expected: string, found: string): ReanchorError {
  return new ReanchorError({
    what: noCase,
    where: { file },
    expected,
    found,
    todo: 'see docs/safety-cases.md',
  })
}
