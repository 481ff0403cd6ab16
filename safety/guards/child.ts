import { runScenario } from './scenario.ts'
import { scenarios } from './scenarios.ts'

/** Runs one scenario in the build that this file belongs to: `node child.js NAME SEED`. The ending is one JSON line on stdout. */
const [, , name = '', seed = '1'] = process.argv
const scenario = scenarios.find(each => each.name === name)
if (scenario === undefined) throw new Error(`there is no scenario ${name}`)
const ending = await runScenario(scenario, seed)
// What is broken on purpose may leave a socket open that nobody answers any more.
process.stdout.write(`${JSON.stringify(ending)}\n`, () => process.exit(0))
