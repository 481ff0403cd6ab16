/** Milliseconds. */
const first = 5_000
const most = 900_000

/**
 * How long to wait after the `count`th failure in a row, from 1 on: doubling, at least a pause between rounds, and drawn between half and all of it, so that
 * runners that failed together do not come back together.
 */
export function backOff(count: number, interval: number, random: (size: number) => Buffer): number {
  const whole = Math.max(interval, Math.min(most, first * 2 ** Math.min(count - 1, 20)))
  return Math.round(whole * (0.5 + random(4).readUInt32BE() / 2 ** 33))
}
