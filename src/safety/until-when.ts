import type { Instant, Proof } from '../rotation.ts'

/**
 * Until when a transition stays safe: the earliest end over its rows (per site and across sites). Null where the proof holds no
 * such transition, where one of its rows breaks, or where nothing bounds it. `to` may end in ` undo` or ` nudge`.
 */
export function goodUntil(proof: Proof, to: string): Instant | null {
  const rows = proof.transitions.filter(row => row.to === to)
  if (rows.some(row => row.counterexample !== null)) return null
  const dates = rows.flatMap(row => (row.goodUntil === null ? [] : [row.goodUntil]))
  return dates.sort()[0] ?? null
}
