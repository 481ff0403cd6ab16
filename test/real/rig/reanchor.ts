import { spawn } from 'node:child_process'
import { delimiter } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What a command of reanchor ended with. */
export interface Said {
  readonly command: string
  readonly exit: number
  readonly stdout: string
  readonly stderr: string
  /** The `result` of `--output json`; null without it. */
  readonly json: unknown
  readonly seconds: number
}

export interface RunOptions {
  /** The user's clone. */
  readonly cwd: string
  /** kubeconfig files, in the order of KUBECONFIG; none: a machine without any. */
  readonly kubeconfig?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** The process is killed after this many milliseconds, and `exit` is then 137. @default 120000 */
  readonly patience?: number
  /** Milliseconds, or a moment, after which it ends with everything that it started, as where its machine is taken away; `exit` is then 137. */
  readonly lost?: number | (() => boolean)
}

const entry = fileURLToPath(new URL('../../../dist/src/cli/main.js', import.meta.url))

/** Runs the built command line in a process of its own, as a user does. Never throws for what the command answers. */
export function reanchor(args: readonly string[], options: RunOptions): Promise<Said> {
  const began = Date.now()
  const { lost } = options
  // What the machine's user has must not help: neither a kubeconfig nor an age identity nor a Git name.
  const { KUBECONFIG: _kubeconfig, SOPS_AGE_KEY: _key, SOPS_AGE_KEY_FILE: _file, ...inherited } = process.env
  const env = {
    ...inherited,
    NO_COLOR: '1',
    KUBECONFIG: (options.kubeconfig ?? ['/dev/null']).join(delimiter),
    GIT_AUTHOR_NAME: 'Robin',
    GIT_AUTHOR_EMAIL: 'robin@example.com',
    ...options.env,
  }
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [entry, ...args], {
      cwd: options.cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own can be ended as one.
      detached: lost !== undefined,
    })
    const out: Buffer[] = []
    const said: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk))
    const kill = (): void => {
      if (lost === undefined) child.kill('SIGKILL')
      else endGroup(child.pid)
    }
    const clock = setTimeout(kill, typeof lost === 'number' ? lost : (options.patience ?? 120_000))
    const watch = typeof lost === 'function' ? setInterval(() => lost() && kill(), 1) : undefined
    child.once('error', reject)
    child.once('close', code => {
      clearTimeout(clock)
      clearInterval(watch)
      const stdout = Buffer.concat(out).toString('utf8')
      resolve({
        command: `reanchor ${args.join(' ')}`,
        exit: code ?? 137,
        stdout,
        stderr: Buffer.concat(said).toString('utf8'),
        json: resultOf(args, stdout),
        seconds: (Date.now() - began) / 1000,
      })
    })
  })
}

function endGroup(leader: number | undefined): void {
  if (leader === undefined) return
  try {
    process.kill(-leader, 'SIGKILL')
  } catch {
    // It ended by itself a moment ago.
  }
}

/** Standard output is one JSON object, whatever happened: what is not that is a defect, and shows as null. */
function resultOf(args: readonly string[], stdout: string): unknown {
  if (!args.includes('json')) return null
  try {
    return (JSON.parse(stdout) as { readonly result: unknown }).result
  } catch {
    return null
  }
}

/** For a message: the command, its exit code and what it said. */
export function told(said: Said): string {
  return `${said.command} ended with ${said.exit}\n${said.stderr}${said.stdout}`
}

/** Runs a command that has to end with 0. */
export async function mustSay(args: readonly string[], options: RunOptions): Promise<Said> {
  const said = await reanchor(args, options)
  if (said.exit !== 0) throw new Error(told(said))
  return said
}
