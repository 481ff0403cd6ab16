import { createHash } from 'node:crypto'
import type { Instant } from '../rotation.ts'

/** A thing that will happen at a virtual time. */
export interface Timer {
  cancel(): void
}

/**
 * Time that moves only when told to. Nothing here waits: a day passes as fast as its events can be worked off.
 *
 * Events due at one instant run in the order in which they were set, one after the other, so that a run is the same each time.
 */
export interface VirtualClock {
  now(): Date
  /** Milliseconds since 1970. */
  millis(): number
  /** Milliseconds since this clock was started: what is drawn by it is the same whatever the date. */
  elapsed(): number
  /** RFC 3339 with whole seconds, as the Kubernetes API writes times. */
  instant(): Instant
  after(delay: number, event: () => void | Promise<void>): Timer
  /** Works off everything due within the next `duration` milliseconds and then stands at the end of them. */
  advance(duration: number): Promise<void>
  /** Called after the events of each instant. */
  onInstant(listener: () => Promise<void>): void
  /** Drops every event that is still to come. */
  stop(): void
}

interface Entry {
  readonly at: number
  readonly order: number
  readonly event: () => void | Promise<void>
  cancelled: boolean
}

export function createClock(start: Date): VirtualClock {
  let time = start.getTime()
  let order = 0
  let stopped = false
  const heap: Entry[] = []
  const listeners: (() => Promise<void>)[] = []

  function earlier(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order)
  }

  function push(entry: Entry): void {
    heap.push(entry)
    let index = heap.length - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!earlier(heap[index]!, heap[parent]!)) return
      ;[heap[index], heap[parent]] = [heap[parent]!, heap[index]!]
      index = parent
    }
  }

  function pop(): Entry {
    const first = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return first
    heap[0] = last
    let index = 0
    for (;;) {
      const left = 2 * index + 1
      const right = left + 1
      let least = index
      if (left < heap.length && earlier(heap[left]!, heap[least]!)) least = left
      if (right < heap.length && earlier(heap[right]!, heap[least]!)) least = right
      if (least === index) return first
      ;[heap[index], heap[least]] = [heap[least]!, heap[index]!]
      index = least
    }
  }

  async function runInstant(at: number): Promise<void> {
    while (!stopped && heap.length > 0 && heap[0]!.at <= at) {
      const entry = pop()
      if (!entry.cancelled) await entry.event()
    }
    if (stopped) return
    for (const listener of listeners) await listener()
  }

  return {
    now: () => new Date(time),
    millis: () => time,
    elapsed: () => time - start.getTime(),
    instant: () => instantOf(time),
    after(delay, event) {
      const entry: Entry = { at: time + Math.max(0, Math.round(delay)), order: order++, event, cancelled: false }
      if (!stopped) push(entry)
      return {
        cancel() {
          entry.cancelled = true
        },
      }
    },
    async advance(duration) {
      const end = time + duration
      while (!stopped && heap.length > 0 && heap[0]!.at <= end) {
        if (heap[0]!.cancelled) {
          pop()
          continue
        }
        time = Math.max(time, heap[0]!.at)
        await runInstant(time)
      }
      time = Math.max(time, end)
    },
    onInstant(listener) {
      listeners.push(listener)
    },
    stop() {
      stopped = true
      heap.length = 0
    },
  }
}

export function instantOf(millis: number): Instant {
  return `${new Date(millis).toISOString().slice(0, 19)}Z`
}

/** Numbers that look random and are the same for the same seed. For lags and choices only, never for keys. */
export interface SeededRandom {
  /** 0 ≤ x < 1. */
  next(): number
  /** A whole number, both ends included. */
  between(low: number, high: number): number
  pick<T>(items: readonly T[]): T | undefined
  /** Characters of which Kubernetes makes name suffixes. */
  suffix(length: number): string
  /**
   * An independent stream: drawing more in one place does not shift what another place draws. A label must not hold a pod's name:
   * that carries a hash of its template, and so of certificates, which differ from run to run.
   */
  fork(label: string): SeededRandom
}

export function seededRandom(seed: string | number): SeededRandom {
  const digest = createHash('sha256').update(String(seed)).digest()
  let a = digest.readUInt32LE(0)
  let b = digest.readUInt32LE(4)
  let c = digest.readUInt32LE(8)
  let d = digest.readUInt32LE(12)

  // sfc32, from PractRand: small, fast, and good enough for lags.
  function next(): number {
    const sum = (a + b + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum
    return (sum >>> 0) / 4294967296
  }

  const letters = 'bcdfghjklmnpqrstvwxz2456789'
  return {
    next,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    pick: items => items[Math.floor(next() * items.length)],
    suffix: length => Array.from({ length }, () => letters[Math.floor(next() * letters.length)]).join(''),
    fork: label => seededRandom(`${seed}/${label}`),
  }
}
