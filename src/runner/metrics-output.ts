import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { ReanchorError } from '../errors.ts'
import type { Metrics } from './metrics.ts'

/** For the textfile collector, which must never read half a file: written beside it and moved over it. */
export async function writeMetrics(file: string, metrics: Metrics): Promise<void> {
  // The collector takes `*.prom` alone.
  const beside = `${file}.${process.pid}.tmp`
  try {
    writeFileSync(beside, await metrics.text(), { mode: 0o644 })
    renameSync(beside, file)
  } catch (cause) {
    rmSync(beside, { force: true })
    throw new ReanchorError({
      what: 'metrics cannot be written',
      where: { file },
      expected: 'a file in a folder that this user may write to',
      found: (cause as NodeJS.ErrnoException).code ?? 'an error',
      todo: 'correct --metrics-file',
      cause,
    })
  }
}

export interface MetricsServer {
  readonly port: number
  close(): void
}

/**
 * GET /metrics, and GET /healthz, which is 503 once no round has ended for `staleAfter` milliseconds. Nothing else is answered, and nothing is taken in.
 */
export async function serveMetrics(
  metrics: Metrics,
  {
    host,
    port,
    staleAfter,
    now,
  }: { readonly host: string; readonly port: number; readonly staleAfter: number; readonly now: () => Date },
): Promise<MetricsServer> {
  const started = now().getTime()
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0]
    if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end()
    if (path === '/metrics') {
      metrics.text().then(
        text => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        () => response.writeHead(500).end(),
      )
      return
    }
    if (path !== '/healthz') return void response.writeHead(404).end()
    const last = metrics.lastRound()
    const fresh = now().getTime() - (last === null ? started : last * 1000) < staleAfter
    response.writeHead(fresh ? 200 : 503, { 'content-type': 'text/plain' }).end(fresh ? 'ok\n' : 'no round has ended\n')
  })
  await listening(server, host, port)
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', cause => {
      reject(
        new ReanchorError({
          what: 'metrics cannot be served',
          where: { object: `${host}:${port}` },
          expected: 'an address of this machine and a port that is free',
          found: (cause as NodeJS.ErrnoException).code ?? 'an error',
          todo: 'correct --metrics-port or --metrics-host',
          cause,
        }),
      )
    })
    server.listen(port, host, resolve)
  })
}
