import type { Mix } from './mixes.ts'

/** What became of a handshake. */
export interface Shaken {
  readonly ok: boolean
  /** What the stack says of it, for people. */
  readonly said: string
}

/** A TLS implementation that shakes hands for real. */
export interface Stack {
  shake(mix: Mix): Promise<Shaken>
  close(): Promise<void>
}
