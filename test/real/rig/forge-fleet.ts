import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inject } from 'vitest'
import type { Gitea } from '../../forges/gitea.ts'
import { makeGiteaRepository, makeReader, protectMain, pushFirst } from '../../forges/gitea-scene.ts'
import { output } from './components.ts'
import { keepLooking } from './looking.ts'
import type { RunOptions } from './reanchor.ts'
import { type FleetRepository, makeRepository, type RepositoryReader } from './repository.ts'

/** A fleet's repository on the real Gitea, its main protected as `init` says: nobody merges what `reanchor/gate` has not called green. */
export interface ForgeFleet extends FleetRepository {
  /** `owner/name` */
  readonly name: string
  /** For `init`. */
  readonly forgeFlag: string
  /**
   * A clone of the runner's: it has the token of `bot`, who may write to no protected branch, and nothing else to get in with.
   *
   * @param folder Where the clone goes, which must be empty. @default a new folder in `outside`
   */
  runner(kubeconfig: readonly string[], folder?: string): Promise<RunOptions>
  /** A push with the token that reanchor has. Throws what Gitea says where it refuses. */
  pushAsBot(from: string, branch: string): Promise<void>
  readonly api: <T>(method: string, path: string, body?: Readonly<Record<string, unknown>>) => Promise<T>
  /** Over https. */
  readonly sync: () => Promise<void>
  readonly reader: () => Promise<RepositoryReader>
  /** Presses the merge button of every open pull request whose branch `presses` names, all the time. */
  pressButtons(presses: (branch: string) => boolean): ButtonPresser
}

export interface PressedMerge {
  readonly number: number
  readonly branch: string
  readonly head: string
  readonly mergedAt: string
  /** Newest `reanchor/gate` of the commit that was merged: `success: …`. */
  readonly gate: string
}

export interface ButtonPresser {
  readonly merges: readonly PressedMerge[]
  /** How often Gitea refused, by number of the pull request. */
  readonly refusals: ReadonlyMap<number, number>
  stop(): Promise<void>
}

interface Pull {
  readonly number: number
  readonly head: { readonly ref: string; readonly sha: string }
}

interface Merged extends Pull {
  readonly state: string
  readonly merged: boolean
  readonly merged_at: string
}

/** Whether Gitea said no, rather than nothing. */
function isAnswer(cause: unknown): boolean {
  return cause instanceof Error && /: 4\d\d /.test(cause.message)
}

/** Makes the repository with its first commit, as `makeRepository`, and puts it onto the Gitea of this run, or onto another one. */
export async function makeForgeFleet(
  files: (url: string, recipient: string) => Readonly<Record<string, string>>,
  gitea?: Gitea,
): Promise<ForgeFleet> {
  const made = await makeGiteaRepository(undefined, gitea)
  const local = await makeRepository((_url, recipient) => files(made.remote, recipient))
  const { repository: name, api, remote } = made
  const asAdmin = remote.replace('https://', `https://root-admin:${made.adminToken}@`)
  await pushFirst(made, local.bare)
  await protectMain(made)
  // Robin owns the fleet: what is no rotation goes to main without a pull request.
  await local.git('remote', 'set-url', 'origin', asAdmin)
  let runners = 0
  let syncing: Promise<void> | null = null

  async function gateOf(commit: string): Promise<string> {
    const { statuses } = await api<{
      readonly statuses: readonly { context: string; status: string; description: string }[] | null
    }>('GET', `/repos/${name}/commits/${commit}/status`)
    const found = (statuses ?? []).find(({ context }) => context === 'reanchor/gate')
    return found === undefined ? 'none' : `${found.status}: ${found.description}`
  }

  return {
    ...local,
    url: remote,
    name,
    api,
    forgeFlag: `gitea:${remote}`,
    async runner(kubeconfig, folder) {
      const cwd = folder ?? join(local.outside, `runner-${runners++}`)
      await output('git', ['clone', '--quiet', asAdmin, cwd])
      await output('git', ['remote', 'set-url', 'origin', remote], { cwd })
      return { cwd, kubeconfig, env: { REANCHOR_TOKEN: made.botToken, GIT_CONFIG_GLOBAL: '/dev/null' } }
    },
    async pushAsBot(from, branch) {
      const asBot = remote.replace('https://', `https://bot:${made.botToken}@`)
      await local.git('push', '--force', asBot, `${from}:refs/heads/${branch}`)
    },
    sync() {
      // Two clusters look at once, and two fetches at once into one folder are in each other's way.
      syncing ??= output('git', ['fetch', '--quiet', '--prune', asAdmin, '+refs/heads/*:refs/heads/*'], {
        cwd: local.bare,
      })
        .then(() => {})
        .finally(() => {
          syncing = null
        })
      return syncing
    },
    async reader() {
      return { ...(await makeReader(made)), certificate: await readFile(inject('certificate').cert, 'utf8') }
    },
    pressButtons(presses) {
      const merges: PressedMerge[] = []
      const refusals = new Map<number, number>()
      /** Pressed, and no answer came: Gitea was taken away meanwhile, and may have merged it. */
      const unknown = new Map<number, Pull>()

      async function merged({ number, head }: Pull, mergedAt: string): Promise<void> {
        const gate = await gateOf(head.sha)
        unknown.delete(number)
        merges.push({ number, branch: head.ref, head: head.sha, mergedAt, gate })
      }

      async function round(): Promise<void> {
        for (const pull of [...unknown.values()]) {
          const found = await api<Merged>('GET', `/repos/${name}/pulls/${pull.number}`)
          if (found.merged) await merged({ ...pull, head: found.head }, new Date(found.merged_at).toISOString())
          else if (found.state === 'open') unknown.delete(pull.number)
        }
        for (const pull of await api<readonly Pull[]>('GET', `/repos/${name}/pulls?state=open`)) {
          const { number, head } = pull
          if (!presses(head.ref)) continue
          unknown.set(number, pull)
          try {
            await api('POST', `/repos/${name}/pulls/${number}/merge`, { Do: 'merge' })
          } catch (cause) {
            if (isAnswer(cause)) {
              unknown.delete(number)
              refusals.set(number, (refusals.get(number) ?? 0) + 1)
            }
            continue
          }
          await merged(pull, new Date().toISOString())
        }
      }

      // Gitea may be away: whoever presses then presses again.
      return { merges, refusals, stop: keepLooking(round, 200).stop }
    },
  }
}
