import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import {
  connect,
  createSecureContext,
  createServer,
  type DetailedPeerCertificate,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { pemKey } from './families.ts'
import type { Mix, Side } from './mixes.ts'
import type { Shaken, Stack } from './stack.ts'

/** Node's OpenSSL: one server for the run, which takes the context of each mix by the name that the client asks for. */
export async function opensslStack(): Promise<Stack> {
  const contexts = new Map<string, SecureContext>()
  const settled = new Map<string, (said: string) => void>()
  const server = createServer({
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    SNICallback: (name, done) => done(null, contexts.get(name)),
  })
  const settle = (socket: TLSSocket, said: string) => {
    const name = (socket as { servername?: string | false }).servername
    if (typeof name === 'string') settled.get(name)?.(said)
  }
  server.on('secureConnection', socket => {
    socket.on('error', () => {})
    settle(socket, socket.authorized ? 'ok' : String(socket.authorizationError))
    socket.end('.')
  })
  server.on('tlsClientError', (error, socket) => settle(socket, `server: ${error.message}`))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  let count = 0

  return {
    async shake(mix: Mix): Promise<Shaken> {
      count += 1
      const name = `mix-${count}.test`
      const partial = mix.verifier === 'openssl'
      contexts.set(name, contextOf(mix.server, partial))
      const said = await handshake(name, contextOf(mix.client, partial))
      contexts.delete(name)
      return { ok: said === 'ok', said }
    },
    async close() {
      server.close()
      await once(server, 'close')
    },
  }

  /** Under TLS 1.3 a client is done before the server has looked at its certificate: the server's byte says that it was taken. */
  function handshake(servername: string, secureContext: SecureContext): Promise<string> {
    return new Promise(resolve => {
      let ofServer = ''
      settled.set(servername, said => {
        ofServer = said
      })
      const socket = connect({
        port,
        host: '127.0.0.1',
        servername,
        secureContext,
        rejectUnauthorized: true,
        checkServerIdentity: () => undefined,
        minVersion: 'TLSv1.3',
      })
      // Node asks for the whole chain once it is verified, and never comes back where CAs of the trust store have signed each other in a ring
      // (src/crypto/crypto_common.cc, GetLastIssuedCert).
      socket.getPeerCertificate = noCertificate
      const end = (said: string) => {
        clearTimeout(timer)
        settled.delete(servername)
        socket.destroy()
        resolve(said)
      }
      const timer = setTimeout(() => end('neither taken nor refused within 10 s'), 10_000)
      socket.on('data', () => end(socket.authorized && ofServer === 'ok' ? 'ok' : `server: ${ofServer}`))
      socket.on('error', error => end(`client: ${error.message}`))
      socket.on('close', () => end(`closed: ${ofServer}`))
    })
  }
}

/** For the check of names, which is left out. */
function noCertificate(): DetailedPeerCertificate {
  return {} as DetailedPeerCertificate
}

function contextOf(side: Side, partial: boolean): SecureContext {
  const { certificate } = side.leaf
  return createSecureContext({
    cert: [certificate, ...side.chain].map(({ pem }) => pem).join(''),
    key: pemKey(side.leaf),
    ca: side.trusts.map(({ pem }) => pem),
    minVersion: 'TLSv1.3',
    allowPartialTrustChain: partial,
  })
}
