/** Whole rotations of Istio on the rehearsal cluster, whose pull requests live on a real Gitea and are merged there by people. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { PullRequest } from '../../src/forge/forge.ts'
import { noSettings } from '../forge/contract.ts'
import { type GiteaWorld, giteaWorld } from './gitea-world.ts'

let open: GiteaWorld | null = null

afterEach(async () => {
  await open?.close()
  open = null
})

interface Pull {
  readonly number: number
  readonly title: string
  readonly state: string
  readonly merged: boolean
  readonly head: { readonly label: string }
}

async function pulls({ api, repository }: GiteaWorld): Promise<readonly Pull[]> {
  const found = await api<readonly Pull[]>('GET', `/repos/${repository}/pulls?state=all&limit=50`)
  return [...found].sort((a, b) => a.number - b.number)
}

async function gate({ api, repository }: GiteaWorld, { head }: PullRequest): Promise<readonly string[]> {
  const { statuses } = await api<{
    readonly statuses: readonly { context: string; status: string; description: string }[]
  }>('GET', `/repos/${repository}/commits/${head}/status`)
  return statuses
    .filter(({ context }) => context === 'reanchor/gate')
    .map(({ status, description }) => `${status}: ${description}`)
}

/** All three in one rotation; each by itself with `REANCHOR_FORGES=all`. */
const ways: readonly (readonly [string, readonly ('merge' | 'squash' | 'rebase')[]])[] = [
  ['by merge commits, squash and rebase in turn', ['merge', 'squash', 'rebase']],
  ...(process.env.REANCHOR_FORGES === 'all'
    ? ([
        ['by merge commits', ['merge']],
        ['by squash', ['squash']],
        ['by rebase', ['rebase']],
      ] as const)
    : []),
]

