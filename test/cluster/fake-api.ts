import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { type WebSocket, WebSocketServer } from 'ws'
import { createLeaf, createRoot } from '../../src/pki/authority.ts'

/** What an API server does that the verifier must live with. Everything a test can bend stands here. */
export interface FakeApi {
  readonly kubeconfig: string
  /** Every request as `verb group/resource`, in the words of RBAC. */
  readonly requests: string[]
  /** Accept headers in the order of the requests. */
  readonly accepted: string[]
  /** `verb group/resource` that are forbidden. */
  readonly forbidden: Set<string>
  /** Continue tokens that have expired: how often each answers 410. */
  expire: number
  /** Lists stop with this status at their second page; 0: they do not. */
  stopHalfWay: number
  /** The body breaks off in the middle. */
  breakOff: boolean
  /** Requests are taken and never answered, as where etcd stands still. */
  stalled: boolean
  /** Pods that a port-forward reaches nothing on. */
  silent: boolean
  /** Text that the port-forward's error stream carries. */
  forwardError: string
  date: string | null
  notJson: boolean
  objects: Map<string, object[]>
  readonly servedLeaf: string
  close(): Promise<void>
}

export async function startFakeApi(): Promise<FakeApi> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-fake-api-'))
  const dated = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) }
  const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const root = await createRoot({ ...dated, subject: 'CN=fake API', key: rootKey, serial: '01' })
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const leaf = await createLeaf({
    ...dated,
    key,
    serial: '02',
    issuer: { certificate: root, key: rootKey },
    ips: ['127.0.0.1'],
    dns: ['istiod.istio-system.svc'],
  })
  const material = { cert: leaf.pem + root.pem, key: key.export({ type: 'pkcs8', format: 'pem' }) as string }
  const admin = createServer(answerAdmin)
  const istiod = createTlsServer({ ...material, ca: root.pem, requestCert: true, rejectUnauthorized: false }, socket =>
    socket.on('error', () => {}),
  )
  const adminPort = await listen(admin)
  const istiodPort = await listen(istiod)
  const sockets = new Set<Socket>()
  const api = createSecureServer(material, (request, response) => answer(request, response))
  const state: FakeApi = {
    kubeconfig: join(folder, 'kubeconfig'),
    requests: [],
    accepted: [],
    forbidden: new Set(),
    expire: 0,
    stopHalfWay: 0,
    breakOff: false,
    stalled: false,
    silent: false,
    forwardError: '',
    date: 'Sun, 22 Nov 2026 12:00:00 GMT',
    notJson: false,
    objects: new Map(),
    servedLeaf: leaf.sha256,
    async close() {
      for (const socket of sockets) socket.destroy()
      await Promise.all([api, admin, istiod].map(server => new Promise(resolve => server.close(resolve))))
      rmSync(folder, { recursive: true, force: true })
    },
  }
  for (const server of [api, admin, istiod]) server.on('connection', (socket: Socket) => sockets.add(socket))

  function answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url ?? '/', 'https://localhost')
    const { name, resource, namespace, group } = parsePath(url.pathname)
    const verb = name === null ? 'list' : 'get'
    state.requests.push(`${verb} ${group}/${resource}`)
    state.accepted.push(request.headers.accept ?? '')
    if (state.stalled) return undefined
    response.sendDate = false
    if (state.date !== null) response.setHeader('Date', state.date)
    response.setHeader('Content-Type', 'application/json')
    const send = (status: number, body: unknown): unknown => {
      response.statusCode = status
      const text = JSON.stringify(body)
      if (state.notJson) response.end('<html>')
      else if (state.breakOff) {
        response.setHeader('Content-Length', String(text.length))
        response.write(text.slice(0, text.length >> 1))
        setImmediate(() => response.destroy())
      } else response.end(text)
      return undefined
    }
    if (request.headers.authorization !== 'Bearer a-token') return send(401, status(401))
    if (state.forbidden.has(`${verb} ${group}/${resource}`)) return send(403, status(403))
    const objects = state.objects.get(`${group}/${resource}`)
    if (objects === undefined) return send(404, status(404))
    const metadataOnly = (request.headers.accept ?? '').includes('as=PartialObjectMetadata')
    if (name !== null) {
      const found = objects.find(object => sameName(object, namespace, name))
      if (found === undefined) return send(404, status(404))
      return send(
        200,
        metadataOnly ? { kind: 'PartialObjectMetadata', metadata: (found as { metadata: object }).metadata } : found,
      )
    }
    const selector = /^metadata\.name=(.+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1]
    const [label, value] = (url.searchParams.get('labelSelector') ?? '').split('=')
    const chosen = objects.filter(object => {
      const { metadata } = object as { metadata: { name: string; namespace?: string; labels?: Record<string, string> } }
      if (namespace !== null && metadata.namespace !== namespace) return false
      if (selector !== undefined && metadata.name !== selector) return false
      return label === undefined || label === '' || metadata.labels?.[label] === value
    })
    const limit = Number(url.searchParams.get('limit') ?? '0') || chosen.length
    const token = url.searchParams.get('continue')
    if (token !== null && state.expire > 0) {
      state.expire -= 1
      return send(410, status(410))
    }
    if (token !== null && state.stopHalfWay > 0) return send(state.stopHalfWay, status(state.stopHalfWay))
    const from = Number(token ?? '0')
    const next = from + limit < chosen.length ? String(from + limit) : ''
    return send(200, {
      kind: 'List',
      metadata: { resourceVersion: '1', continue: next },
      items: chosen
        .slice(from, from + limit)
        .map(object => (metadataOnly ? { metadata: (object as { metadata: object }).metadata } : object)),
    })
  }

  const webSockets = new WebSocketServer({
    noServer: true,
    handleProtocols: protocols => (protocols.has('v4.channel.k8s.io') ? 'v4.channel.k8s.io' : false),
  })
  api.on('upgrade', (request, socket, head) => {
    state.requests.push('get /pods/portforward')
    if (state.forbidden.has('get /pods/portforward')) {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
      return
    }
    const port = Number(new URL(request.url ?? '/', 'https://localhost').searchParams.get('ports'))
    webSockets.handleUpgrade(request, socket, head, webSocket => forward(webSocket, port))
  })

  /** Port-forward framing v4.channel.k8s.io: channel 0 data, 1 errors; each begins with the port, little-endian. */
  function forward(webSocket: WebSocket, port: number): void {
    webSocket.on('error', () => {})
    const announce = Buffer.alloc(2)
    announce.writeUInt16LE(port)
    for (const channel of [0, 1]) webSocket.send(Buffer.concat([Buffer.from([channel]), announce]))
    if (state.forwardError !== '') {
      webSocket.send(Buffer.concat([Buffer.from([1]), Buffer.from(state.forwardError)]))
      return
    }
    if (state.silent) return
    const target = connect(port === 15012 ? istiodPort : adminPort, '127.0.0.1')
    sockets.add(target)
    target.on('error', () => webSocket.close())
    target.on('data', chunk => webSocket.send(Buffer.concat([Buffer.from([0]), chunk])))
    target.on('end', () => webSocket.close())
    webSocket.on('message', (data: Buffer) => {
      if (data[0] === 0) target.write(data.subarray(1))
    })
    webSocket.on('close', () => target.destroy())
  }

  const port = await listen(api)
  writeFileSync(state.kubeconfig, kubeconfigText(port, root.pem))
  return state
}

