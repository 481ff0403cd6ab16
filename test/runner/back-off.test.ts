import { expect, test } from 'vitest'
import { backOff } from '../../src/runner/back-off.ts'

const drawn = (value: number) => () => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

test('pauses double, end at a quarter of an hour, and are drawn between half and all of that', () => {
  const least = [1, 2, 3, 4, 30, 1000].map(count => backOff(count, 1000, drawn(0)))
  expect(least).toEqual([2_500, 5_000, 10_000, 20_000, 450_000, 450_000])
  const most = [1, 2, 3, 4, 30, 1000].map(count => backOff(count, 1000, drawn(0xffff_ffff)))
  expect(most).toEqual([5_000, 10_000, 20_000, 40_000, 900_000, 900_000])
})

test('pauses are not shorter than those between rounds would let them be', () => {
  expect(backOff(1, 60_000, drawn(0))).toBe(30_000)
})
