import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { output } from './components.ts'
import type { Network } from './network.ts'
import { selfSigned } from './self-signed.ts'
import { freePort } from './server.ts'

/** A repository of this machine over HTTPS, for what runs in pods: Git's own `http-backend`, for one user with a token. */
export interface GitServer {
  /** As pods of the network reach it, without credentials. */
  readonly url: string
  readonly username: string
  readonly token: string
  stop(): Promise<void>
}

export async function startGitServer(network: Network, bare: string): Promise<GitServer> {
  const username = 'bot'
  const token = 'token-of-the-rig'
  await output('git', ['config', 'http.receivepack', 'true'], { cwd: bare })
  const backend = `${(await output('git', ['--exec-path'])).trim()}/git-http-backend`
  const expected = `Basic ${Buffer.from(`${username}:${token}`).toString('base64')}`
  const folder = await mkdtemp(join(tmpdir(), 'git-server-'))
  const { key, cert } = await selfSigned(folder, network.address)
  const identity = { key: await readFile(key), cert: await readFile(cert) }
  await rm(folder, { recursive: true })
  const server = createServer(identity, (request, response) => {
    if (request.headers.authorization !== expected) {
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="rig"' }).end()
      return
    }
    serve(backend, dirname(bare), username, request, response)
  })
  const port = await freePort(network.address)
  await new Promise<void>(resolve => server.listen(port, network.address, resolve))
  return {
    url: `https://${network.address}:${port}/${basename(bare)}`,
    username,
    token,
    async stop() {
      server.closeAllConnections()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

/** One request as CGI has it (RFC 3875): variables in, headers and a body out. */
function serve(backend: string, root: string, user: string, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://rig')
  const header = (name: string): string => String(request.headers[name] ?? '')
  const child = spawn(backend, {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_PROTOCOL: header('git-protocol'),
      REQUEST_METHOD: request.method,
      PATH_INFO: pathname,
      QUERY_STRING: searchParams.toString(),
      CONTENT_TYPE: header('content-type'),
      CONTENT_LENGTH: header('content-length'),
      HTTP_CONTENT_ENCODING: header('content-encoding'),
      REMOTE_USER: user,
      REMOTE_ADDR: request.socket.remoteAddress,
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  let head: Buffer | null = Buffer.alloc(0)
  child.stdout.on('data', (chunk: Buffer) => {
    if (head === null) return void response.write(chunk)
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    const lines = head.subarray(0, end).toString('latin1').split('\r\n')
    const fields = lines.map(
      line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const,
    )
    const status = fields.find(([name]) => name.toLowerCase() === 'status')?.[1]
    response.writeHead(status === undefined ? 200 : Number.parseInt(status, 10), Object.fromEntries(fields))
    response.write(head.subarray(end + 4))
    head = null
  })
  child.once('close', () => response.end())
  child.once('error', () => response.destroy())
  child.stdin.on('error', () => {})
  request.pipe(child.stdin)
}
