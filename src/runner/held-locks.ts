import type { ReanchorError } from '../errors.ts'
import { heldElsewhere, isLock, type Lock, type LockMeans, takeLock } from './lock.ts'

/** The locks that this runner holds, for as long as it runs. */
export interface HeldLocks {
  /**
   * Holds all of these and no other, or none: two runners that each had some of them would wait for each other. Null: they are held; else who has one
   * of them.
   */
  ensure(rotations: readonly string[]): Promise<ReanchorError | null>
  /** Keeps them from ending while a round takes long. */
  renew(): Promise<void>
  /** One was lost since `ensure`: what is under way must write nothing more. */
  lost(): boolean
  release(): Promise<void>
}

export function heldLocks(means: LockMeans): HeldLocks {
  const held = new Map<string, { readonly lock: Lock; renewed: number }>()
  let isLost = false

  async function renewOne(rotation: string): Promise<void> {
    const one = held.get(rotation)
    if (one === undefined) return
    if (await one.lock.renew()) one.renewed = means.now().getTime()
    else {
      held.delete(rotation)
      isLost = true
    }
  }

  async function release(rotations: readonly string[]): Promise<void> {
    for (const rotation of rotations) {
      const lock = held.get(rotation)?.lock
      held.delete(rotation)
      // What cannot be given back ends by itself.
      await lock?.release().catch(() => null)
    }
  }

  return {
    async ensure(rotations) {
      await release([...held.keys()].filter(name => !rotations.includes(name)))
      for (const [rotation, { renewed }] of [...held])
        if (means.now().getTime() - renewed > means.lasts / 3) await renewOne(rotation)
      isLost = false
      // In one order, so that of two runners that want the same only one gets past the first.
      for (const rotation of [...rotations].sort()) {
        if (held.has(rotation)) continue
        const taken = await takeLock(means, rotation)
        if (!isLock(taken)) {
          await release([...held.keys()])
          return heldElsewhere(taken)
        }
        held.set(rotation, { lock: taken, renewed: means.now().getTime() })
      }
      return null
    },
    async renew() {
      for (const rotation of [...held.keys()]) await renewOne(rotation)
    },
    lost: () => isLost,
    release: () => release([...held.keys()]),
  }
}
