/** The program as users run it: in this process with a terminal of the test's, or as a process of its own. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Terminal } from '../../src/cli/output.ts'
import { run } from '../../src/cli/program.ts'

export interface Ended {
  readonly exit: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command in this process. */
export async function called(...words: string[]): Promise<Ended> {
  const out: string[] = []
  const err: string[] = []
  const terminal: Terminal = {
    out: text => out.push(text),
    err: text => err.push(text),
    progress: false,
    interactive: false,
    color: false,
  }
  const exit = await run(words, terminal)
  return { exit, stdout: out.join(''), stderr: err.join('') }
}

const program = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

/** Runs the built program. */
export function startProgram(
  words: readonly string[],
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Ended> {
  if (!existsSync(program)) throw new Error('the program is not built: npm run build')
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...words], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (part: Buffer) => out.push(part))
    child.stderr.on('data', (part: Buffer) => err.push(part))
    child.once('error', reject)
    child.once('close', exit =>
      resolve({ exit, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
    )
  })
}
