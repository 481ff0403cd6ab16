import type { SystemName } from '../../src/rotation.ts'
import { systemNames } from '../../src/systems/systems.ts'
import { runPool } from './pool.ts'
import type { RunResult } from './run.ts'

export interface RehearsalOptions {
  readonly seed: number
  readonly scale: number
  /** Runs at a time, each in a process of its own. @default one, in this process */
  readonly width?: number
  say(line: string): void
}

export interface RehearsalCounts {
  readonly runs: number
  readonly failedHandshakes: number
  /** Runs that came to the closed rotation. */
  readonly finished: number
  readonly handshakes: number
}

/** At scale 1, of each system. */
const perSystem = 200

/**
 * What turns are taken in, of strategies that promise that nothing fails: an emergency cuts connections on purpose. Kyma's `renew` is the scenario of
 * a CA that soon expires.
 */
const flows: Readonly<Record<SystemName, readonly (string | null)[]>> = {
  istio: [null],
  linkerd: ['trust-roots', 'upgrade', 'config-map'],
  kyma: ['graceful', 'soon-to-expire'],
  cassandra: [null],
}

/** Whole rotations while what seeds draw goes wrong: the first of a system has the seed that is given, the next one more. */
export async function rehearsals({ seed, scale, width = 1, say }: RehearsalOptions): Promise<RehearsalCounts> {
  const each = Math.max(1, Math.round(perSystem * scale))
  let [runs, failedHandshakes, finished, handshakes] = [0, 0, 0, 0]
  for (const system of systemNames) {
    const began = Date.now()
    const of = { finished: 0, attempted: 0, failed: 0, waited: 0 }
    const all = Array.from({ length: each }, (_, number) => ({
      system,
      flow: flows[system][number % flows[system].length] ?? null,
      seed: seed + number,
    }))
    await runPool(width).run(all, run => {
      for (const line of wrongLines(run)) say(line)
      if (run.finished) of.finished += 1
      if (run.waitedFor.length > 0) of.waited += 1
      of.attempted += run.handshakes.attempted
      of.failed += run.handshakes.failed
    })
    const seconds = ((Date.now() - began) / 1000 / each).toFixed(1)
    say(
      `rehearsals of ${system}: ${each} runs, ${of.finished} finished, ${of.waited} with a person’s help, ${of.attempted} handshakes, ${of.failed} failed; ${seconds} s each`,
    )
    runs += each
    finished += of.finished
    handshakes += of.attempted
    failedHandshakes += of.failed
  }
  return { runs, failedHandshakes, finished, handshakes }
}

function wrongLines({ system, flow, seed, stoppedBy, firstFailure, handshakes }: RunResult): readonly string[] {
  const name = `${system}${flow === null ? '' : ` ${flow}`}, seed ${seed}`
  const unfinished = stoppedBy === null ? [] : [`${name}: not finished: ${stoppedBy}`]
  if (firstFailure === null) return unfinished
  const { at, step, faults, trace, handshake } = firstFailure
  const short = (fingerprint: string | null): string => fingerprint?.slice(0, 16) ?? 'none'
  return [
    ...unfinished,
    `${name}: ${handshakes.failed} handshakes failed, the first after ${step} at ${at}`,
    `  ${handshake.link}: ${handshake.client} → ${handshake.server}: ${handshake.error}`,
    `  client: leaf ${short(handshake.clientLeaf)}, trusts ${handshake.clientTrusts.map(short).join(', ')}`,
    `  server: leaf ${short(handshake.serverLeaf)}, trusts ${handshake.serverTrusts.map(short).join(', ')}`,
    ...faults.map(fault => `  out of order then: ${fault}`),
    ...trace.map(line => `  ${line.at} ${line.what}`),
  ]
}
