import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { goDuration } from '../mint/certificate.ts'
import { certificateAuthority, certificatesIn, endOf, type Pair, type RelativeName } from './certificates.ts'
import { instantOf } from './clock.ts'
import { type Fields, listAt, numberAt, recordAt, type StoredObject, textAt } from './objects.ts'
import type { Site } from './site.ts'

const group = 'cert-manager.io'
const manager = 'cert-manager-certificates-issuing'
/** Marks of cert-manager on what it writes (pkg/apis/certmanager/v1, types.go). */
const annotation = (name: string): string => `${group}/${name}`

const subjectFields: readonly (readonly [field: string, oid: string])[] = [
  ['countries', '2.5.4.6'],
  ['organizations', '2.5.4.10'],
  ['organizationalUnits', '2.5.4.11'],
  ['localities', '2.5.4.7'],
  ['provinces', '2.5.4.8'],
]

/**
 * cert-manager, as far as CA Certificates go: issues when one is new, when its specification changes, when its condition Issuing is set as by
 * `cmctl renew`, and at its renewal time. A key stays where rotationPolicy is Never and the Secret has one. Issuers of kind Issuer and ClusterIssuer with `selfSigned` or
 * `ca`; ca.crt is the top of the issuer's chain, written at an issuance and at no other time.
 */
export class CertManager {
  readonly #site: Site

  constructor(site: Site) {
    this.#site = site
    site.store.onChange(({ object, before, what }) => {
      if (object.kind !== 'Certificate' || !object.apiVersion.startsWith(`${group}/`) || what === 'deleted') return
      const changed = what === 'created' || !isDeepStrictEqual(before?.spec, object.spec)
      const asked =
        what === 'status' && conditionOf(object, 'Issuing') === 'True' && conditionOf(before, 'Issuing') !== 'True'
      if (changed || asked) this.#soon(object)
    })
  }

  #soon(certificate: StoredObject): void {
    const { namespace = '', name, uid } = certificate.metadata
    const { random, clock } = this.#site
    const lag = random.fork(`mint/${namespace}/${name}/${clock.elapsed()}`).between(500, 5_000)
    clock.after(lag, () => this.#issue(namespace, name, uid))
  }

