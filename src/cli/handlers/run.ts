import { hostname } from 'node:os'
import type { Context } from '../../commands/context.ts'
import { type Round, type RunEnd, runRounds, type Stop } from '../../commands/run.ts'
import { type ExitCode, exitCodes, ReanchorError } from '../../errors.ts'
import { errorFields, type Log, type LogLevel, logTo } from '../../runner/log.ts'
import type { Metrics } from '../../runner/metrics.ts'
import { type CommonOptions, duration } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { packageVersion } from '../version.ts'
import { chosen, contextFor } from './common.ts'
import { describeOutcome } from './next.ts'

interface RunFlags extends CommonOptions {
  readonly once: boolean
  readonly waitingOk: boolean
  readonly interval: string
  readonly forever: boolean
  readonly lock: boolean
  readonly lockFor: string
  readonly log: 'text' | 'json'
  readonly logLevel: LogLevel
  readonly metricsFile?: string
  readonly metricsPort?: string
  readonly metricsHost: string
}

export async function runHandler(options: RunFlags, terminal: Terminal): Promise<CommandResult> {
  const interval = duration(options.interval, '--interval')
  const lasts = duration(options.lockFor, '--lock-for')
  const port = options.metricsPort === undefined ? null : portOf(options.metricsPort)
  const log = logTo(terminal.err, { form: options.log, level: options.logLevel, now: () => new Date() })
  const context = loggingContext(await contextFor(options, quietly(terminal, options)), log, options)
  const stop = stopSignal()
  const metrics = await metricsFor(options)
  const server = metrics === null || port === null ? null : await served(metrics, options, { port, interval }, log)
  try {
    const rounds = {
      ...chosen(options),
      once: options.once,
      interval,
      forever: options.forever,
      stop,
      ...(options.lock ? { lock: { holder: `${hostname()}, process ${process.pid}`, lasts, every } } : {}),
    }
    log({
      level: 'debug',
      event: 'started',
      rotation: options.rotation ?? null,
      text: '',
      fields: { interval, once: options.once },
    })
    const end = await runRounds(context, rounds, async round => {
      await tellRound(log, round, options.once, terminal)
      await measure(context, options, metrics, round)
    })
    if (end.kind === 'ended') return allowed(await describeEnd(end, terminal), options)
    log({ level: 'info', event: 'stopped', rotation: null, text: '' })
    // A round that is under way, or a pause, would keep the process; neither posts anything any more.
    setTimeout(() => process.exit(), 500).unref()
    return {
      rotation: end.rotations.length === 1 ? (end.rotations[0]?.name ?? null) : null,
      exit: exitCodes.waiting,
      result: { kind: 'stopped' },
      text: 'stopped: pull requests that are safe only while they are observed wait until `reanchor run` goes on',
    }
  } catch (error) {
    if (error instanceof ReanchorError && error.exit === exitCodes.waiting && options.once && options.waitingOk)
      return allowed({ rotation: null, exit: error.exit, result: failureOf(error), text: error.message }, options)
    if (options.log === 'json')
      log({ level: 'error', event: 'ended', rotation: options.rotation ?? null, text: '', fields: errorFields(error) })
    throw error
  } finally {
    stop.forget()
    server?.close()
  }
}

/** A lock is kept by a timer of its own, which keeps no process from ending. */
function every(milliseconds: number, call: () => Promise<void>): () => void {
  // What fails is tried again at the next time; a lock that ends meanwhile is noticed by the round.
  const timer = setInterval(() => void call().catch(() => null), milliseconds)
  timer.unref()
  return () => clearInterval(timer)
}

/** Progress is a line of the log where that is JSON. */
function quietly(terminal: Terminal, { log }: RunFlags): Terminal {
  return log === 'json' ? { ...terminal, progress: false } : terminal
}

function loggingContext(context: Context, log: Log, options: RunFlags): Context {
  if (options.log !== 'json') return context
  return {
    ...context,
    progress: line => log({ level: 'debug', event: 'progress', rotation: options.rotation ?? null, text: line }),
  }
}

function portOf(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port <= 65_535) return port
  throw new ReanchorError({
    what: '--metrics-port is no port',
    expected: 'a number up to 65535; 0: any that is free',
    found: text,
    example: '--metrics-port 9464',
    todo: 'correct the option',
  })
}

async function metricsFor({ metricsFile, metricsPort }: RunFlags): Promise<Metrics | null> {
  if (metricsFile === undefined && metricsPort === undefined) return null
  const { runnerMetrics } = await import('../../runner/metrics.ts')
  return runnerMetrics(packageVersion())
}

async function served(
  metrics: Metrics,
  { metricsHost, once }: RunFlags,
  { port, interval }: { readonly port: number; readonly interval: number },
  log: Log,
): Promise<{ readonly close: () => void }> {
  const { serveMetrics } = await import('../../runner/metrics-output.ts')
  // A round may take minutes, and failures back off: an hour without any is worth a restart.
  const staleAfter = Math.max(3_600_000, 5 * interval)
  const server = await serveMetrics(metrics, { host: metricsHost, port, staleAfter, now: () => new Date() })
  if (!once)
    log({
      level: 'info',
      event: 'metrics',
      rotation: null,
      text: `metrics at http://${metricsHost}:${server.port}/metrics`,
      fields: { host: metricsHost, port: server.port },
    })
  return server
}

