/** Runs `work` over every item, at most `width` at a time. A throw ends the whole: catch inside where one may fail. */
export async function inPool<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  await inWaitingPool(items, { busy: width, open: width, brisk: 0 }, work)
}

export interface PoolBounds {
  /** How many may be at work at a time. */
  readonly busy: number
  /** How many may be under way at a time, those included that only wait. */
  readonly open: number
  /** Milliseconds after which one that is still under way counts as waiting. */
  readonly brisk: number
}

/**
 * As `inPool`, for work that may turn out to be waiting for an answer that never comes: it gives its place among the busy on to the next, so that
 * silence does not hold up those that would answer. So no more than `busy` begin within `brisk` milliseconds of silence, whatever `open` is.
 */
export function inWaitingPool<T>(
  items: readonly T[],
  bounds: PoolBounds,
  work: (item: T) => Promise<void>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let next = 0
    let busy = 0
    let open = 0
    function start(): void {
      while (next < items.length && busy < bounds.busy && open < bounds.open) {
        const item = items[next] as T
        next += 1
        busy += 1
        open += 1
        run(item)
      }
      if (open === 0) resolve()
    }
    async function run(item: T): Promise<void> {
      let waiting = false
      const clock =
        bounds.open > bounds.busy
          ? setTimeout(() => {
              waiting = true
              busy -= 1
              start()
            }, bounds.brisk)
          : undefined
      try {
        await work(item)
      } catch (cause) {
        next = items.length
        reject(cause)
      }
      clearTimeout(clock)
      if (!waiting) busy -= 1
      open -= 1
      start()
    }
    start()
  })
}
