import { readFileSync } from 'node:fs'
import { deserialize } from 'node:v8'
import { perform } from './acts.ts'
import { rememberSignatures } from './chance.ts'
import type { Sentence } from './kill.ts'
import { holdAt } from './sweep.ts'

/** The process that `killed` starts: it runs one command and kills itself at one point of it. */
const { act, stage, chance, at } = deserialize(readFileSync(process.argv[2] ?? '')) as Sentence
rememberSignatures(chance)
const onWrite = holdAt(at, async () => {
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => undefined)
})
process.stderr.write(`${await perform(act, stage, chance, { onWrite })}\n`)
