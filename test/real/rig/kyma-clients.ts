import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'node:tls'
import { fingerprintOf } from './fingerprint.ts'
import type { Kubelet } from './kubelet.ts'
import type { ClientCertificate, Connector } from './kyma-connector.ts'
import { gatewayPort, kymaNames } from './kyma-gateway.ts'

/** A holder of a client certificate of the connector: it comes to every gateway pod again and again, over a new connection each time. */
export interface KymaClient {
  readonly name: string
  readonly kind: 'runtime' | 'application'
  held(): ClientCertificate
  /** Through the gateway, with the certificate that it has: an error where no gateway pod takes that. */
  renew(): Promise<void>
  /** With a token, past the gateway: what a person does where the certificate is refused. */
  onboard(): Promise<void>
}

export interface Meeting {
  readonly at: number
  readonly client: string
  readonly kind: KymaClient['kind']
  /** SHA-256 of the CA that signed the client's leaf. */
  readonly presents: string
  /** Pod of the gateway, and the CAs that its Envoy verifies clients with, as its admin said at the failure; empty where it was taken. */
  readonly gateway: string
  readonly trusts: readonly string[]
  readonly error: string | null
}

export interface KymaClients {
  readonly clients: readonly KymaClient[]
  readonly meetings: readonly Meeting[]
  stop(): Promise<void>
}

export interface KymaClientsOptions {
  readonly kubelet: Kubelet
  readonly connector: Connector
  readonly names: readonly { readonly name: string; readonly kind: KymaClient['kind'] }[]
  /** PEM of the root of the gateway's own server certificate. */
  readonly serverRoot: string
  /** @default 400 */
  readonly interval?: number
}

export async function startKymaClients(options: KymaClientsOptions): Promise<KymaClients> {
  const { kubelet, connector, serverRoot, interval = 400 } = options
  const meetings: Meeting[] = []
  let stopped = false

  const gateways = () => kubelet.find(kymaNames.gatewayNamespace, `${kymaNames.gateway}-`)

  /** Null: it was taken, and told so. */
  function meet(address: string, { certificate, key }: ClientCertificate): Promise<string | null> {
    return new Promise(resolve => {
      let answer = ''
      const socket = connect({
        host: address,
        port: gatewayPort,
        servername: 'gateway.kyma.example.com',
        ca: serverRoot,
        cert: certificate,
        key,
        timeout: 5000,
      })
      socket.once('secureConnect', () => {
        socket.write('GET / HTTP/1.1\r\nHost: gateway.kyma.example.com\r\nConnection: close\r\n\r\n')
      })
      socket.on('data', chunk => {
        answer += chunk.toString('utf8')
      })
      socket.once('timeout', () => socket.destroy(new Error('no answer within 5 s')))
      let error: string | null = null
      socket.once('error', cause => {
        error = cause.message
      })
      socket.once('close', () =>
        resolve(answer.endsWith('welcome') ? null : (error ?? `cut after "${answer.slice(0, 80)}"`)),
      )
    })
  }

  const clients: (KymaClient & { run(): Promise<void> })[] = []
  for (const { name, kind } of options.names) {
    let held = await connector.sign(name)
    clients.push({
      name,
      kind,
      held: () => held,
      async renew() {
        const reasons: string[] = []
        for (const { address } of gateways()) {
          const reason = await meet(address, held)
          if (reason === null) {
            held = await connector.sign(name)
            return
          }
          reasons.push(reason)
        }
        throw new Error(`the gateway refuses ${name}: ${reasons.join('; ')}`)
      },
      async onboard() {
        held = await connector.sign(name)
      },
      async run() {
        while (!stopped) {
          for (const pod of gateways()) {
            const used = held
            const error = await meet(pod.address, used)
            const trusts = error === null ? [] : await trustedBy(pod.exec).catch(() => [])
            meetings.push({
              at: Date.now(),
              client: name,
              kind,
              presents: fingerprintOf(used.authority),
              gateway: pod.name,
              trusts,
              error,
            })
          }
          await sleep(interval)
        }
      },
    })
  }
  const running = clients.map(client => client.run())
  return {
    clients,
    meetings,
    async stop() {
      stopped = true
      await Promise.all(running)
    },
  }
}

/** The CAs that an Envoy verifies clients with, past the product: its admin's word, by SHA-256. */
async function trustedBy(
  exec: (command: readonly [string, ...string[]]) => Promise<string>,
): Promise<readonly string[]> {
  const text = await exec(['curl', '-s', 'http://127.0.0.1:15000/config_dump?resource=dynamic_active_secrets'])
  const { configs = [] } = JSON.parse(text) as {
    readonly configs?: readonly {
      readonly secret?: { readonly validation_context?: { readonly trusted_ca?: { readonly inline_bytes?: string } } }
    }[]
  }
  const pems = configs.flatMap(({ secret }) => {
    const bytes = secret?.validation_context?.trusted_ca?.inline_bytes
    return bytes === undefined ? [] : [Buffer.from(bytes, 'base64').toString('utf8')]
  })
  const blocks = pems.flatMap(pem => pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [])
  return [...new Set(blocks.map(fingerprintOf))].sort()
}
