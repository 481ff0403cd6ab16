import { seededRandom } from '../src/rehearsal/clock.ts'

/** All chance of a run comes from here, so that a seed tells it whole. */
export interface Random {
  /** From 0 up to, not including, `below`. */
  whole(below: number): number
  pick<T>(list: readonly T[]): T
  chance(part: number): boolean
  shuffled<T>(list: readonly T[]): T[]
  bytes(count: number): Buffer
}

export function randomFrom(seed: number): Random {
  const { next } = seededRandom(seed)
  const whole = (below: number): number => Math.floor(next() * below)
  return {
    whole,
    pick(list) {
      if (list.length === 0) throw new RangeError('nothing to pick from')
      return list[whole(list.length)] as (typeof list)[number]
    },
    chance: part => next() < part,
    shuffled(list) {
      const all = [...list]
      for (let end = all.length - 1; end > 0; end--) {
        const other = whole(end + 1)
        const kept = all[end] as (typeof all)[number]
        all[end] = all[other] as (typeof all)[number]
        all[other] = kept
      }
      return all
    },
    bytes: count => Buffer.from(Array.from({ length: count }, () => whole(256))),
  }
}
