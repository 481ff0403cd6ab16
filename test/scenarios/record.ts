/** A whole rotation against a rehearsal cluster, recorded so that each of its commands can be run again from where it began. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { playing, recording, type Tape } from '../../safety/crash/tape.ts'
import type { Cluster } from '../../src/cluster/cluster.ts'
import type { Context } from '../../src/commands/context.ts'
import { type NextOutcome, next } from '../../src/commands/next.ts'
import { plan } from '../../src/commands/plan.ts'
import { type MergeMethod, openLocalForge } from '../../src/forge/local.ts'
import type { Handshakes } from '../../src/rehearsal/handshakes.ts'
import { startRehearsal } from '../../src/rehearsal/rehearsal.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { WriteHook } from '../../src/repository/write-hook.ts'
import type { GateResult } from '../../src/rotation.ts'
import type { Signer } from '../../src/signature/sshsig.ts'
import {
  asked,
  author,
  contextOf,
  declaredWorld,
  forkAt,
  identity,
  planOptions,
  refsOf,
  start,
  type World,
} from './world.ts'

/** One run of a command that changed something. */
export interface Act {
  /** `plan`, or the branch that `next` opened. */
  readonly name: string
  readonly command: 'plan' | 'next'
  readonly before: Readonly<Record<string, string>>
  readonly after: Readonly<Record<string, string>>
  readonly now: Date
  readonly tapes: ReadonlyMap<string, Tape>
}

export interface Recording {
  readonly world: World
  readonly acts: readonly Act[]
  /** The `next` that found the rotation done. */
  readonly finished: Act
  readonly handshakes: Handshakes['counts']
  /** All that the commands said to a person. */
  readonly said: readonly string[]
}

/** The caller removes `recording.world.folder`. */
export async function recordRotation(
  options: { readonly sites?: readonly string[]; readonly seed?: string; readonly method?: MergeMethod } = {},
): Promise<Recording> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-record-'))
  const world = await declaredWorld({ folder, ...(options.sites === undefined ? {} : { sites: options.sites }) })
  const { repository, sites } = world
  const rehearsal = await startRehearsal({
    readBase: async () => {
      const commit = await repository.head('main')
      const snapshot = repository.snapshot(commit)
      const paths = [...(await snapshot.list()).keys()].filter(
        path => !/^rotations\/[^/]+\/(phases|evidence)\//.test(path),
      )
      return { commit, files: await snapshot.readMany(paths) }
    },
    sites,
    ageIdentity: `${identity}\n`,
    seed: options.seed ?? 'record',
    now: start,
    sharedRoot: sites.length > 1,
  })
  const forge = await openLocalForge(repository, { now: () => new Date(rehearsal.clock.millis()) })
  const acts: Act[] = []
  const said: string[] = []
  try {
    const run = async <T>(
      command: Act['command'],
      go: (context: Context) => Promise<T>,
      nameOf: (result: T) => string | null,
    ) => {
      const before = refsOf(world.bare)
      const now = new Date(rehearsal.clock.millis())
      const tapes = new Map<string, Tape>(sites.map(site => [site, new Map()]))
      const context: Context = {
        ...contextOf(repository, { now, said }),
        now: () => new Date(rehearsal.clock.millis()),
        sleep: milliseconds => rehearsal.run(milliseconds),
        openForge: async () => forge,
        openCluster: async site => {
          const cluster = rehearsal.clusters.get(site.name)
          if (cluster === undefined) throw new Error(`no cluster ${site.name}`)
          return recording(cluster, tapes.get(site.name) as Tape)
        },
      }
      const result = await go(context)
      const act = { name: nameOf(result) ?? 'done', command, before, after: refsOf(world.bare), now, tapes }
      return { result, act, named: nameOf(result) !== null }
    }
    const merge = async (): Promise<void> => {
      for (const request of await forge.list('open')) {
        await forge.merge(request.number, {
          method: options.method ?? 'merge',
          by: author,
          at: new Date(rehearsal.clock.millis()),
        })
      }
    }
    const planned = await run(
      'plan',
      context => plan(context, planOptions(world)),
      () => 'plan',
    )
    acts.push(planned.act)
    await merge()
    for (;;) {
      const { act, result, named } = await run(
        'next',
        async context => (await next(context, { ...asked, variant: 'step' })).outcome,
        outcome => (outcome.kind === 'opened' ? outcome.branch : null),
      )
      if (result.kind === 'done') return { world, acts, finished: act, handshakes: rehearsal.handshakes.counts, said }
      if (named) {
        acts.push(act)
        await merge()
      } else await rehearsal.run(pause(result, rehearsal.clock.millis()))
      if (rehearsal.clock.elapsed() > 48 * 3_600_000)
        throw new Error(`the rotation is stuck: ${JSON.stringify(result.kind === 'waiting' ? result.gates : result)}`)
    }
  } finally {
    await rehearsal.close()
  }
}

function pause(outcome: NextOutcome, now: number): number {
  const gates: readonly GateResult[] = outcome.kind === 'waiting' ? outcome.gates : []
  const later = gates
    .flatMap(gate => (gate.retryAt === null ? [] : [Date.parse(gate.retryAt) - now]))
    .filter(time => time > 0)
  return Math.max(Math.min(...later, 10 * 60_000), 60_000)
}

export interface Rerun {
  readonly folder: string
  /** Called around each write; what it throws kills the command there. */
  readonly hook?: WriteHook
  /** Default: the act's own, so that the bytes are the same. */
  readonly now?: Date
  readonly seed?: string
  /** As `reanchor run` does it. */
  readonly runner?: boolean
  readonly signer?: Signer
  /** In place of the act's own answers. */
  readonly clusters?: (site: string) => Cluster
}

/** A repository as it was before the act, in a folder of the test. */
export function stageOf(recorded: Recording, act: Act, folder: string): string {
  return forkAt(folder, act.before, recorded.world.bare)
}

/** Runs the act's command again, in a process of its own as far as its memory goes, on what is in the folder. */
export async function rerun(act: Act, options: Rerun): Promise<NextOutcome | 'planned'> {
  const repository = await openRepository(
    join(options.folder, 'fleet.git'),
    options.hook === undefined ? {} : { onWrite: options.hook },
  )
  const players = new Map([...act.tapes].map(([site, tape]) => [site, tape]))
  const context = contextOf(repository, {
    now: options.now ?? act.now,
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    clusters: options.clusters ?? (site => playing(players.get(site) ?? new Map())),
    ...(options.signer === undefined ? {} : { signer: options.signer }),
  })
  try {
    if (act.command === 'plan') {
      await plan(context, planOptions({ folder: options.folder }))
      return 'planned'
    }
    return (await next(context, { ...asked, variant: 'step', runner: options.runner ?? false })).outcome
  } finally {
    repository.close()
  }
}
