import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inject } from 'vitest'
import type { Context } from '../../src/commands/context.ts'
import { pauseFor, rootKeyFile, type World } from '../../src/commands/demo.ts'
import type { NextOutcome } from '../../src/commands/next.ts'
import { plan } from '../../src/commands/plan.ts'
import { runRounds } from '../../src/commands/run.ts'
import { ReanchorError } from '../../src/errors.ts'
import type { PullRequest } from '../../src/forge/forge.ts'
import { openForge } from '../../src/forge/open.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { SystemName } from '../../src/rotation.ts'
import type { Settings } from '../forge/contract.ts'
import { reanchor, type Said } from '../real/rig/reanchor.ts'
import { userGit } from '../repository/temporary.ts'
import { type TestWorld, testWorld } from '../rotations/world.ts'
import { type GiteaApi, mergePull } from './gitea-people.ts'
import { makeGiteaRepository, protectMain, pushFirst } from './gitea-scene.ts'

export interface GiteaWorld {
  readonly world: World
  readonly test: TestWorld
  readonly api: GiteaApi
  readonly repository: string
  /** A clone of a person's, with the administrator's way in; on main, as fetched last. */
  readonly clone: string
  /** A runner of its own: a clone of its own and the token of `bot`. */
  runner(): Promise<Context>
  /** `run --once`: what it told, or the error that it ended with. */
  once(
    context: Context,
  ): Promise<
    | { readonly kind: 'told'; readonly outcome: NextOutcome }
    | { readonly kind: 'refused'; readonly error: ReanchorError }
  >
  /** Rounds of it, while time passes in the clusters, until a pull request is open or the rotation is done (null). */
  nextRequest(context: Context): Promise<PullRequest | null>
  planned(context: Context): Promise<PullRequest>
  /** As a person does, on Gitea's pages; then the clusters see it. */
  merge(request: PullRequest, method: string): Promise<void>
  /** Gitea refuses. The HTTP status. */
  mergeRefused(request: PullRequest): Promise<number>
  /** The built command line in a clone of its own, in a process that has the token in its environment and nothing else to get in with. */
  command(...args: string[]): Promise<Said>
  /** Brings what Gitea has to where Flux of the rehearsal reads. */
  sync(): Promise<void>
  git(...args: string[]): string
  close(): Promise<void>
}

/** The rehearsal cluster of a system, its repository on the real Gitea, main protected as `init` says. */
export async function giteaWorld(
  options: { readonly system: SystemName; readonly variant?: string; readonly seed: string },
  settings: Settings,
): Promise<GiteaWorld> {
  const made = await makeGiteaRepository()
  const test = await testWorld({
    system: options.system,
    seed: options.seed,
    ...(options.variant === undefined ? {} : { variant: options.variant }),
    change: declaration => ({ ...declaration, forge: made.choice(settings) }),
  })
  const { world } = test
  const bare = world.repository.gitDir
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-clones-'))
  const asAdmin = made.remote.replace('https://', `https://root-admin:${inject('gitea').adminToken}@`)
  await pushFirst(made, bare)
  await protectMain(made)
  const clone = join(folder, 'person')
  userGit(folder, 'clone', '-q', asAdmin, clone)

  function ownClone(): string {
    const own = join(folder, `runner-${randomBytes(3).toString('hex')}`)
    userGit(folder, 'clone', '-q', asAdmin, own)
    userGit(own, 'remote', 'set-url', 'origin', made.remote)
    return own
  }

  async function runner(): Promise<Context> {
    const own = ownClone()
    const repository = await openRepository(own, {
      remote: 'origin',
      loginFor: () => ({ username: 'x-access-token', password: made.botToken }),
    })
    const environment = { GITEA_TOKEN: made.botToken }
    return {
      ...world.context,
      repository,
      openForge: ({ forge, base }) => openForge(forge, repository, { now: () => new Date(), base, environment }),
    }
  }

  async function sync(): Promise<void> {
    userGit(bare, 'fetch', '-q', '--prune', asAdmin, '+refs/heads/*:refs/heads/*')
  }

  async function once(context: Context): ReturnType<GiteaWorld['once']> {
    const asked = { rotation: world.rotation, base: null, once: true, interval: 60_000 }
    try {
      const end = await runRounds(context, asked, async () => undefined)
      const [round] = end.kind === 'ended' ? end.rounds : []
      if (round?.kind !== 'told') throw new Error(`a round of one rotation ended as ${round?.kind ?? end.kind}`)
      return { kind: 'told', outcome: round.outcome }
    } catch (error) {
      if (!(error instanceof ReanchorError)) throw error
      return { kind: 'refused', error }
    }
  }

  return {
    world,
    test,
    api: made.api,
    repository: made.repository,
    clone,
    runner,
    once,
    async nextRequest(context) {
      const until = world.rehearsal.clock.millis() + (world.system.demo.patience ?? 12 * 3_600_000)
      for (;;) {
        const round = await once(context)
        if (round.kind !== 'told') throw round.error
        const { outcome } = round
        if (outcome.kind === 'done') return null
        if (outcome.kind === 'opened' || outcome.kind === 'open') {
          if (outcome.pullRequest === null) throw new Error('a round opened nothing')
          return outcome.pullRequest
        }
        const gates = outcome.kind === 'waiting' ? outcome.gates : []
        const why = gates.map(({ claim, because }) => `${claim}: ${because.join('; ')}`).join('\n')
        if (world.rehearsal.clock.millis() > until) throw new Error(`it waits: ${why}`)
        await world.system.demo.meanwhile?.({ context, rotation: world.rotation, rehearsal: world.rehearsal, gates })
        await world.rehearsal.run(pauseFor(gates, world))
      }
    },
    async planned(context) {
      const asked = { rotation: world.rotation, base: null, rootKeyOut: rootKeyFile(world.folder, world.rotation) }
      const { pullRequest } = await plan(context, { ...asked, chain: null, acceptOutage: world.acceptOutage })
      if (pullRequest === null) throw new Error('plan opened no pull request')
      return pullRequest
    },
    async merge({ number }, method) {
      await mergePull(made.api, made.repository, number, method)
      await sync()
    },
    async mergeRefused({ number }) {
      try {
        await made.api('POST', `/repos/${made.repository}/pulls/${number}/merge`, { Do: 'merge' })
      } catch (error) {
        return Number(/: (\d{3}) /.exec(error instanceof Error ? error.message : '')?.[1])
      }
      throw new Error(`Gitea merged #${number}`)
    },
    command: (...args) =>
      reanchor(args, { cwd: ownClone(), env: { REANCHOR_TOKEN: made.botToken, GIT_CONFIG_GLOBAL: '/dev/null' } }),
    sync,
    git: (...args) => userGit(clone, ...args),
    async close() {
      await test.close()
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}
