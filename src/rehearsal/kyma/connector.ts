import { createPrivateKey } from 'node:crypto'
import type { KymaProfile } from '../../systems/kyma/profile.ts'
import { fingerprintOf, type Pair } from '../certificates.ts'
import { textsAt } from '../objects.ts'
import type { Site } from '../site.ts'
import { connectorLeaf, firstCertificate } from './certificates.ts'
import { demoKyma } from './fleet.ts'

/** SHA-256 of the CA that signed a leaf, by that of the leaf: what a report of a failed handshake is read with. */
const signers = new Map<string, string>()

/** Null: no connector of this process signed it. */
export function signerOf(leaf: string): string | null {
  return signers.get(leaf) ?? null
}

/** How long a token lives, in milliseconds (connector-service, `runtimeTokenExpirationMinutes`, `appTokenExpirationMinutes`). */
const tokenLife = { runtime: 600_000, application: 300_000 } as const

export interface Issued extends Pair {
  /** The CA that came with it: the connector's own, and no other. */
  readonly ca: string
}

/**
 * The connector, as far as a CA is concerned (kyma components/connector-service). It reads its Secret through the API at every request, so that nothing restarts;
 * of the certificate it reads the first PEM block and no other.
 */
export class Connector {
  readonly #site: Site
  /** Where its CA is. */
  readonly place: KymaProfile['signer']
  readonly #tokens = new Map<string, number>()
  #given = 0

  constructor(site: Site, place: KymaProfile['signer']) {
    this.#site = site
    this.place = place
  }

  /** A URL with a token that works once. */
  csrInfoUrl(client: keyof typeof tokenLife): string {
    this.#given += 1
    const token = `token-${this.#given}`
    this.#tokens.set(token, this.#site.clock.millis() + tokenLife[client])
    return `https://connector-service.${demoKyma.domain}/v1/${client}s/signingRequests/info?token=${token}`
  }

  /** Takes the token of such a URL; false where it was taken before, or has run out. */
  redeem(url: string): boolean {
    const token = new URL(url).searchParams.get('token') ?? ''
    const until = this.#tokens.get(token)
    this.#tokens.delete(token)
    return until !== undefined && this.#site.clock.millis() <= until
  }

  /** Another one each time that it is given something else to sign with. */
  get version(): string {
    const { namespace, secret } = this.place
    return this.#site.store.get('', 'Secret', namespace, secret)?.metadata.resourceVersion ?? ''
  }

  /** Signs one request. Throws what it answers with where its Secret does not let it sign. */
  async sign(commonName: string, hours: number): Promise<Issued> {
    const { namespace, secret, certificateKey, privateKey } = this.place
    const data = textsAt(this.#site.store.get('', 'Secret', namespace, secret), 'data')
    const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('utf8')
    const certificate = firstCertificate(text(certificateKey))
    const key = createPrivateKey(text(privateKey))
    if (!certificate.x509.checkPrivateKey(key)) throw new Error('the CA certificate and its key do not match')
    const pair = { certificate: certificate.pem, key: text(privateKey) }
    const leaf = await connectorLeaf(pair, commonName, this.#site.life(hours))
    signers.set(fingerprintOf(leaf.certificate), certificate.sha256)
    return { ...leaf, ca: certificate.pem }
  }
}
