import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { serialize } from 'node:v8'
import type { Act } from './acts.ts'
import type { Chance } from './chance.ts'
import type { Stage } from './stage.ts'
import type { Crash, CrashPoint } from './sweep.ts'

/** What a child process is given. */
export interface Sentence {
  readonly act: Act
  readonly stage: Stage
  readonly chance: Chance
  readonly at: CrashPoint
}

const child = fileURLToPath(new URL('./child.js', import.meta.url))

/** Runs the command in a process of its own, which sends itself SIGKILL at the point. Only the built program has such a process. */
export const killed: Crash = async (act, stage, chance, at) => {
  const file = join(tmpdir(), `reanchor-sentence-${randomUUID()}`)
  const sentence: Sentence = { act, stage, chance, at }
  writeFileSync(file, serialize(sentence), { mode: 0o600 })
  try {
    const ended = await new Promise<string>((resolve, reject) => {
      const started = spawn(process.execPath, [child, file], { stdio: ['ignore', 'ignore', 'pipe'] })
      const said: Buffer[] = []
      started.stderr.on('data', (part: Buffer) => said.push(part))
      started.once('error', reject)
      started.once('close', (code, signal) => resolve(signal ?? `code ${code}: ${Buffer.concat(said).toString()}`))
    })
    if (ended !== 'SIGKILL') throw new Error(`${act.name} was not killed at write ${at.write}: ${ended}`)
  } finally {
    rmSync(file, { force: true })
  }
}
