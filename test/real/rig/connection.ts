import { readFile } from 'node:fs/promises'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Manifest } from './objects.ts'

/** What a node's agents need of an API server: plain requests over connections that stay open, and lists that are kept up to date. */
export interface Connection {
  /** JSON of the answer. Throws `RequestError` for a status of 300 and more, and another error where the server does not answer. */
  send(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown>
  patch(path: string, change: unknown, type?: 'merge' | 'apply'): Promise<unknown>
  /** Keeps the list at `path` (`/api/v1/pods?fieldSelector=…`) until it is closed, through every restart of the API server. Returns once it is whole. */
  follow<T extends Manifest>(path: string, changed?: () => void): Promise<Followed<T>>
  close(): void
}

export interface Followed<T extends Manifest> {
  items(): readonly T[]
  find(namespace: string, name: string): T | undefined
  close(): void
}

class RequestError extends Error {
  readonly status: number
  constructor(what: string, status: number, text: string) {
    super(`${what}: ${status} ${text.slice(0, 500)}`)
    this.status = status
  }
}

export function isStatus(cause: unknown, ...statuses: readonly number[]): boolean {
  return cause instanceof RequestError && statuses.includes(cause.status)
}

/** A request that takes longer has met an API server that stands still. */
const patience = 10_000
const retryPause = 250

/** Opens nothing yet: the API server may be away. `kubeconfig` is one of control-plane.ts, with a client certificate. */
export async function openConnection(kubeconfig: string): Promise<Connection> {
  const config = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
    readonly clusters: readonly { readonly cluster: Readonly<Record<string, string>> }[]
    readonly users: readonly { readonly user: Readonly<Record<string, string>> }[]
  }
  const cluster = config.clusters[0]?.cluster ?? {}
  const user = config.users[0]?.user ?? {}
  const decode = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64')
  const agent = new Agent({
    keepAlive: true,
    ca: decode(cluster['certificate-authority-data']),
    cert: decode(user['client-certificate-data']),
    key: decode(user['client-key-data']),
  })
  const server = cluster.server ?? ''
  const watches = new Set<Followed<Manifest>>()

  function begin(method: string, path: string, body: unknown, type: string): [ClientRequest, Promise<IncomingMessage>] {
    const sent = body === undefined ? '' : JSON.stringify(body)
    const headers = { Accept: 'application/json', 'Content-Type': type, 'Content-Length': Buffer.byteLength(sent) }
    const asked = request(new URL(`${server}${path}`), { method, agent, headers })
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      asked.once('response', resolve)
      asked.on('error', reject)
      asked.end(sent)
    })
    return [asked, answer]
  }

  async function ask(method: string, path: string, body?: unknown, type = 'application/json'): Promise<unknown> {
    const [asked, answer] = begin(method, path, body, type)
    const clock = setTimeout(() => asked.destroy(new Error(`${method} ${path}: no answer`)), patience)
    try {
      const response = await answer
      const text = await textOf(response)
      const status = response.statusCode ?? 500
      if (status >= 300) throw new RequestError(`${method} ${path}`, status, text)
      return text === '' ? null : JSON.parse(text)
    } finally {
      clearTimeout(clock)
    }
  }

  async function follow<T extends Manifest>(path: string, changed = () => {}): Promise<Followed<T>> {
    const held = new Map<string, T>()
    const parameters = path.includes('?') ? '&' : '?'
    const keyOf = ({ metadata }: T): string => `${metadata.namespace ?? ''}/${metadata.name}`
    let open = true
    let watching: ClientRequest | null = null

    async function list(): Promise<string> {
      const answer = (await ask('GET', path)) as {
        readonly metadata: { resourceVersion: string }
        readonly items: readonly T[]
      }
      held.clear()
      for (const item of answer.items) held.set(keyOf(item), item)
      changed()
      return answer.metadata.resourceVersion
    }

    /** Returns the version to go on from, or null where the list has to be read again. */
    async function watch(version: string): Promise<string | null> {
      const query = `${parameters}watch=1&allowWatchBookmarks=true&timeoutSeconds=240&resourceVersion=${version}`
      const [asked, answer] = begin('GET', `${path}${query}`, undefined, 'application/json')
      watching = asked
      // A server that stands still keeps the connection; its silence is no news either way.
      const response = await answer
      if (response.statusCode !== 200) {
        response.resume()
        return null
      }
      let last = version
      let rest = ''
      response.setEncoding('utf8')
      for await (const chunk of response) {
        const lines = `${rest}${chunk}`.split('\n')
        rest = lines.pop() ?? ''
        let news = false
        for (const line of lines) {
          const event = JSON.parse(line) as { readonly type: string; readonly object: T }
          if (event.type === 'ERROR') return null
          last = String(event.object.metadata.resourceVersion)
          if (event.type === 'BOOKMARK') continue
          if (event.type === 'DELETED') held.delete(keyOf(event.object))
          else held.set(keyOf(event.object), event.object)
          news = true
        }
        if (news) changed()
      }
      return last
    }

    async function keep(): Promise<void> {
      let version: string | null = first
      while (open) {
        try {
          version = await watch(version ?? (await list()))
        } catch {
          version = null
        }
        if (version === null && open) await sleep(retryPause)
      }
    }

    const followed: Followed<T> = {
      items: () => [...held.values()],
      find: (namespace, name) => held.get(`${namespace}/${name}`),
      close() {
        open = false
        watches.delete(followed)
        watching?.destroy()
      },
    }
    const first = await retry(list)
    watches.add(followed)
    void keep()
    return followed
  }

  return {
    send: ask,
    patch: (path, change, type = 'merge') =>
      ask('PATCH', path, change, type === 'merge' ? 'application/merge-patch+json' : 'application/apply-patch+yaml'),
    follow,
    close() {
      for (const watch of [...watches]) watch.close()
      agent.destroy()
    },
  }
}

/** Does it again until it succeeds, or until what it met will not go away by waiting. */
export async function retry<T>(does: () => Promise<T>, goOn: () => boolean = () => true): Promise<T> {
  for (;;) {
    try {
      return await does()
    } catch (cause) {
      const lasting = cause instanceof RequestError && cause.status < 500 && cause.status !== 429
      if (lasting || !goOn()) throw cause
    }
    await sleep(retryPause)
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
