import type { Verdict } from '../rotation.ts'

const order: readonly Verdict[] = ['violated', 'unknown', 'pending']

/** The verdict over several: what is wrong for good before what is not known before what may come. Of none: holds. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  return order.find(verdict => verdicts.includes(verdict)) ?? 'holds'
}
