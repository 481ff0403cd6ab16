/** A whole rotation of Cassandra on the rehearsal cluster, whose pull requests live on a real Gitea and are merged there. */
import { expect, test } from 'vitest'
import { noSettings } from '../forge/contract.ts'
import { giteaWorld } from './gitea-world.ts'

test('a rotation of Cassandra goes through a real Gitea, merged by squash', { timeout: 900_000 }, async () => {
  const here = await giteaWorld({ system: 'cassandra', seed: 'cassandra' }, noSettings)
  try {
    const runner = await here.runner()
    await here.merge(await here.planned(runner), 'squash')
    const branches: string[] = []
    for (let request = await here.nextRequest(runner); request !== null; request = await here.nextRequest(runner)) {
      branches.push(request.branch)
      await here.merge(request, 'squash')
    }
    expect(branches.at(-1)).toMatch(/-close$/)
    expect(new Set(branches).size).toBe(branches.length)
    expect(here.world.rehearsal.handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    const open = await here.api<readonly unknown[]>('GET', `/repos/${here.repository}/pulls?state=open`)
    expect(open).toEqual([])
  } finally {
    await here.close()
  }
})
