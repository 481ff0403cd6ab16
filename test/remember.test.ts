import { describe, expect, it } from 'vitest'
import { Remembered } from '../src/remember.ts'

describe('what is remembered', () => {
  it('is made once, and is the one that was used longest ago that goes', () => {
    const kept = new Remembered<string>(2)
    const made: string[] = []
    const ask = (key: string): string =>
      kept.get(key, () => {
        made.push(key)
        return key.toUpperCase()
      })
    expect(['a', 'b', 'a', 'c', 'a', 'b'].map(ask)).toEqual(['A', 'B', 'A', 'C', 'A', 'B'])
    expect(made).toEqual(['a', 'b', 'c', 'b'])
  })

  it('is nothing that could not be made', () => {
    const kept = new Remembered<number>(2)
    const broken = (): number => {
      throw new Error('unreadable')
    }
    expect(() => kept.get('a', broken)).toThrow('unreadable')
    expect(kept.get('a', () => 1)).toBe(1)
  })
})
