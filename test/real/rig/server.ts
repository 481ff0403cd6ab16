import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process that the rig started. All of them end with the test process, however that ends. */
export interface Server {
  readonly name: string
  readonly pid: number
  /** File with what it wrote to both its outputs. */
  readonly log: string
  /** Ends with the exit code, or null where a signal ended it. */
  readonly exited: Promise<number | null>
  running(): boolean
  /** SIGSTOP: alive and silent. */
  pause(): void
  resume(): void
  /** SIGTERM, then SIGKILL after `patience` milliseconds; returns when it is gone. @default 5000 */
  stop(patience?: number): Promise<void>
  kill(): Promise<void>
}

export interface StartOptions {
  readonly log: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

const running = new Set<ChildProcess>()

// A process group per server: what it started ends with it.
function endAll(): void {
  for (const child of running) signalGroup(child, 'SIGKILL')
}
process.once('exit', endAll)

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // Gone already.
  }
}

export function startServer(name: string, command: readonly [string, ...string[]], options: StartOptions): Server {
  const out = openSync(options.log, 'a')
  const [file, ...args] = command
  // Ends with the test process even where that is killed and can end nothing itself.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', file, ...args], {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', out, out],
    detached: true,
  })
  closeSync(out)
  running.add(child)
  const exited = new Promise<number | null>(resolve => {
    child.once('error', () => resolve(-1))
    child.once('exit', code => resolve(code))
  }).finally(() => running.delete(child))
  const alive = (): boolean => child.exitCode === null && child.signalCode === null && child.pid !== undefined
  return {
    name,
    pid: child.pid ?? 0,
    log: options.log,
    exited,
    running: alive,
    pause: () => signalGroup(child, 'SIGSTOP'),
    resume: () => signalGroup(child, 'SIGCONT'),
    async stop(patience = 5000) {
      if (!alive()) return
      signalGroup(child, 'SIGCONT')
      signalGroup(child, 'SIGTERM')
      const clock = setTimeout(() => signalGroup(child, 'SIGKILL'), patience)
      await exited
      clearTimeout(clock)
    },
    async kill() {
      if (!alive()) return
      signalGroup(child, 'SIGKILL')
      await exited
    },
  }
}

/**
 * A port that was free a moment ago. It lies below those that the kernel gives to outgoing connections (`ip_local_port_range`), as one of the many of a rig would
 * take it before its server does, which may be half a minute later.
 */
export async function freePort(address = '127.0.0.1'): Promise<number> {
  for (;;) {
    const port = randomInt(16_000, 30_000)
    if (await isFree(port, address)) return port
  }
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EADDRINUSE') resolve(false)
      else reject(cause)
    })
    server.listen(port, host, () => server.close(() => resolve(true)))
  })
}

/** Waits until `look` gives something; throws with `what` and its last error after `patience` milliseconds. @default 30000 */
export async function until<T>(
  what: string,
  look: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  patience = 30_000,
  pause = 50,
): Promise<T> {
  const end = Date.now() + patience
  let last: unknown = null
  for (;;) {
    try {
      const found = await look()
      if (found !== null && found !== undefined && found !== false) return found
    } catch (cause) {
      last = cause
    }
    if (Date.now() > end) {
      const why = last instanceof Error ? `: ${last.message}` : ''
      throw new Error(`not within ${patience / 1000} s: ${what}${why}`)
    }
    await sleep(pause)
  }
}

/** The last lines of a server's log, for a message about it. */
export async function logEnd(server: Server, lines = 15): Promise<string> {
  const text = await readFile(server.log, 'utf8').catch(() => '')
  return text.trim().split('\n').slice(-lines).join('\n')
}
