/** What an API server and Envoys may answer, held to the look at a mesh of Istio: never a crash, never a gate that holds by it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import type { Evidence } from '../../src/rotation.ts'
import { judge } from '../../src/verify/judge.ts'
import { authorities, look, type Mesh, meshAt, meshCluster, planOf, secretsDump } from '../verify/mesh.ts'
import { crash, type Lie, lies, lying, runs } from './damage.ts'

const plan = await planOf()
const place = { phase: 3, step: 2 } as const

/** Null: refused as a whole, which opens nothing. */
async function seenThrough(lie: Lie, mesh: Mesh): Promise<Evidence | null> {
  try {
    const first = await look(plan, mesh, { ...place, cluster: lying(meshCluster(mesh), lie) })
    const later = { ...mesh, now: new Date(mesh.now.getTime() + 60_000) }
    return await look(plan, later, { ...place, cluster: lying(meshCluster(later), lie), previous: first })
  } catch (error) {
    expect(error).toBeInstanceOf(ReanchorError)
    return null
  }
}

describe('a damaged answer', () => {
  it('of a mesh that has arrived is looked through or refused, and what is said of it is no crash', async () => {
    const mesh = await meshAt(plan, place.phase, place.step)
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        const evidence = await seenThrough(lie, { ...mesh })
        for (const { detail } of evidence?.exceptions ?? []) expect(detail).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })

  it('never lets a step be complete that one proxy has not reached (F1, F27)', async () => {
    const { leaf, old, fresh } = await authorities()
    const mesh = await meshAt(plan, place.phase, place.step)
    const straggler = mesh.pods.get('shop/cart-1')
    if (straggler === undefined) throw new Error('no straggler')
    straggler.http['15000/config_dump'] = secretsDump([old.certificate.pem + fresh.certificate.pem], [leaf.old])
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        const evidence = await seenThrough(lie, { ...mesh })
        if (evidence !== null) expect(judge(plan, [evidence], mesh.now).verdict).not.toBe('holds')
      }),
      { numRuns: runs },
    )
  })
})
