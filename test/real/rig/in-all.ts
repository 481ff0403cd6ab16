import { it } from 'vitest'

const all = process.env.REANCHOR_REAL === 'all'

/** Without `--all` there is no such test, rather than one that is skipped. */
export function itInAll(name: string, run: () => Promise<void>, timeout: number): void {
  if (all) it(name, run, timeout)
}
