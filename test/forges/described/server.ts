import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { inject, onTestFinished } from 'vitest'

export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  /** Undefined: none was sent. */
  readonly body: unknown
}

export interface Answer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export interface TestServer {
  /** https://127.0.0.1:PORT, by a certificate that NODE_EXTRA_CA_CERTS names. */
  readonly url: string
  readonly asked: readonly Asked[]
}

/** An HTTPS server for one test. */
export async function serve(answer: (asked: Asked, url: string) => Promise<Answer> | Answer): Promise<TestServer> {
  const { key, cert } = inject('certificate')
  const seen: Asked[] = []
  let url = ''
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const at = new URL(request.url ?? '/', url)
      const text = Buffer.concat(chunks).toString('utf8')
      const { method = 'GET', headers } = request
      const asked = {
        method,
        path: at.pathname,
        query: at.searchParams,
        headers,
        body: text === '' ? undefined : JSON.parse(text),
      }
      seen.push(asked)
      new Promise<Answer>(resolve => resolve(answer(asked, url))).then(
        ({ status, body, headers: more }) => {
          response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...more })
          response.end(body === undefined ? '' : JSON.stringify(body))
        },
        (error: unknown) => {
          response.writeHead(599, { 'content-type': 'text/plain' })
          response.end(String(error instanceof Error ? error.message : error))
        },
      )
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url, asked: seen }
}
