/** All chance of a run comes from here, so that a seed tells it whole. */
export interface Random {
  /** From 0 up to, not including, `below`. */
  whole(below: number): number
  pick<T>(list: readonly T[]): T
  chance(part: number): boolean
  shuffled<T>(list: readonly T[]): T[]
  bytes(count: number): Buffer
}

/** Mulberry32: 32 bits of state are plenty to choose cases by, and it is ten lines. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
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
