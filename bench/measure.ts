import { spawn, spawnSync } from 'node:child_process'

/** One line of the report: what was measured, what it is held against, and the bound. */
export interface Line {
  readonly what: string
  readonly measured: string
  readonly reference: string
  /** What the bound is about: a ratio, or the measured value itself. */
  readonly value: number
  readonly bound: number
  readonly unit: '×' | 'ms' | 'MiB'
  readonly ok: boolean
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

/** Median milliseconds of two things measured in turn, so that what else the machine does falls on both. */
export async function inTurn(
  rounds: number,
  measured: () => unknown,
  reference: () => unknown,
): Promise<{ readonly measured: number; readonly reference: number }> {
  const times: [number[], number[]] = [[], []]
  for (let round = -1; round < rounds; round++) {
    for (const [index, run] of [measured, reference].entries()) {
      const took = await timed(run)
      // The first round fills caches.
      if (round >= 0) times[index]?.push(took)
    }
  }
  return { measured: median(times[0]), reference: median(times[1]) }
}

export async function timed(run: () => unknown): Promise<number> {
  const start = performance.now()
  await run()
  return performance.now() - start
}

export interface Ran {
  readonly milliseconds: number
  /** Peak resident memory, in MiB. */
  readonly peak: number
  readonly out: string
  readonly status: number | null
}

/** Asks a Node program for its peak memory, which costs it a little time. */
function watching(): readonly string[] {
  const report = 'process.on("exit", () => process.stderr.write("\\npeak " + process.resourceUsage().maxRSS + "\\n"))'
  return ['--import', `data:text/javascript,${encodeURIComponent(report)}`]
}

function peakOf(stderr: string): number {
  return Number(/\npeak (\d+)\n/.exec(stderr)?.[1] ?? 0) / 1024
}

/** A Node program from start to end. `watch`: its peak memory too. */
export function node(words: readonly string[], watch = false): Ran {
  const start = performance.now()
  const { status, stdout, stderr } = spawnSync(process.execPath, [...(watch ? watching() : []), ...words], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  })
  return { milliseconds: performance.now() - start, peak: peakOf(stderr), out: stdout, status }
}

/** The same while this process goes on, as it has to answer; its peak memory always. */
export function nodeBeside(words: readonly string[]): Promise<Ran> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...watching(), ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, said] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString('utf8')))
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')))
    child.once('error', reject)
    child.once('close', status => {
      if (status !== 0) reject(new Error(`${words.join(' ')} ended with ${status}:\n${said}`))
      else resolve({ milliseconds: performance.now() - start, peak: peakOf(said), out, status })
    })
  })
}

export function ratio(
  what: string,
  times: { readonly measured: number; readonly reference: number },
  against: string,
  bound: number,
): Line {
  const value = times.measured / times.reference
  return {
    what,
    measured: `${times.measured.toFixed(1)} ms`,
    reference: `${against} ${times.reference.toFixed(1)} ms`,
    value,
    bound,
    unit: '×',
    ok: value <= bound,
  }
}

export function amount(what: string, value: number, bound: number, unit: 'ms' | 'MiB', reference = ''): Line {
  return { what, measured: `${value.toFixed(1)} ${unit}`, reference, value, bound, unit, ok: value <= bound }
}

export function report(lines: readonly Line[]): string {
  const rows = lines.map(({ what, measured, reference, value, bound, unit, ok }) => [
    what,
    measured,
    reference,
    unit === '×' ? `${value.toFixed(2)} ×` : '',
    `≤ ${bound} ${unit}`,
    ok ? 'ok' : 'over',
  ])
  const table = [['what', 'median', 'reference', 'ratio', 'bound', ''], ...rows]
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map(row => [...(row[column] ?? '')].length)))
  const padded = (cell: string, column: number) => cell + ' '.repeat((widths[column] ?? 0) - [...cell].length)
  return `${table.map(row => row.map(padded).join('  ').trimEnd()).join('\n')}\n`
}
