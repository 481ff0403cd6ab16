import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { output } from './components.ts'

export interface Measured {
  readonly seconds: number
  /** Seconds of processor time, user and system. */
  readonly processor: number
  /** Peak resident memory. */
  readonly mebibytes: number
  readonly exit: number
  readonly stdout: string
  readonly bytes: number
}

/** Python's resource module sees the peak of a child from outside: the same measure for a Go program and for Node. */
const watcher = `
import json, resource, subprocess, sys, time
began = time.time()
with open(sys.argv[1], 'wb') as out:
    code = subprocess.call(sys.argv[2:], stdout=out)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({'seconds': time.time() - began, 'processor': used.ru_utime + used.ru_stime, 'mebibytes': used.ru_maxrss / 1024, 'exit': code}))
`

/** Runs a command to its end; its standard output goes through a file of `folder`. */
export async function measured(folder: string, command: readonly string[], env: NodeJS.ProcessEnv): Promise<Measured> {
  const file = join(folder, `out-${process.pid}-${Date.now()}`)
  const told = await output('python3', ['-c', watcher, file, ...command], { env: { ...process.env, ...env } })
  const out = await readFile(file)
  return {
    ...(JSON.parse(told) as Omit<Measured, 'stdout' | 'bytes'>),
    stdout: out.toString('utf8'),
    bytes: out.length,
  }
}