describe('a rotation of Istio through a real Gitea', () => {
  test.each(ways)('merged %s goes from the plan to the closed rotation', { timeout: 900_000 }, async (_, methods) => {
    const here = await giteaWorld(
      { system: 'istio', seed: methods.join() },
      { ...noSettings, labels: ['trust'], dashboard: true },
    )
    open = here
    const { world, api, repository } = here
    const runner = await here.runner()
    const planned = await here.planned(runner)
    expect(await gate(here, planned)).toEqual([expect.stringMatching(/^success: no change of trust/)])
    await here.merge(planned, 'merge')
    const branches: string[] = []
    for (let count = 0; ; count += 1) {
      const request = await here.nextRequest(runner)
      if (request === null) break
      branches.push(request.branch)
      expect(await gate(here, request)).toEqual([expect.stringMatching(/^success: /)])
      // A second round finds it, and says nothing twice.
      expect(await here.once(runner)).toMatchObject({
        outcome: { kind: 'open', pullRequest: { number: request.number } },
      })
      const statuses = await api<readonly unknown[]>('GET', `/repos/${repository}/commits/${request.head}/statuses`)
      expect(statuses).toHaveLength(1)
      await here.merge(request, methods[count % methods.length] ?? 'merge')
    }
    expect(branches.at(-1)).toMatch(/-close$/)
    expect(new Set(branches).size).toBe(branches.length)
    const all = await pulls(here)
    expect(all).toHaveLength(branches.length + 1)
    expect(all.filter(({ merged }) => !merged)).toEqual([])
    expect(world.rehearsal.handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    expect(world.rehearsal.handshakes.counts.attempted).toBeGreaterThan(100)
    // Closed, asked again: nothing new is written, and the dashboard is closed.
    expect(await here.once(runner)).toMatchObject({ outcome: { kind: 'done' } })
    expect(await pulls(here)).toHaveLength(all.length)
    const issues = await api<readonly { state: string; title: string }[]>(
      'GET',
      `/repos/${repository}/issues?state=all&type=issues`,
    )
    expect(issues.map(({ state }) => state)).toEqual(['closed'])
    const comments = await api<readonly { body: string }[]>(
      'GET',
      `/repos/${repository}/issues/${all.at(2)?.number}/comments`,
    )
    expect(comments.filter(({ body }) => body.includes('reanchor/observation'))).toHaveLength(1)
  })

  test('survives what people do: an edit, a force-push, a closed request, a conflict, two runners at once', {
    timeout: 900_000,
  }, async () => {
    const here = await giteaWorld({ system: 'istio', seed: 'people' }, noSettings)
    open = here
    const { world, api, repository, git, clone } = here
    const runner = await here.runner()
    await here.merge(await here.planned(runner), 'merge')
    const must = async (): Promise<PullRequest> => {
      const request = await here.nextRequest(runner)
      if (request === null) throw new Error('the rotation is done')
      return request
    }
    const folder = world.rehearsal.sites.keys().next().value ?? ''

    // An edit in the pull request's branch turns the gate, and the protected branch takes it no more.
    const adopt = await must()
    expect(await gate(here, adopt)).toEqual([expect.stringMatching(/^success/)])
    git('fetch', '-q', 'origin')
    git('checkout', '-q', '-B', 'edit', `origin/${adopt.branch}`)
    writeFileSync(join(clone, 'trust', folder, 'trust.txt'), 'edited by hand\n')
    git('commit', '-qam', 'Edit')
    git('push', '-q', 'origin', `HEAD:refs/heads/${adopt.branch}`)
    expect(await here.mergeRefused(adopt)).toBe(405)
    expect(await here.once(runner)).toMatchObject({ kind: 'refused', error: { exit: 5 } })
    const edited = { ...adopt, head: git('rev-parse', 'HEAD') }
    expect(await gate(here, edited)).toEqual([expect.stringMatching(/^failure: edited by hand/)])
    expect(await here.mergeRefused(adopt)).toBe(405)

    // Forced back to what was planned, it is what it was.
    git('push', '-q', '--force', 'origin', `${adopt.head}:refs/heads/${adopt.branch}`)
    expect(await must()).toMatchObject({ number: adopt.number, head: adopt.head })
    await here.merge(adopt, 'merge')

    // A closed request is opened anew under another name.
    const first = await must()
    await api('PATCH', `/repos/${repository}/pulls/${first.number}`, { state: 'closed' })
    const again = await must()
    expect(again).toMatchObject({ branch: `${first.branch}.2`, state: 'open' })
    expect(again.number).not.toBe(first.number)
    await here.merge(again, 'squash')

    // What somebody else changed on the base branch in the same place conflicts, and is named, not overwritten.
    const conflicting = await must()
    git('fetch', '-q', 'origin')
    git('checkout', '-q', '-B', 'main', 'origin/main')
    const before = git('rev-parse', 'HEAD')
    writeFileSync(join(clone, 'trust', folder, 'trust.txt'), 'something else\n')
    git('commit', '-qam', 'Change it on the base')
    git('push', '-q', 'origin', 'main')
    await here.sync()
    expect(await here.once(runner)).toMatchObject({ kind: 'refused', error: { exit: 5 } })
    expect(await here.mergeRefused(conflicting)).toBeGreaterThanOrEqual(405)
    git('revert', '--no-edit', 'HEAD')
    git('push', '-q', 'origin', 'main')
    await here.sync()
    expect(git('rev-parse', `${before}^{tree}`)).toBe(git('rev-parse', 'HEAD^{tree}'))
    expect((await must()).number).toBe(conflicting.number)
    await here.merge(conflicting, 'rebase')

    // Of two runners at once one opens the request, and both find it.
    const [one, other] = [await here.runner(), await here.runner()]
    let rounds: readonly unknown[] = []
    const count = (await pulls(here)).length
    for (let passed = 0; (await pulls(here)).length === count; passed += 1) {
      if (passed > 200) throw new Error('the gate does not hold')
      rounds = await Promise.all([here.once(one), here.once(other)])
      if ((await pulls(here)).length === count) await world.rehearsal.run(5 * 60_000)
    }
    expect(await pulls(here)).toHaveLength(count + 1)
    expect(rounds).toHaveLength(2)
    const opened = (await pulls(here)).at(-1)
    for (const context of [one, other])
      expect(await here.once(context)).toMatchObject({
        outcome: { kind: 'open', pullRequest: { number: opened?.number } },
      })

    for (let request = await here.nextRequest(runner); request !== null; request = await here.nextRequest(runner))
      await here.merge(request, 'merge')
    expect(world.rehearsal.handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    expect((await pulls(here)).filter(({ state }) => state === 'open')).toEqual([])
  })
})
