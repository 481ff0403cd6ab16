import { waitFor } from './patience.ts'

/** What a forge's server says where it does not do what was asked; `status` null: no answer came. */
export class Refusal extends Error {
  readonly status: number | null
  readonly method: string
  /** Path of the address that was asked: no query, no host. */
  readonly path: string
  /** What the server said, or why there was no answer; never a header that was sent. */
  readonly said: string
  readonly limited: boolean
  readonly until: Date | null
  readonly header: (name: string) => string | null

  constructor(parts: {
    readonly status: number | null
    readonly method: string
    readonly path: string
    readonly said: string
    readonly limited: boolean
    readonly until: Date | null
    readonly header: (name: string) => string | null
  }) {
    super(`${parts.method} ${parts.path}: ${parts.status ?? 'no answer'}: ${parts.said}`)
    this.name = 'Refusal'
    this.status = parts.status
    this.method = parts.method
    this.path = parts.path
    this.said = parts.said
    this.limited = parts.limited
    this.until = parts.until
    this.header = parts.header
  }
}

/** The refusal that an error is, or that a client library has wrapped into one of its own; null: it is something else. */
export function refusalIn(error: unknown): Refusal | null {
  for (let one = error; one instanceof Error; one = one.cause) if (one instanceof Refusal) return one
  return null
}

/** Null: there is no such thing. */
export async function orNull<T>(run: () => Promise<T>): Promise<T | null> {
  try {
    return await run()
  } catch (error) {
    if (refusalIn(error)?.status === 404) return null
    throw error
  }
}

export interface Patience {
  readonly fetch: typeof fetch
  readonly now: () => Date
  readonly sleep: (milliseconds: number) => Promise<void>
}

/** Milliseconds for one answer. */
const longestAnswer = 30_000

/**
 * A `fetch` for client libraries that asks again as waitFor says, and throws Refusal for everything that is no success. 304 passes: an answer, not a refusal.
 */
export function patientFetch({ fetch: ask, now, sleep }: Patience): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    const { method } = request
    const path = new URL(request.url).pathname
    for (let tries = 1; ; tries += 1) {
      const answer = await once(ask, request.clone())
      if (answer instanceof Response && (answer.ok || answer.status === 304)) return answer
      const response = answer instanceof Response ? answer : null
      const status = response?.status ?? null
      const header = (name: string): string | null => response?.headers.get(name) ?? null
      const wait = waitFor({ method, status, header, untrusted: isUntrusted(answer) }, tries, now())
      if (wait.kind === 'again') {
        await response?.body?.cancel()
        await sleep(wait.after)
        continue
      }
      const said = response === null ? whyNot(answer) : await saidBy(response)
      throw new Refusal({ status, method, path, said, limited: wait.limited, until: wait.until, header })
    }
  }
}

async function once(ask: typeof fetch, request: Request): Promise<Response | Error> {
  try {
    return await ask(request, { signal: AbortSignal.timeout(longestAnswer) })
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** Codes of Node's TLS, such as SELF_SIGNED_CERT_IN_CHAIN and UNABLE_TO_VERIFY_LEAF_SIGNATURE. */
export const untrustedCode = /CERT_|_CERT|UNABLE_TO_VERIFY|ALTNAME/

function isUntrusted(answer: unknown): boolean {
  return answer instanceof Error && untrustedCode.test(whyNot(answer))
}

/** `fetch failed` says nothing; its cause has the code, such as ECONNREFUSED or SELF_SIGNED_CERT_IN_CHAIN. */
function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return 'no answer'
  if (error.name === 'TimeoutError') return `no answer within ${longestAnswer / 1000} s`
  const { cause } = error
  if (!(cause instanceof Error)) return error.message
  const { code } = cause as NodeJS.ErrnoException
  return code === undefined ? cause.message : `${code}: ${cause.message}`
}

const longestSaid = 400

/** The message of the three forges' JSON, or the first words of what a proxy said. */
async function saidBy(response: Response): Promise<string> {
  const text = await response.text().catch(() => '')
  const found = messageOf(text) ?? text
  const line = found.replaceAll(/\s+/g, ' ').trim()
  return line === '' ? response.statusText || 'no message' : line.slice(0, longestSaid)
}

function messageOf(text: string): string | null {
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof answer !== 'object' || answer === null) return null
  const { message, error, error_description: description, errors, scope } = answer as Readonly<Record<string, unknown>>
  const parts = [message, error, description, errors, scope].flatMap(part =>
    part === undefined || part === null ? [] : [typeof part === 'string' ? part : JSON.stringify(part)],
  )
  return parts.length === 0 ? null : parts.join('; ')
}
