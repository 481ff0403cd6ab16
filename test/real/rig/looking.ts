import { setTimeout as sleep } from 'node:timers/promises'

/** Looks again and again from now on; a look that fails is made up for by the next one. `stop` returns when the last one is over. */
export function keepLooking(look: () => Promise<void>, pause: number): { stop(): Promise<void> } {
  let open = true
  const done = (async () => {
    while (open) {
      await look().catch(() => {})
      await sleep(pause)
    }
  })()
  return {
    async stop() {
      open = false
      await done
    },
  }
}