async function measure(context: Context, options: RunFlags, metrics: Metrics | null, round: Round): Promise<void> {
  if (metrics === null) return
  const { roundFacts } = await import('../../commands/round-facts.ts')
  metrics.round(await roundFacts(context, options.base ?? null, round))
  if (options.metricsFile === undefined) return
  const { writeMetrics } = await import('../../runner/metrics-output.ts')
  await writeMetrics(options.metricsFile, metrics)
}

/** The last word of one round is the command's result, and stands on standard output. */
async function tellRound(log: Log, round: Round, once: boolean, terminal: Terminal): Promise<void> {
  const took = { took: round.took }
  if (round.kind === 'told') {
    const { text, exit, result } = await describeOutcome(round.outcome, terminal)
    const final = once || round.outcome.kind === 'done'
    log({
      level: exit === exitCodes.violated ? 'warn' : 'info',
      event: 'round',
      rotation: round.rotation.name,
      text: final ? '' : text,
      fields: { outcome: round.outcome.kind, exit, ...took, ...shortly(result) },
    })
    return
  }
  const { error, rotation } = round
  if (round.kind === 'later') {
    log({
      level: 'info',
      event: 'later',
      rotation,
      text: once ? '' : error.message,
      fields: { ...took, ...errorFields(error) },
    })
    return
  }
  const again = round.again === null ? '' : `\ntried again in ${Math.ceil(round.again / 1000)} s`
  log({
    level: round.again === null ? 'error' : 'warn',
    event: 'failed',
    rotation,
    text: once ? '' : `${error.message}${again}`,
    fields: { ...took, again: round.again, ...errorFields(error) },
  })
}

/** Of a result what fits in a line: not the body of a pull request, and gates that do not hold by their ids. */
function shortly(result: unknown): Readonly<Record<string, unknown>> {
  const {
    verdict,
    pullRequest,
    gates = [],
  } = result as {
    readonly verdict?: string
    readonly pullRequest?: unknown
    readonly gates?: readonly { readonly id: string; readonly site: string; readonly verdict: string }[]
  }
  const open = gates
    .filter(gate => gate.verdict !== 'holds')
    .map(({ id, site, verdict: is }) => ({ id, site, verdict: is }))
  return {
    ...(verdict === undefined ? {} : { verdict }),
    ...(pullRequest === undefined ? {} : { pullRequest }),
    ...(gates.length === 0 ? {} : { gates: { of: gates.length, open } }),
  }
}

/** One rotation: as `next` tells of it. Several: each by its name, with the worst exit code. */
async function describeEnd(end: Extract<RunEnd, { kind: 'ended' }>, terminal: Terminal): Promise<CommandResult> {
  const described = await Promise.all(
    end.rounds.map(async round => {
      if (round.kind !== 'told')
        return {
          rotation: round.rotation,
          exit: round.error.exit,
          result: failureOf(round.error),
          text: round.error.message,
        }
      return { rotation: round.rotation.name, ...(await describeOutcome(round.outcome, terminal)) }
    }),
  )
  const [only] = described
  if (only !== undefined && described.length === 1) return only
  return {
    rotation: null,
    exit: worstExit(described.map(({ exit }) => exit)),
    result: {
      kind: 'rotations',
      rotations: described.map(({ rotation, exit, result }) => ({ rotation, exit, result })),
    },
    text: described.map(({ rotation, text }) => `${rotation}: ${text}`).join('\n'),
  }
}

function failureOf({ what, where, expected, found, todo, example }: ReanchorError) {
  return { error: { what, where, expected, found, todo, example } }
}

/** A Job that fails is an alarm, and waiting is none. */
function allowed(result: CommandResult, { once, waitingOk }: RunFlags): CommandResult {
  return once && waitingOk && result.exit === exitCodes.waiting ? { ...result, exit: exitCodes.done } : result
}

/** The one that needs a person most. */
function worstExit(exits: readonly ExitCode[]): ExitCode {
  const order: readonly ExitCode[] = [
    exitCodes.internal,
    exitCodes.refused,
    exitCodes.usage,
    exitCodes.violated,
    exitCodes.waiting,
  ]
  return order.find(code => exits.includes(code)) ?? exitCodes.done
}

/** Set by the first SIGINT or SIGTERM. */
function stopSignal(): Stop & { readonly forget: () => void } {
  let isStopped = false
  let stop = (): void => {}
  const signal = new Promise<'stopped'>(resolve => {
    stop = () => {
      isStopped = true
      resolve('stopped')
    }
  })
  process.once('SIGINT', stop).once('SIGTERM', stop)
  return { signal, is: () => isStopped, forget: () => void process.off('SIGINT', stop).off('SIGTERM', stop) }
}
