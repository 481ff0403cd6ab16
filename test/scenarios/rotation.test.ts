import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { recordRotation, type Recording, rerun, stageOf } from './record.ts'
import { refsOf, temporary } from './world.ts'

let recorded: Recording
beforeAll(async () => {
  const t=Date.now()
  recorded = await recordRotation()
  console.log('recorded', Date.now()-t, recorded.acts.map(a => a.name))
}, 120_000)
afterAll(() => {
  recorded?.world.repository.close()
  rmSync(recorded.world.folder, { recursive: true, force: true })
})

describe('probe', () => {
  test('replays', async () => {
    for (const act of recorded.acts) {
      const folder = temporary()
      const bare = stageOf(recorded, act, folder)
      const t = Date.now()
      await rerun(act, { folder })
      console.log(act.name, Date.now() - t)
      expect(refsOf(bare)).toEqual(act.after)
    }
  })
})
