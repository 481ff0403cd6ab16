/** How `npm run safety` sweeps crashes, on one small command; docs/safety.md has the counts of all commands. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Act } from '../../safety/crash/acts.ts'
import { chanceOf } from '../../safety/crash/chance.ts'
import { twoRunners } from '../../safety/crash/runners.ts'
import { refsOf } from '../../safety/crash/stage.ts'
import { type Crash, crashedAndRunAgain, crashPoints, stopped, undisturbed } from '../../safety/crash/sweep.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { bareRepository, branchWith, opened } from '../repository/temporary.ts'

const chance = chanceOf(1)
const now = Date.parse('2026-03-01T12:00:00Z')

/** The squashing of a pull request, which reads no cluster. */
async function mergeAct(): Promise<Act> {
  const bare = await bareRepository()
  const repository = await opened(bare)
  await branchWith(repository, 'reanchor/one/step', await repository.head('main'), { 'trust/a.yaml': 'a: 1\n' })
  const forge = await openLocalForge(repository, { now: () => new Date(now) })
  await forge.open({ title: 'A step', body: '', branch: 'reanchor/one/step', base: 'main' })
  return {
    name: 'pr merge',
    rotation: 'one',
    command: { kind: 'merge', number: 1, method: 'squash' },
    places: ['local'],
    shared: true,
    before: refsOf(bare),
    from: bare,
    workFiles: {},
    now,
    tapes: new Map(),
  }
}

describe('the crash sweep', () => {
  it('finds every write of a command, and the same bytes after a crash at each (F2, F25)', async () => {
    const wanted = await undisturbed(await mergeAct(), 'local', chance)
    expect(wanted.told).toBe('merged')
    // The merge's tree and commit, the forge's record of it, and all refs at once.
    expect(wanted.writes).toHaveLength(4)
    expect(crashPoints(wanted)).toHaveLength(5)
    for (const at of crashPoints(wanted)) expect(await crashedAndRunAgain(wanted, chance, at)).toEqual([])
  })

  it('tells where a crash moved what a run without one leaves where it was, and what it leaves behind', async () => {
    const wanted = await undisturbed(await mergeAct(), 'local', chance)
    const [at] = crashPoints(wanted)
    if (at === undefined) throw new Error('no crash point')
    const careless: Crash = async (act, stage, given, point) => {
      await stopped(act, stage, given, point)
      writeFileSync(join(stage.bare, 'refs/heads/stray'), `${act.before['refs/heads/main']}\n`)
      writeFileSync(join(stage.bare, 'refs/heads/stray.lock'), '')
      writeFileSync(
        join(stage.folder, 'notes'),
        '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n',
      )
    }
    const wrong = await crashedAndRunAgain(wanted, chance, at, careless)
    expect(wrong).toContainEqual(expect.stringMatching(/^refs\/heads\/stray: none, found [0-9a-f]{40}$/))
    expect(wrong).toContain('fleet.git/refs/heads/stray.lock is left behind')
    expect(wrong).toContain('a private key in notes is left behind')
  })

  it('lets another runner go first at each write, and finds one result (F25)', async () => {
    const wanted = await undisturbed(await mergeAct(), 'local', chance)
    for (const index of wanted.writes.keys()) expect(await twoRunners(wanted, chance, index + 1, 'opens')).toEqual([])
  })
})
