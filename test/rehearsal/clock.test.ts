import { describe, expect, it } from 'vitest'
import { createClock, seededRandom } from '../../src/rehearsal/clock.ts'

describe('virtual time', () => {
  it('runs events in the order of their times, and of their setting where the times are equal', async () => {
    const clock = createClock(new Date('2026-01-01T00:00:00Z'))
    const seen: string[] = []
    clock.after(20, () => void seen.push('late'))
    clock.after(10, () => void seen.push('first'))
    clock.after(10, () => {
      seen.push('second')
      clock.after(5, () => void seen.push('between'))
    })
    await clock.advance(100)
    expect(seen).toEqual(['first', 'second', 'between', 'late'])
    expect(clock.instant()).toBe('2026-01-01T00:00:00Z')
    expect(clock.elapsed()).toBe(100)
  })

  it('does nothing that is due later, was cancelled, or comes after the stop', async () => {
    const clock = createClock(new Date(0))
    const seen: string[] = []
    clock.after(50, () => void seen.push('due later'))
    clock.after(5, () => void seen.push('cancelled')).cancel()
    await clock.advance(49)
    expect(seen).toEqual([])
    await clock.advance(1)
    expect(seen).toEqual(['due later'])
    clock.stop()
    clock.after(1, () => void seen.push('after the stop'))
    await clock.advance(10)
    expect(seen).toEqual(['due later'])
  })

  it('waits for each event before the next', async () => {
    const clock = createClock(new Date(0))
    const seen: string[] = []
    clock.after(1, async () => {
      await new Promise(resolve => setImmediate(resolve))
      seen.push('slow')
    })
    clock.after(1, () => void seen.push('quick'))
    await clock.advance(1)
    expect(seen).toEqual(['slow', 'quick'])
  })
})

describe('seeded choices', () => {
  it('are the same for one seed and differ between seeds and between forks', () => {
    const draw = (seed: string): number[] => Array.from({ length: 8 }, seededRandom(seed).next)
    expect(draw('a')).toEqual(draw('a'))
    expect(draw('a')).not.toEqual(draw('b'))
    const random = seededRandom('a')
    const before = random.fork('x').next()
    random.next()
    expect(random.fork('x').next()).toBe(before)
    expect(random.fork('y').next()).not.toBe(before)
  })

  it('stay within their bounds and reach both ends', () => {
    const random = seededRandom(1)
    const drawn = new Set(Array.from({ length: 500 }, () => random.between(3, 6)))
    expect([...drawn].sort()).toEqual([3, 4, 5, 6])
  })
})
