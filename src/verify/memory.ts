import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const mebibyte = 1024 * 1024
/** Below this nothing is done: a small mesh never reaches it. */
const floor = 128 * mebibyte

/**
 * Keeps the heap near what is in use. V8 lets it grow by hundreds of megabytes before it collects what has outlived a few seconds, and that is
 * what ten thousand port-forwards are: sockets and streams that wait. To be called now and then while many are read; it mostly does nothing.
 */
export function memoryRelief(): () => void {
  let collect: (() => void) | null = null
  let limit = floor
  return () => {
    if (getHeapStatistics().used_heap_size < limit) return
    collect ??= collector()
    collect()
    // What is in use may be more than the floor; then collecting again at once would gain nothing.
    limit = Math.max(floor, 1.5 * getHeapStatistics().used_heap_size)
  }
}

/** Node gives `gc` to those that start it with a flag; set later, new contexts get it. */
function collector(): () => void {
  setFlagsFromString('--expose-gc')
  const gc: unknown = runInNewContext('typeof gc === "function" ? gc : null')
  return typeof gc === 'function' ? () => void gc() : () => {}
}
