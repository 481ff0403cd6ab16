import { type ChildProcess, fork } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { faultyRun, type RunOptions, type RunResult } from './run.ts'

export interface RunPool {
  /** All of them, several at a time; what each gave, as soon as it is there. */
  run(all: readonly RunOptions[], done: (result: RunResult) => void): Promise<void>
}

/** `width` processes beside this one; with a width of one, this process alone. */
export function runPool(width: number): RunPool {
  return {
    async run(all, done) {
      let next = 0
      const lane = async (one: (options: RunOptions) => Promise<RunResult>): Promise<void> => {
        for (;;) {
          const options = all[next]
          next += 1
          if (options === undefined) return
          done(await one(options))
        }
      }
      if (width <= 1) return await lane(faultyRun)
      const workers = Array.from({ length: Math.min(width, all.length) }, startWorker)
      try {
        await Promise.all(workers.map(worker => lane(options => asked(worker, options))))
      } finally {
        for (const worker of workers) worker.kill()
      }
    },
  }
}

function startWorker(): ChildProcess {
  const file = fileURLToPath(new URL('./worker.js', import.meta.url))
  const env = { ...process.env, TMPDIR: process.env.TMPDIR ?? fastFolder() }
  return fork(file, {
    env: env.TMPDIR === undefined ? process.env : env,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}

/** Each run has a repository of its own, of hundreds of small files: in memory, where the system has a place for that. */
function fastFolder(): string | undefined {
  try {
    accessSync('/dev/shm', constants.W_OK)
    return '/dev/shm'
  } catch {
    return undefined
  }
}

function asked(worker: ChildProcess, options: RunOptions): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void =>
      reject(new Error(`the process of ${options.system}, seed ${options.seed}, ended with ${code ?? 'a signal'}`))
    worker.once('exit', ended)
    worker.once('message', result => {
      worker.off('exit', ended)
      resolve(result as RunResult)
    })
    worker.send(options)
  })
}
