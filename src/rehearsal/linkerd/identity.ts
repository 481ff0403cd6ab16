import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { readAsGo } from '../../systems/linkerd/go-pem.ts'
import { globalAnchors } from '../../systems/linkerd/linkerd-config.ts'
import { certificatesIn, fingerprintOf, issueLeaf, type Pair } from '../certificates.ts'
import type { VolumeFiles } from '../kubelet.ts'
import type { Site } from '../site.ts'
import { controlPlaneNamespace } from './names.ts'

/** SHA-256 of the issuer that signed a leaf, by that of the leaf: what a report of a failed handshake is read with. */
const signers = new Map<string, string>()

/** Null: no identity of this process signed it. */
export function signerOf(leaf: string): string | null {
  return signers.get(leaf) ?? null
}

export interface SignedLeaf extends Pair {
  /** The issuer's PEM as it stands in the Secret: sent along with the leaf. */
  readonly chain: string
  /** By the cluster's clock. The certificate itself lives longer where that clock is behind the machine's, which OpenSSL goes by. */
  readonly notAfter: number
}

interface Issuer extends Pair {
  readonly chain: string
  readonly notAfter: number
}

/**
 * Identity's own process (linkerd2 controller/cmd/identity/main.go, pkg/identity/service.go, pkg/tls/creds_watcher.go).
 *
 * Anchors are parsed once, at the start, as strictly as Go does. The issuer follows the mounted Secret, but only if those anchors verify it:
 * otherwise the old one stays in use, an event says so, and a restart would not come up.
 */
export class Identity {
  readonly #site: Site
  readonly #files: (volume: string) => VolumeFiles
  readonly #name: string
  readonly #leafHours: number
  #anchors: readonly X509Certificate[] = []
  #issuer: Issuer | null = null
  /** Set by tests: this replica no longer hears of changes of its Secret (linkerd2#15109). */
  deaf = false

  constructor(site: Site, name: string, leafHours: number, files: (volume: string) => VolumeFiles) {
    this.#site = site
    this.#name = name
    this.#leafHours = leafHours
    this.#files = files
  }

  /** Throws where the container would exit. */
  start(): void {
    const text = this.#anchorsText()
    const read = readAsGo(text)
    if (!read.ok) throw new Error(`Failed to read trust anchors: ${read.reason}`)
    this.#anchors = certificatesIn(text).map(pem => new X509Certificate(pem))
    try {
      this.#issuer = this.#read()
    } catch (error) {
      throw new Error(`Failed to initialize identity service: ${messageOf(error)}`)
    }
  }

  /** `..data` of the mounted Secret was made anew. */
  issuerChanged(): void {
    if (this.#issuer === null || this.deaf) return
    try {
      this.#issuer = this.#read()
      this.#event('Normal', 'IssuerUpdated', 'Updated identity issuer')
    } catch (error) {
      const why = `Skipping issuer update as certs could not be read from disk: ${messageOf(error)}`
      this.#event('Warning', 'IssuerUpdateSkipped', why)
    }
  }

  /** A leaf for a proxy; null while the process is down, or its issuer has ended. */
  sign(name: string): SignedLeaf | null {
    const issuer = this.#issuer
    if (issuer === null || issuer.notAfter <= this.#site.clock.millis()) return null
    const wanted = this.#site.life(this.#leafHours)
    // NotAfter is clamped to the earliest end in the issuer's chain (pkg/tls/ca.go, firstCrtExpiration).
    const notAfter = new Date(Math.min(wanted.notAfter.getTime(), issuer.notAfter))
    const leaf = issueLeaf(issuer, { dns: [name], life: { notBefore: wanted.notBefore, notAfter } })
    signers.set(fingerprintOf(leaf.certificate), fingerprintOf(issuer.certificate))
    const ends = Math.min(this.#site.clock.millis() + this.#leafHours * 3_600_000, issuer.notAfter)
    return { ...leaf, chain: issuer.chain, notAfter: ends }
  }

  /** Port 9990, as far as the issuer goes (from edge-25.2.1 on). */
  metrics(): string {
    const left = this.#issuer === null ? 0 : (this.#issuer.notAfter - this.#site.clock.millis()) / 1000
    return `# HELP issuer_cert_ttl_seconds seconds until the issuer ends\n# TYPE issuer_cert_ttl_seconds gauge\nissuer_cert_ttl_seconds ${left}\n`
  }

  stop(): void {
    this.#issuer = null
  }

  #anchorsText(): string {
    const roots = this.#files('trust-roots')['ca-bundle.crt']
    return roots ?? globalAnchors(this.#files('config').global ?? '')
  }

  #read(): Issuer {
    const files = this.#files('identity-issuer')
    const chain = files['tls.crt'] ?? files['crt.pem'] ?? ''
    const key = files['tls.key'] ?? files['key.pem'] ?? ''
    const [certificate, ...rest] = certificatesIn(chain)
    if (certificate === undefined) throw new Error('not a PEM certificate')
    const x509 = new X509Certificate(certificate)
    const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
    if (!x509.publicKey.export({ type: 'spki', format: 'der' }).equals(spki))
      throw new Error('tls: Public and private key do not match')
    if (!x509.ca) throw new Error('failed to verify issuer certificate: it must be an intermediate-CA, but it is not')
    const above = rest.map(pem => new X509Certificate(pem))
    if (!verifies(x509, this.#anchors, above))
      throw new Error(
        `failed to verify issuer credentials for 'identity.${controlPlaneNamespace}.cluster.local' with trust anchors: x509: certificate signed by unknown authority`,
      )
    const ends = [x509, ...above].map(each => Date.parse(each.validTo))
    return { certificate, key, chain: certificatesIn(chain).join(''), notAfter: Math.min(...ends) }
  }

  /** controller/cmd/identity/main.go, recordEventFunc: about the Deployment, whichever replica it is. */
  #event(type: string, reason: string, message: string): void {
    const { store, clock } = this.#site
    this.#site.log(this.#name, `${reason}: ${message}`)
    store.put(
      {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: {
          name: `linkerd-identity.${reason.toLowerCase()}.${clock.millis()}`,
          namespace: controlPlaneNamespace,
        },
        type,
        reason,
        message,
        involvedObject: {
          apiVersion: 'apps/v1',
          kind: 'Deployment',
          name: 'linkerd-identity',
          namespace: controlPlaneNamespace,
        },
        source: { component: 'linkerd-identity' },
        firstTimestamp: clock.instant(),
        lastTimestamp: clock.instant(),
        count: 1,
      },
      'identity',
    )
  }
}

/** Whether anchors verify a certificate, over certificates between; the root itself may be the issuer. */
export function verifies(
  certificate: X509Certificate,
  anchors: readonly X509Certificate[],
  between: readonly X509Certificate[],
): boolean {
  if (anchors.some(anchor => anchor.raw.equals(certificate.raw))) return true
  const issuedBy = (issuer: X509Certificate): boolean =>
    certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
  if (anchors.some(issuedBy)) return true
  return between.some(
    issuer =>
      !issuer.raw.equals(certificate.raw) &&
      issuedBy(issuer) &&
      verifies(
        issuer,
        anchors,
        between.filter(each => each !== issuer),
      ),
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
