import type { Token } from './token.ts'

export interface HostedOptions {
  readonly token: Token
  /** Asks again where that helps, and throws Refusal (hosted/http.ts). */
  readonly fetch: typeof fetch
  /** The branch that requests are for. */
  readonly base: string
}
