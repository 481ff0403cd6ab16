import { createHash, X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { connect, createSecureContext, createServer, type SecureContext, type Server, type TLSSocket } from 'node:tls'
import { readCertificate } from '../pki/certificate.ts'
import type { Fingerprint } from '../rotation.ts'
import { certificatesIn, fingerprintOf } from './certificates.ts'

/** What one TLS party holds: the chain that it presents and the roots that it trusts, as PEM. */
export interface Material {
  /** Leaf first. */
  readonly chain: string
  readonly key: string
  readonly roots: string
}

export interface LoadedMaterial extends Material {
  /** SHA-256 of the leaf. */
  readonly leaf: Fingerprint
  readonly trusts: readonly Fingerprint[]
  /** Digests of all that it presents, and of all that it verifies with. */
  readonly presents: string
  readonly verifiesWith: string
  readonly context: SecureContext
  /** The leaf, for its names. */
  readonly certificate: X509Certificate
}

export type HandshakeResult = { readonly ok: true } | { readonly ok: false; readonly error: string }

const fingerprints = new Map<string, Fingerprint>()

export function loadMaterial(material: Material): LoadedMaterial {
  const [leaf] = certificatesIn(material.chain)
  return {
    ...material,
    leaf: fingerprintOf(leaf ?? ''),
    certificate: new X509Certificate(leaf ?? ''),
    trusts: [...new Set(certificatesIn(material.roots).map(cachedFingerprint))].sort(),
    presents: digestOf(material.chain),
    verifiesWith: digestOf(material.roots),
    context: createSecureContext({
      cert: material.chain,
      key: material.key,
      ca: certificatesIn(material.roots),
      minVersion: 'TLSv1.3',
    }),
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}

function cachedFingerprint(certificate: string): Fingerprint {
  const known = fingerprints.get(certificate)
  if (known !== undefined) return known
  const sha256 = fingerprintOf(certificate)
  fingerprints.set(certificate, sha256)
  return sha256
}

/**
 * A TLS server on loopback that stands for one port of one pod.
 *
 * Every connection is new and is shut after the handshake: a session that is resumed, or a connection that stays open, proves
 * nothing about certificates. Each side verifies with OpenSSL against its own roots and no others.
 */
export class Endpoint {
  readonly #server: Server
  readonly #sockets = new Set<TLSSocket>()
  readonly #refusals = new Map<number, string>()
  readonly #required: boolean
  readonly #rootsAtStart: string
  #port = 0
  #material: LoadedMaterial

  /** `clientCertificate`: `required` as between sidecars, `ifGiven` as istiod on 15012. */
  private constructor(material: LoadedMaterial, clientCertificate: 'required' | 'ifGiven', alpn: string | null) {
    this.#material = material
    const required = clientCertificate === 'required'
    this.#required = required
    this.#rootsAtStart = material.roots
    // OpenSSL verifies the client either way; that it is refused here and not inside Node keeps OpenSSL's reason.
    this.#server = createServer({
      ...serverOptions(material, required),
      requestCert: required,
      rejectUnauthorized: false,
      ALPNProtocols: [alpn ?? (required ? 'istio' : 'h2')],
      noDelay: true,
    })
    this.#server.on('secureConnection', socket => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
      if (!required || socket.authorized) {
        socket.end('.')
        return
      }
      if (this.#refusals.size > 100) this.#refusals.clear()
      if (socket.remotePort !== undefined) this.#refusals.set(socket.remotePort, String(socket.authorizationError))
      socket.destroy()
    })
    this.#server.on('tlsClientError', () => {})
  }

  /** `alpn`: the one protocol that it speaks. @default `istio` where a client certificate is required, else `h2` */
  static async listen(
    material: LoadedMaterial,
    clientCertificate: 'required' | 'ifGiven',
    alpn: string | null = null,
  ): Promise<Endpoint> {
    const endpoint = new Endpoint(material, clientCertificate, alpn)
    await new Promise<void>((resolve, reject) => {
      endpoint.#server.once('error', reject)
      endpoint.#server.listen(0, '127.0.0.1', 256, resolve)
    })
    endpoint.#port = (endpoint.#server.address() as AddressInfo).port
    return endpoint
  }

  get material(): LoadedMaterial {
    return this.#material
  }

  /**
   * DER of the names of the CAs whose certificates it takes. istiod makes that list once, at its start (istio pilot/pkg/bootstrap/server.go,
   * initSecureDiscoveryService); Envoy's is that of its validation context.
   */
  get authorities(): readonly Buffer[] {
    return namesOf(this.#required ? this.#material.roots : this.#rootsAtStart)
  }

  get port(): number {
    return this.#port
  }

  /** New connections get this; those that are open keep what they had, as Envoy and istiod do. */
  setMaterial(material: LoadedMaterial): void {
    this.#material = material
    this.#server.setSecureContext(serverOptions(material, this.#required))
  }

  /** OpenSSL's reason for refusing the client that connected from this local port; null where it did not. */
  refusal(clientPort: number): string | null {
    const reason = this.#refusals.get(clientPort) ?? null
    this.#refusals.delete(clientPort)
    return reason
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>(resolve => this.#server.close(() => resolve()))
  }
}

function serverOptions(
  material: Material,
  verifies: boolean,
): { cert: string; key: string; ca: string[]; minVersion: 'TLSv1.3' } {
  // OpenSSL completes a leaf that stands alone from these roots, which istiod does not do: it asks for no certificate here, and needs none.
  const ca = verifies ? certificatesIn(material.roots) : []
  return { cert: material.chain, key: material.key, ca, minVersion: 'TLSv1.3' }
}

/** Subjects, each certificate once. */
function namesOf(roots: string): readonly Buffer[] {
  return [...new Set(certificatesIn(roots))].map(pem => readCertificate(pem).parts.subject.der)
}

export interface ConnectOptions {
  readonly context: SecureContext
  readonly alpn: string
  /** DNS name that the server's certificate must carry; null: a SPIFFE id of `trustDomain` instead. */
  readonly serverName: string | null
  readonly trustDomain: string
  /** The client looks at no name. @default false */
  readonly anyName?: boolean
  /** The client takes whatever the server presents. @default false */
  readonly anyServer?: boolean
}

/** One fresh handshake, both directions verified. It ends with a byte from the server, which under TLS 1.3 only then has verified the client. */
export function handshake(server: Endpoint, options: ConnectOptions): Promise<HandshakeResult> {
  return new Promise(resolve => {
    let done = false
    let failed = false
    let localPort = 0
    const socket: TLSSocket = connect({
      host: '127.0.0.1',
      port: server.port,
      secureContext: options.context,
      ALPNProtocols: [options.alpn],
      ...(options.serverName === null ? {} : { servername: options.serverName }),
      ...(options.anyServer === true ? { rejectUnauthorized: false } : {}),
      checkServerIdentity: () => nameError(server.material.certificate, options),
    })
    socket.setNoDelay(true)
    // Node makes objects of the peer's whole chain before it asks checkServerIdentity, which takes longer than the handshake itself.
    // OpenSSL has verified the chain by then; the names are read from the leaf that the server holds.
    Object.assign(socket, { getPeerCertificate: () => ({}) })
    const finish = (result: HandshakeResult): void => {
      if (done) return
      done = true
      clearTimeout(timer)
      socket.destroy()
      resolve(result)
    }
    // Guards against a hang of this process, not part of the model: virtual time stands still meanwhile.
    const timer = setTimeout(() => finish({ ok: false, error: 'no answer within 10 s' }), 10_000)
    socket.once('connect', () => {
      localPort = socket.localPort ?? 0
    })
    socket.once('data', () => finish({ ok: true }))
    socket.once('error', error => {
      failed = true
      finish({ ok: false, error: `client: ${errorText(error)}` })
    })
    socket.once('close', () => {
      if (failed) return
      // The server ended the connection after it had seen the client's certificate, or in the middle of the handshake.
      setImmediate(() =>
        finish({
          ok: false,
          error: `server: ${server.refusal(localPort) ?? 'the connection was closed in the handshake'}`,
        }),
      )
    })
  })
}

function nameError(leaf: X509Certificate, options: ConnectOptions): Error | undefined {
  if (options.anyName === true) return undefined
  if (options.serverName !== null) {
    if (leaf.checkHost(options.serverName, { subject: 'never' }) !== undefined) return undefined
    return new Error(`the server's certificate is not for ${options.serverName}`)
  }
  if (leaf.subjectAltName?.includes(`URI:spiffe://${options.trustDomain}/`) === true) return undefined
  return new Error(`the server's certificate carries no SPIFFE id of ${options.trustDomain}`)
}

function errorText(error: Error & { code?: string }): string {
  const [first] = error.message.split('\n')
  return error.code === undefined ? (first ?? '') : `${error.code}: ${first}`
}
