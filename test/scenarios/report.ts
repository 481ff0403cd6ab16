import { describe, expect, test } from 'vitest'
import { playing } from '../../safety/crash/tape.ts'
import { reportView } from '../../src/commands/report.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { reportPage } from '../../src/report/html/page.ts'
import type { ReportView } from '../../src/report/report-view.ts'
import { openRepository } from '../../src/repository/repository.ts'
import { type Recording, stageOf } from './record.ts'
import { asked, contextOf, temporary } from './world.ts'

/** The report of a recorded rotation, before its step `part` is opened; `live`: with a look as that step's `next` had it. */
async function reportBefore(recorded: Recording, part: string, live: boolean): Promise<ReportView> {
  const act = recorded.acts.find(each => each.name.includes(part))
  if (act === undefined) throw new Error(`no act ${part}`)
  const repository = await openRepository(stageOf(recorded, act, temporary()))
  try {
    const context = contextOf(repository, {
      now: act.now,
      clusters: site => playing(act.tapes.get(site) ?? new Map()),
    })
    const rotation = await loadRotation(repository, asked)
    const positions = await positionsAt(rotation.snapshot, rotation.plan)
    const looks = live ? await lookAtSites(context, rotation, positions) : null
    return await reportView(context, rotation, looks)
  } finally {
    repository.close()
  }
}

export function reportSuite(recordedOf: () => Recording): void {
  describe('report', () => {
    test('tells from Git alone when each step was reached, who presented and trusted what, and that every gate held', async () => {
      const view = await reportBefore(recordedOf(), '4-trust-new-1', false)
      const labels = view.steps.map(({ label }) => label)
      expect(view.steps.map(({ mark }) => mark)).toEqual(
        labels.map(label => (label.startsWith('4-') ? 'ahead' : label === '3-issue-new/2-restart' ? 'now' : 'done')),
      )
      const reached = labels.slice(0, labels.indexOf('4-trust-new/1-data'))
      expect(view.moves.map(({ label, variant }) => `${label} ${variant}`)).toEqual(
        reached.map(label => `${label} step`),
      )
      expect([...view.moves].sort((a, b) => (a.at < b.at ? -1 : 1))).toEqual(view.moves)
      // The present step's evidence rides in the pull request that is about to be opened.
      expect(view.evidence.map(({ label }) => label)).toEqual(reached.slice(0, -1))
      for (const { gates, counts, label } of view.evidence) {
        expect(counts, label).toBe(true)
        expect(gates.length, label).toBeGreaterThan(5)
        expect(
          gates.filter(({ verdict }) => verdict !== 'holds'),
          label,
        ).toEqual([])
      }
      const { first, last } = { first: view.consumers[0], last: view.consumers.at(-1) }
      expect(first?.presents.new).toBe(0)
      expect(first?.trusts).toMatchObject({ both: 0, new: 0 })
      expect(last?.presents.old).toBe(0)
      expect(last?.trusts.both).toBeGreaterThan(0)
      expect(view.behind).toEqual([])
      expect(view.status.seen).toBeNull()
    })

    test('adds what a look shows, beside what the step asks for', async () => {
      const view = await reportBefore(recordedOf(), '4-trust-new-1', true)
      const now = view.steps.find(({ mark }) => mark === 'now')
      const sidecars = now?.matrix.find(({ party }) => party === 'sidecar')
      expect(sidecars?.presents?.map(({ name }) => name)).toEqual(['new issuing CA'])
      expect(sidecars?.trusts?.map(({ name }) => name)).toEqual(['old root', 'new root'])
      expect(sidecars?.seen.map(({ presents }) => presents?.map(({ name }) => name))).toEqual([['new issuing CA']])
      expect(sidecars?.seen[0]?.trusts?.map(({ name }) => name).sort()).toEqual(['new root', 'old root'])
      expect(view.consumers.at(-1)).toMatchObject({ live: true, label: '3-issue-new/2-restart' })
      expect(view.evidence.at(-1)).toMatchObject({ file: null, authorship: 'seen just now' })
      expect(reportPage(view)).toContain('just now')
    })

    test('says of a site that cannot be looked at that nothing was seen, and names it as behind', async () => {
      const recorded = recordedOf()
      const act = recorded.acts.find(each => each.name.includes('4-trust-new-1'))
      if (act === undefined) throw new Error('no act')
      const repository = await openRepository(stageOf(recorded, act, temporary()))
      const { ClusterError } = await import('../../src/cluster/cluster.ts')
      const silent = {
        ...playing(new Map()),
        identity: async () => {
          throw new ClusterError('unreachable', 'identity', 'connection refused')
        },
      }
      const context = contextOf(repository, { now: act.now, clusters: () => silent })
      const rotation = await loadRotation(repository, asked)
      const looks = await lookAtSites(context, rotation, await positionsAt(rotation.snapshot, rotation.plan))
      const view = await reportView(context, rotation, looks)
      repository.close()
      expect(view.behind).toMatchObject([{ site: 'eu-1', consumer: 'cluster', verdict: 'unknown' }])
      expect(view.consumers.some(({ live }) => live)).toBe(false)
    })
  })
}