  #issue(namespace: string, name: string, uid: string): void {
    const { store, clock } = this.#site
    const certificate = store.get(group, 'Certificate', namespace, name)
    if (certificate === null || certificate.metadata.uid !== uid) return
    const issuer = this.#issuerOf(certificate)
    if (issuer === null) {
      this.#report(certificate, { message: `${textAt(certificate, 'spec', 'issuerRef', 'name')} is not ready` })
      // The real one looks at once when the issuer changes; this one a little later.
      clock.after(60_000, () => this.#issue(namespace, name, uid))
      return
    }
    const secretName = textAt(certificate, 'spec', 'secretName') ?? name
    const keys = this.#keysFor(certificate, store.get('', 'Secret', namespace, secretName))
    const issued = this.#sign(certificate, issuer, keys)
    const chain = issuer === 'self' ? [issued.certificate] : [issued.certificate, ...issuer.between]
    const top = issuer === 'self' ? issued.certificate : issuer.top
    const revision = (numberAt(certificate, 'status', 'revision') ?? 0) + 1
    this.#request(certificate, revision, chain.join(''), top)
    store.put(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          name: secretName,
          namespace,
          annotations: {
            [annotation('certificate-name')]: name,
            [annotation('issuer-name')]: textAt(certificate, 'spec', 'issuerRef', 'name') ?? '',
            [annotation('issuer-kind')]: textAt(certificate, 'spec', 'issuerRef', 'kind') ?? '',
          },
          labels: { 'controller.cert-manager.io/fao': 'true' },
        },
        type: 'kubernetes.io/tls',
        data: { 'tls.crt': base64(chain.join('')), 'tls.key': base64(issued.key), 'ca.crt': base64(top) },
      },
      manager,
    )
    const ends = endOf(issued.certificate)
    const renewal = ends - (goDuration(textAt(certificate, 'spec', 'renewBefore') ?? '') ?? 0)
    this.#report(certificate, { revision, notAfter: instantOf(ends), renewalTime: instantOf(renewal) })
    clock.after(renewal - clock.millis(), () => {
      const live = store.get(group, 'Certificate', namespace, name)
      if (live?.metadata.uid === uid && numberAt(live, 'status', 'revision') === revision)
        this.#issue(namespace, name, uid)
    })
  }

  #keysFor(certificate: StoredObject, secret: StoredObject | null) {
    const there = textAt(secret, 'data', 'tls.key')
    if (there !== undefined && textAt(certificate, 'spec', 'privateKey', 'rotationPolicy') === 'Never')
      return createPrivateKey(Buffer.from(there, 'base64').toString())
    const size = numberAt(certificate, 'spec', 'privateKey', 'size')
    return textAt(certificate, 'spec', 'privateKey', 'algorithm') === 'ECDSA'
      ? generateKeyPairSync('ec', { namedCurve: size === 384 ? 'P-384' : 'P-256' }).privateKey
      : generateKeyPairSync('rsa', { modulusLength: size ?? 2048 }).privateKey
  }

  #sign(certificate: StoredObject, issuer: Signer | 'self', key: KeyObject): Pair {
    const { clock } = this.#site
    const name: RelativeName = [
      ...subjectFields.flatMap(([field, oid]) =>
        listAt(certificate, 'spec', 'subject', field).map(value => [oid, String(value)] as const),
      ),
      ...(textAt(certificate, 'spec', 'commonName') === undefined
        ? []
        : [['2.5.4.3', textAt(certificate, 'spec', 'commonName') ?? ''] as const]),
    ]
    const asked = clock.millis() + (goDuration(textAt(certificate, 'spec', 'duration') ?? '') ?? 90 * 24 * 3_600_000)
    const notAfter = new Date(Math.floor(asked / 1000) * 1000)
    const { certificate: pem } = certificateAuthority({
      name,
      key,
      issuer: issuer === 'self' ? null : issuer.pair,
      dns: listAt(certificate, 'spec', 'dnsNames').map(String),
      life: { notBefore: new Date(Math.floor(clock.millis() / 1000) * 1000), notAfter },
    })
    // As its default encoding has it: PKCS#1 for RSA, SEC1 for ECDSA.
    const type = key.asymmetricKeyType === 'rsa' ? 'pkcs1' : 'sec1'
    return { certificate: pem, key: key.export({ type, format: 'pem' }).toString() }
  }

  #issuerOf(certificate: StoredObject): Signer | 'self' | null {
    const { store } = this.#site
    const reference = recordAt(certificate, 'spec', 'issuerRef')
    const kind = String(reference.kind ?? 'Issuer')
    const own = kind === 'ClusterIssuer' ? null : (certificate.metadata.namespace ?? '')
    const found = store.get(group, kind, own, String(reference.name))
    if (found === null) return null
    if (Object.keys(recordAt(found, 'spec')).includes('selfSigned')) return 'self'
    const secret = store.get('', 'Secret', own ?? 'cert-manager', textAt(found, 'spec', 'ca', 'secretName') ?? '')
    const of = (key: string): string => Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString()
    const chain = certificatesIn(of('tls.crt'))
    const [signing] = chain
    if (signing === undefined) return null
    const top = certificatesIn(of('ca.crt')).at(-1) ?? chain.at(-1) ?? signing
    return { pair: { certificate: signing, key: of('tls.key') }, between: chain.filter(each => each !== top), top }
  }

  /** The request that a Certificate makes at each issuance; of the older ones none is kept (revisionHistoryLimit, 1 since 1.18). */
  #request(certificate: StoredObject, revision: number, chain: string, top: string): void {
    const { store, clock } = this.#site
    const { namespace = '', name, uid } = certificate.metadata
    for (const old of store.list(group, 'CertificateRequest', namespace))
      if (old.metadata.ownerReferences?.some(owner => owner.uid === uid) === true) store.delete(old)
    const made = store.put(
      {
        apiVersion: `${group}/v1`,
        kind: 'CertificateRequest',
        metadata: {
          name: `${name}-${revision}`,
          namespace,
          annotations: {
            [annotation('certificate-name')]: name,
            [annotation('certificate-revision')]: String(revision),
          },
          ownerReferences: [
            { apiVersion: `${group}/v1`, kind: 'Certificate', name, uid, controller: true, blockOwnerDeletion: true },
          ],
        },
        spec: { isCA: true, issuerRef: recordAt(certificate, 'spec', 'issuerRef') },
      },
      'cert-manager-certificates-request-manager',
    )
    store.setStatus(made, manager, {
      certificate: base64(chain),
      ca: base64(top),
      conditions: [
        { type: 'Ready', status: 'True', reason: 'Issued', message: 'issued', lastTransitionTime: clock.instant() },
      ],
    })
  }

  #report(
    certificate: StoredObject,
    said:
      | { readonly message: string }
      | { readonly revision: number; readonly notAfter: string; readonly renewalTime: string },
  ): void {
    const { namespace = '', name } = certificate.metadata
    const live = this.#site.store.get(group, 'Certificate', namespace, name)
    if (live === null) return
    const issued = !('message' in said)
    const status: Fields = {
      ...recordAt(live, 'status'),
      ...(issued ? said : {}),
      conditions: [
        {
          type: 'Ready',
          status: issued ? 'True' : 'False',
          reason: issued ? 'Ready' : 'DoesNotExist',
          message: issued ? 'Certificate is up to date and has not expired' : said.message,
          observedGeneration: live.metadata.generation,
          lastTransitionTime: this.#site.clock.instant(),
        },
      ],
    }
    this.#site.store.setStatus(live, manager, status)
  }
}

interface Signer {
  readonly pair: Pair
  /** From its own certificate up to, and without, the top. */
  readonly between: readonly string[]
  readonly top: string
}

function conditionOf(object: StoredObject | null | undefined, type: string): string | undefined {
  return textAt(
    listAt(object, 'status', 'conditions').find(each => textAt(each, 'type') === type),
    'status',
  )
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
