import { runScenario } from './scenario.ts'
import { scenarios } from './scenarios.ts'

/** Runs one scenario in the build that this file belongs to: `node child.js NAME SEED`. The ending is one JSON line on stdout. */
const [, , name = '', seed = '1'] = process.argv
const scenario = scenarios.find(each => each.name === name)
if (scenario === undefined) throw new Error(`there is no scenario ${name}`)
process.stdout.write(`${JSON.stringify(await runScenario(scenario, seed))}\n`)
