import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import type { ContainerSpec, ProbeSpec } from './pod-object.ts'

/** Asks once; true where the answer is what the kubelet takes for success. Never throws. */
export async function probeOnce(
  probe: ProbeSpec,
  container: ContainerSpec,
  address: string,
  exec: (command: readonly string[]) => Promise<string>,
): Promise<boolean> {
  const patience = (probe.timeoutSeconds ?? 1) * 1000
  const port = (named: number | string): number =>
    typeof named === 'number'
      ? named
      : (container.ports?.find(({ name }) => name === named)?.containerPort ?? Number(named))
  if (probe.httpGet !== undefined) {
    const { scheme = 'HTTP', host = address, path = '/', port: named, httpHeaders = [] } = probe.httpGet
    const ask = scheme === 'HTTPS' ? httpsRequest : httpRequest
    const headers = Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value]))
    return await new Promise(resolve => {
      const url = `${scheme.toLowerCase()}://${host}:${port(named)}${path.startsWith('/') ? '' : '/'}${path}`
      const how = {
        headers: { Connection: 'close', ...headers },
        timeout: patience,
        rejectUnauthorized: false,
        agent: false as const,
      }
      const asked = ask(url, how, response => {
        response.resume()
        const status = response.statusCode ?? 0
        resolve(status >= 200 && status < 400)
      })
      asked.on('timeout', () => asked.destroy())
      asked.on('error', () => resolve(false))
      asked.on('close', () => resolve(false))
      asked.end()
    })
  }
  if (probe.tcpSocket !== undefined) {
    const { host = address, port: named } = probe.tcpSocket
    return await new Promise(resolve => {
      const socket = connect({ host, port: port(named), timeout: patience })
      const done = (open: boolean): void => {
        socket.destroy()
        resolve(open)
      }
      socket.on('connect', () => done(true))
      socket.on('timeout', () => done(false))
      socket.on('error', () => done(false))
    })
  }
  if (probe.exec !== undefined) {
    const clock = new Promise<boolean>(resolve => setTimeout(() => resolve(false), patience).unref())
    const { command } = probe.exec
    return await Promise.race([
      exec(command).then(
        () => true,
        () => false,
      ),
      clock,
    ])
  }
  return true
}
