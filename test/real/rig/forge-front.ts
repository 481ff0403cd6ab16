import { readFile } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer, request as send } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CertificateFiles } from './self-signed.ts'

/** What a request is told by. */
export interface Asked {
  readonly method: string
  readonly path: string
  readonly body: Buffer
}

/** A trouble with one request. It is over when it has come once. */
export interface Mishap {
  readonly matches: (asked: Asked) => boolean
  /** Bytes of the body that the forge still gets; `all`: the whole request, and only the answer is lost. */
  readonly passes: number | 'all'
  /** Done between those bytes and the cut of both connections. */
  readonly after?: () => Promise<void>
}

/** What stands between a forge and everybody: an HTTPS server that hands requests on, and can be told not to. */
export interface ForgeFront {
  readonly port: number
  /** Where requests are handed on to, by port of this machine. */
  to(port: number): void
  /** Milliseconds that every request waits before it is handed on. */
  slow(milliseconds: number): void
  /** The next request of the kind goes wrong. */
  befall(mishap: Mishap): void
  /** Whether what was to befall has. */
  befell(): boolean
  /** Nobody listens any more: connections are refused. */
  shut(): Promise<void>
  open(): Promise<void>
  close(): Promise<void>
}

export async function startFront(certificate: CertificateFiles): Promise<ForgeFront> {
  const tls = { cert: await readFile(certificate.cert), key: await readFile(certificate.key) }
  let target = 0
  let delay = 0
  let due: Mishap | null = null
  let befell = false

  async function carry(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const { method = 'GET', url: path = '/' } = request
    // What was read whole is sent whole.
    const { 'transfer-encoding': chunked, ...headers } = request.headers
    if (chunked !== undefined) headers['content-length'] = String(body.length)
    if (delay > 0) await sleep(delay)
    const mishap = due?.matches({ method, path, body }) === true ? due : null
    if (mishap !== null) due = null
    const whole = mishap === null || mishap.passes === 'all'
    const onward = send({ host: '127.0.0.1', port: target, method, path, headers, ca: tls.cert, agent: false })
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      onward.once('response', resolve)
      onward.once('error', reject)
    })
    answered.catch(() => {})
    if (whole) onward.end(body)
    else await new Promise<void>(resolve => onward.write(body.subarray(0, Number(mishap.passes)), () => resolve()))
    if (mishap !== null) {
      if (whole && mishap.after === undefined) await answered
      await mishap.after?.()
      befell = true
      onward.destroy()
      request.socket.destroy()
      return
    }
    const answer = await answered
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(response)
    answer.once('error', () => request.socket.destroy())
  }

  let server: Server | null = null
  async function listen(port: number): Promise<number> {
    const made = createServer(tls, (request, response) => {
      carry(request, response).catch(() => {
        // As a reverse proxy whose forge is not there.
        if (response.headersSent) request.socket.destroy()
        else response.writeHead(502, { 'content-type': 'text/html' }).end('<html><h1>502 Bad Gateway</h1></html>')
      })
    })
    await new Promise<void>((resolve, reject) => {
      made.once('error', reject)
      made.listen(port, '127.0.0.1', resolve)
    })
    server = made
    const bound = made.address()
    return typeof bound === 'object' && bound !== null ? bound.port : 0
  }
  async function shut(): Promise<void> {
    const ended = server
    server = null
    if (ended === null) return
    ended.closeAllConnections()
    await new Promise<void>(resolve => ended.close(() => resolve()))
  }

  const port = await listen(0)
  return {
    port,
    to(next) {
      target = next
    },
    slow(milliseconds) {
      delay = milliseconds
    },
    befall(mishap) {
      due = mishap
      befell = false
    },
    befell: () => befell,
    shut,
    async open() {
      if (server === null) await listen(port)
    },
    close: shut,
  }
}
