import type { Guard } from './guard.ts'
import { guards } from './guards.ts'
import type { Scenario } from './scenario.ts'
import { scenarios } from './scenarios.ts'

/** The rows of the table of guards in docs/safety.md, without what a run of them gave. */
export function guardRows(): readonly string[] {
  const told = new Set<string>()
  return guards.map(guard => {
    const scenario = scenarios.find(({ name }) => name === guard.caughtBy)
    if (scenario === undefined) throw new Error(`no scenario ${guard.caughtBy}`)
    const first = !told.has(guard.caughtBy)
    told.add(guard.caughtBy)
    return `| \`${guard.name}\` | ${guard.prevents} (${guard.failures.join(', ')}) | ${placeOf(guard)} | ${catching(scenario, first)} |`
  })
}

function catching({ name, fault }: Scenario, first: boolean): string {
  return first ? `\`${name}\`: ${fault}` : `\`${name}\``
}

/** What is taken out, and what is out in both builds. */
function placeOf({ name, gates = [], removals = [], beside }: Guard): string {
  const others = gates.filter(id => id !== name).map(id => `\`${id}\``)
  const files = [...new Set(removals.map(({ file }) => `\`${file.replace(/\.js$/, '.ts')}\``))]
  const own = gates.includes(name) ? ['its gate', ...files] : files
  const withOthers = others.length === 0 ? own.join(', ') : `${own.join(', ')} with ${others.join(', ')}`
  return beside === undefined ? withOthers : `${withOthers}; in both builds ${beside.what}`
}
