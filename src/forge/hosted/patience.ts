/**
 * How long to wait before a forge is asked the same again. Pure: times and answers are arguments.
 *
 * A request that changes nothing when it is repeated is asked again after any passing failure; one that opens or posts something only where the forge
 * says that it did not take it, since a second one would be a second comment.
 */
export interface Answered {
  readonly method: string
  /** Null: no answer came. */
  readonly status: number | null
  /** Why none came, where asking again would change nothing: a certificate that is not trusted. @default false */
  readonly untrusted?: boolean
  readonly header: (name: string) => string | null
}

/** Asked this often in all, the first time included. */
export const mostTries = 5

/** Milliseconds. A forge that asks for more is left alone until the next run. */
export const longestWait = 60_000

export type Wait =
  | { readonly kind: 'again'; readonly after: number }
  /** `until`: when the forge takes requests again, where it says so. */
  | { readonly kind: 'no'; readonly limited: boolean; readonly until: Date | null }

/** `tries`: how often it was asked by now. */
export function waitFor(answered: Answered, tries: number, now: Date): Wait {
  const limited = isLimited(answered)
  const asked = limited || answered.status === 503 ? askedWait(answered, now) : null
  if (!limited && !isPassing(answered)) return { kind: 'no', limited, until: null }
  const until = asked === null ? null : new Date(now.getTime() + asked)
  if (tries >= mostTries || (asked !== null && asked > longestWait)) return { kind: 'no', limited, until }
  return { kind: 'again', after: asked ?? Math.min(longestWait, 1000 * 2 ** (tries - 1)) }
}

/** GitHub answers 403 as well as 429 (docs: rate limits for the REST API); GitLab and Gitea's proxies 429. */
function isLimited({ status, header }: Answered): boolean {
  if (status === 429) return true
  return status === 403 && (header('x-ratelimit-remaining') === '0' || header('retry-after') !== null)
}

function isPassing({ method, status, header, untrusted }: Answered): boolean {
  if (untrusted === true) return false
  const repeatable = method !== 'POST'
  if (status === null) return repeatable
  if (status === 503 && header('retry-after') !== null) return true
  return repeatable && [500, 502, 503, 504].includes(status)
}

/** Milliseconds that the forge itself asks for. Retry-After is seconds or a date (RFC 9110, 10.2.3); resets are seconds since 1970. */
function askedWait({ header }: Answered, now: Date): number | null {
  const after = header('retry-after')
  if (after !== null && /^\d+$/.test(after)) return Number(after) * 1000
  if (after !== null && !Number.isNaN(Date.parse(after))) return Math.max(0, Date.parse(after) - now.getTime())
  const reset = header('x-ratelimit-reset') ?? header('ratelimit-reset')
  if (reset !== null && /^\d+$/.test(reset)) return Math.max(0, Number(reset) * 1000 - now.getTime()) + 1000
  return null
}
