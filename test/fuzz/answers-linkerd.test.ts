/** What an API server and proxies may answer, held to the look at a mesh of Linkerd. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { gateOver, look, material, meshAt, planOf } from '../systems/linkerd/mesh.ts'
import { crash, type Lie, lies, lying, runs } from './damage.ts'

const plan = await planOf()
const { old } = await material()
const place = 'issue-new/data'

describe('a damaged answer', () => {
  it('of a mesh that has arrived is looked through, and what is said of it is no crash', async () => {
    const mesh = await meshAt(plan, place)
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        const { exceptions } = await look(plan, mesh, place, { through: cluster => lying(cluster, lie) })
        for (const { detail } of exceptions) expect(detail).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })

  it('never lets the old root go while one proxy presents a leaf of the old issuer (F1, F27)', async () => {
    const mesh = await meshAt(plan, place)
    const straggler = mesh.pods.get('emojivoto/web-1')
    if (straggler === undefined) throw new Error('no straggler')
    straggler.chain = old.served
    const verdict = async (lie: Lie): Promise<string> => {
      const seen = await look(plan, mesh, place, { through: cluster => lying(cluster, lie, isNotNaming) })
      // As judge.ts says of the whole: a list that broke off proves no absence.
      if (!seen.complete) return 'unknown'
      return gateOver(plan, seen, place, 'linkerd/leaves-issued').verdict
    }
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        expect(await verdict(lie)).not.toBe('holds')
      }),
      { numRuns: runs },
    )
  })
})

/** A pod without the label of the mesh is none of it, whatever it serves. */
function isNotNaming(path: readonly (string | number)[]): boolean {
  return path[0] !== 'metadata'
}
