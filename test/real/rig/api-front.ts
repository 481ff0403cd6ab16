import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, request as send } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { ControlPlane } from './control-plane.ts'
import { kubeconfigLike } from './faults.ts'
import { selfSigned } from './self-signed.ts'

/** What stands between the verifier and one API server; the cluster itself does not notice. */
export interface ApiFront {
  /** Like the one that it was made for, with the front as its server. */
  readonly kubeconfig: string
  /** Requests are taken and never answered, as behind a firewall that drops packets. */
  silence(silent: boolean): void
  /**
   * Every clock of the cluster is off by so many milliseconds, as whoever asks can tell: the answers' `Date`, and all times that its programs wrote. Not the
   * certificates that its CA issues.
   */
  clock(milliseconds: number): void
  stop(): Promise<void>
}

/** Fields in which the programs of a cluster write a time. Those in which people write one, such as annotations, stay. */
const timeFields = [
  ...['creationTimestamp', 'deletionTimestamp', 'time', 'startTime', 'startedAt', 'finishedAt', 'renewTime'],
  ...['lastTransitionTime', 'lastUpdateTime', 'lastProbeTime', 'lastHeartbeatTime', 'firstTimestamp', 'lastTimestamp'],
]
const writtenTime = new RegExp(
  `("(?:${timeFields.join('|')})":")(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(?:\\.\\d+)?Z)"`,
  'g',
)

export async function startApiFront(plane: ControlPlane, kubeconfig: string): Promise<ApiFront> {
  const folder = await mkdtemp(join(tmpdir(), 'ra-front-'))
  const certificate = await selfSigned(folder, '127.0.0.1')
  const [cert, key] = [await readFile(certificate.cert), await readFile(certificate.key)]
  const ca = await readFile(plane.certificateAuthority)
  const sockets = new Set<Duplex>()
  let silent = false
  let off = 0

  const shifted = (time: number): Date => new Date(time + off)

  function onward({ method, url, headers }: IncomingMessage) {
    // What is packed cannot be read here.
    const { 'accept-encoding': _packed, host: _front, ...others } = headers
    const target = { host: plane.network.address, port: plane.apiPort, ca, agent: false }
    return send({ ...target, method, path: url, headers: others })
  }

  function carry(request: IncomingMessage, response: ServerResponse): void {
    if (silent) return
    const asked = onward(request)
    asked.once('error', () => request.socket.destroy())
    asked.once('response', answer => {
      const { date, 'content-length': _length, ...headers } = answer.headers
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.once('error', () => request.socket.destroy())
      answer.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        const body = off === 0 ? text : text.replace(writtenTime, (_all, field, time) => `${field}${withTime(time)}"`)
        response.sendDate = false
        const said = date === undefined ? {} : { date: shifted(Date.parse(date)).toUTCString() }
        response.writeHead(answer.statusCode ?? 502, { ...headers, ...said }).end(body)
      })
    })
    request.pipe(asked)
  }

  /** As precise as it was written. */
  function withTime(time: string): string {
    const fraction = /\.\d+(?=Z$)/.exec(time)?.[0] ?? ''
    return `${shifted(Date.parse(time)).toISOString().slice(0, 19)}${fraction}Z`
  }

  const server = createServer({ cert, key }, carry)
  server.on('secureConnection', socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
  })
  // Port-forwards: what goes through them is the pod's, and none of the cluster's.
  server.on('upgrade', (request: IncomingMessage, near: Duplex, head: Buffer) => {
    near.on('error', () => {})
    if (silent) return
    const asked = onward(request)
    asked.once('error', () => near.destroy())
    asked.once('response', answer => {
      answer.resume()
      near.end(
        `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
      )
    })
    asked.once('upgrade', (answer, far, first) => {
      far.on('error', () => near.destroy())
      near.once('close', () => far.destroy())
      const lines = answer.rawHeaders.flatMap((name, index, all) =>
        index % 2 === 0 ? [`${name}: ${all[index + 1]}`] : [],
      )
      near.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`)
      near.write(first)
      far.write(head)
      far.pipe(near).pipe(far)
    })
    asked.end()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0
  const end = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    kubeconfig: await kubeconfigLike(plane, kubeconfig, 'front', {
      cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority-data': cert.toString('base64') },
    }),
    silence(next) {
      silent = next
      if (!silent) end()
    },
    clock(milliseconds) {
      off = milliseconds
    },
    async stop() {
      end()
      await new Promise<void>(resolve => server.close(() => resolve()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}
