/** Whole rotations of a repository that does not merge by merge commits. Takes half a minute each. */
import { rmSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { recordRotation } from '../scenarios/record.ts'

describe('a rotation whose pull requests are merged (F25)', () => {
  test.each(['squash', 'rebase'] as const)(
    'by %s ends on the new root without a failed handshake',
    { timeout: 240_000 },
    async method => {
      const { world, acts, handshakes } = await recordRotation({ method, seed: method })
      world.repository.close()
      rmSync(world.folder, { recursive: true, force: true, maxRetries: 3 })
      expect(acts.map(act => act.name).at(-1)).toBe('reanchor/mesh-2026/5-close')
      expect(acts).toHaveLength(11)
      expect(handshakes.failed).toBe(0)
    },
  )
})