function answerAdmin(request: IncomingMessage, response: ServerResponse): void {
  if (request.url === '/refused') {
    response.statusCode = 403
    response.end('no')
    return
  }
  if (request.url === '/broken') {
    response.statusCode = 500
    response.end('no')
    return
  }
  // Larger than one frame, so that it arrives in pieces.
  response.end(JSON.stringify({ path: request.url, filling: 'x'.repeat(200_000) }))
}

function parsePath(path: string): { group: string; resource: string; namespace: string | null; name: string | null } {
  const parts = path.split('/').filter(part => part !== '')
  const group = parts[0] === 'apis' ? (parts[1] ?? '') : ''
  const rest = parts.slice(parts[0] === 'apis' ? 3 : 2)
  if (rest[0] === 'namespaces' && rest.length > 2)
    return { group, namespace: rest[1] ?? null, resource: rest[2] ?? '', name: rest[3] ?? null }
  return { group, namespace: null, resource: rest[0] ?? '', name: rest[1] ?? null }
}

function sameName(object: object, namespace: string | null, name: string): boolean {
  const { metadata } = object as { metadata: { name: string; namespace?: string } }
  return metadata.name === name && (metadata.namespace ?? null) === namespace
}

function status(code: number): object {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message: 'a message that names no secret' }
}

async function listen(server: Server | ReturnType<typeof createTlsServer>): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

function kubeconfigText(port: number, ca: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'fake',
    clusters: [
      {
        name: 'fake',
        cluster: {
          server: `https://127.0.0.1:${port}`,
          'certificate-authority-data': Buffer.from(ca).toString('base64'),
        },
      },
    ],
    users: [{ name: 'reader', user: { token: 'a-token' } }],
    contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'reader' } }],
  })
}
