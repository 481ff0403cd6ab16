/**
 * Told before and after each write (objects, refs, push, fetch, files), which goes on when what it returns is settled. What it throws ends the
 * operation at that point: a test can stop a command at every write and run it again, or run another command there.
 */
export type WriteHook = (what: string, when: 'before' | 'after') => void | Promise<void>

/** Runs one write with the hook told before and after it. */
export async function hooked<T>(onWrite: WriteHook, what: string, run: () => T | Promise<T>): Promise<T> {
  await onWrite(what, 'before')
  const result = await run()
  await onWrite(what, 'after')
  return result
}
