import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, type Server } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { type WebSocket, WebSocketServer } from 'ws'
import { createLeaf, createRoot, serialFrom } from '../src/pki/authority.ts'

/**
 * TLS endpoints, a port each, in a process of their own, and an API server whose port-forwards lead to them: `endpoints.js COUNT`. Prints where they are as
 * one line of JSON, and ends with its standard input.
 */
const count = Number(process.argv[2])
const keys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })
const serial = (): string => serialFrom(randomBytes)
const rootKey = keys().privateKey
const leafKeys = keys()
const dates = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 86_400_000) }
const root = await createRoot({ subject: 'CN=bench root', key: rootKey, ...dates, serial: serial() })
const leaf = await createLeaf({
  key: leafKeys.publicKey,
  issuer: { certificate: root, key: rootKey },
  ...dates,
  serial: serial(),
  dns: ['endpoint.bench'],
})
const identity = { key: leafKeys.privateKey.export({ type: 'pkcs8', format: 'pem' }), cert: `${leaf.pem}${root.pem}` }

async function listen(server: Server): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', 511, resolve))
  return (server.address() as AddressInfo).port
}

const ports: number[] = []
for (let number = 0; number < count; number++) {
  const server = createTlsServer(identity)
  server.on('tlsClientError', () => {})
  server.on('secureConnection', socket => socket.on('error', () => {}))
  ports.push(await listen(server))
}

const api = createHttpServer()
const webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'v4.channel.k8s.io' })
api.on('upgrade', (request, socket, head) => {
  const port = Number(new URL(request.url ?? '/', 'http://localhost').searchParams.get('ports'))
  webSockets.handleUpgrade(request, socket, head, webSocket => forward(webSocket, port))
})

/** Framing of v4.channel.k8s.io: channel 0 data, 1 errors; each begins with the port, little-endian. */
function forward(webSocket: WebSocket, port: number): void {
  webSocket.on('error', () => {})
  for (const channel of [0, 1]) {
    const announced = Buffer.from([channel, 0, 0])
    announced.writeUInt16LE(port, 1)
    webSocket.send(announced)
  }
  const target = connect(port, '127.0.0.1')
  target.on('error', () => webSocket.close())
  target.on('data', chunk => webSocket.send(Buffer.concat([Buffer.from([0]), chunk])))
  target.on('end', () => webSocket.close())
  webSocket.on('message', (data: Buffer) => {
    if (data[0] === 0) target.write(data.subarray(1))
  })
  webSocket.on('close', () => target.destroy())
}

process.stdout.write(`${JSON.stringify({ api: await listen(api), ports })}\n`)
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
