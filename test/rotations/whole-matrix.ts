import { it } from 'vitest'
import { wholeMatrix } from './matrix.ts'

/** A test that only the whole matrix has; elsewhere there is no such test, rather than one that is skipped. */
export function itInWholeMatrix(name: string, run: () => Promise<void>, timeout: number): void {
  if (wholeMatrix) it(name, run, timeout)
}
