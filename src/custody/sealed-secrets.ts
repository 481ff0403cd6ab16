import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  X509Certificate,
} from 'node:crypto'
import { ReanchorError, type Where } from '../errors.ts'
import type { Custody, PlainSecret } from './custody.ts'
import { literalTemplate, renderedTemplate } from './go-template.ts'
import { createGuard } from './guard.ts'
import {
  checkPlainSecret,
  isRecord,
  readControllerManifest,
  readManifest,
  secretId,
  sortedMap,
  type Tree,
  writeManifest,
} from './manifest.ts'
import type { SealedFile, SealedSecret, SecretManifest } from './sops-document.ts'

export type SealingScope = 'strict' | 'namespace-wide' | 'cluster-wide'

export interface SealedSecretsOptions {
  /** The controller's certificate, as `kubeseal --fetch-cert` prints it. */
  readonly certificatePem: string
  readonly scope: SealingScope
  /** Session keys and the seeds of their padding. */
  readonly random: (size: number) => Buffer
  readonly now: Date
  /** Where the certificate was read, for errors. */
  readonly certificateFile?: string
  /** Manifests of an earlier plan whose sealed values are to be kept; those of other kinds are passed over. */
  readonly keep?: readonly SealedFile[]
}

export interface SealedSecretsCustody extends Custody {
  readonly kind: 'sealedSecrets'
  /** What a person should know before the first merge, one sentence each. */
  readonly remarks: readonly string[]
}

const namespaceOfAnnotations = 'sealedsecrets.bitnami.com/'

/** The controller makes a new key after this many days (v0.36.6, README, "Secret Rotation"). */
const renewalDays = 30

/** A rotation is planned again while it runs, which takes weeks. */
const expiryWarningDays = 60

/**
 * Whether the controller only adds keys to a live Secret: then no step can take one away, and the old CA stays in it for good (v0.36.6,
 * pkg/controller/controller.go, updateSecret).
 */
export function isPatched(annotations: Readonly<Record<string, string>> | undefined): boolean {
  return annotations?.[`${namespaceOfAnnotations}patch`] === 'true'
}

/**
 * Seals to the certificate of a Sealed Secrets controller.
 *
 * Private values stand in `encryptedData`, public ones readable in `template.data`, which the controller renders as Go templates;
 * what a template would take for an action is written so that it renders to itself. An equal value under an equal name keeps its
 * ciphertext.
 *
 * The Secret gets no owner reference, so that it outlives the SealedSecret; the controller then only updates a Secret that is
 * annotated as managed, hence both annotations (v0.36.6, pkg/controller/controller.go, unseal).
 */
export function createSealedSecretsCustody(options: SealedSecretsOptions): SealedSecretsCustody {
  const certificate = readSealingCertificate(options)
  const known = new Map<string, string>()
  for (const kept of options.keep ?? []) keepSealed(kept, options.scope, known)
  const byPlain = new Map<string, string>()
  const guard = createGuard(looksSealed)

  function sealValue(secret: PlainSecret, key: string, where: Where): string {
    const value = secret.data[key] ?? ''
    const id = [secret.namespace, secret.name, key].join('\0')
    const before = known.get(`${id}\0${value}`)
    if (before !== undefined) return value
    if (looksSealed(value)) {
      throw new ReanchorError({
        what: 'a sealed value is not one of this Secret',
        where: { ...where, field: `data["${key}"]` },
        expected: 'a sealed value of the same namespace, name and key',
        found: 'a sealed value that no manifest given to keep holds there',
        todo: 'give the private value itself, or the manifest that the sealed one stands in',
      })
    }
    const plainId = `${id}\0${createHash('sha256').update(value).digest('hex')}`
    const sealed =
      byPlain.get(plainId) ??
      hybridEncrypt(Buffer.from(value), certificate.publicKey, label(secret, options.scope), options.random)
    byPlain.set(plainId, sealed)
    return sealed
  }

  return {
    kind: 'sealedSecrets',
    remarks: remarks(certificate, options.now),
    async seal(secret, destination) {
      const where: Where = { file: destination, object: secretId(secret) }
      checkPlainSecret(secret, destination)
      const own = Object.keys(secret.annotations).find(name => name.startsWith(namespaceOfAnnotations))
      if (own !== undefined) {
        throw new ReanchorError({
          what: 'annotations of the Sealed Secrets controller are set by custody alone',
          where: { ...where, field: `metadata.annotations["${own}"]` },
          expected: 'none of them',
          found: own,
          todo: 'remove it; with `patch` keys that a phase drops would stay in the Secret',
        })
      }
      const privateKeys = new Set(secret.privateKeys)
      const sealed = new Map([...privateKeys].sort().map(key => [key, sealValue(secret, key, where)]))
      const text = writeManifest(manifestTree(secret, sealed, options.scope))
      guard(text, secret, destination)
      return text
    },
  }
}

/** The command by which a user lets the controller take over a Secret that exists already; without it the controller refuses. */
export function takeOverCommand(secret: { readonly namespace: string; readonly name: string }): string {
  return `kubectl --namespace ${secret.namespace} annotate secret ${secret.name} ${namespaceOfAnnotations}managed=true ${namespaceOfAnnotations}patch-`
}

/** Reads what is public in a SealedSecret. `file` is for errors. */
export function readSealedSecretsManifest(yaml: string, file?: string): SealedSecret {
  const read = parts(yaml, file)
  return { name: read.name, namespace: read.namespace, data: read.template, sealed: read.encrypted, recipients: [] }
}

/** The Secret that the controller would make of a SealedSecret. `privateKey` is the controller's. */
export function unseal(yaml: string, privateKey: KeyObject, file?: string): SecretManifest {
  const read = parts(yaml, file)
  const where: Where = {
    ...(file === undefined ? {} : { file }),
    object: `SealedSecret ${read.namespace}/${read.name}`,
  }
  const data: Record<string, string> = {}
  for (const [key, value] of Object.entries(read.encrypted)) {
    const plain = hybridDecrypt(Buffer.from(value, 'base64'), privateKey, label(read, read.scope))
    if (plain === null) {
      throw new ReanchorError({
        what: 'a sealed value does not open',
        where: { ...where, field: `spec.encryptedData["${key}"]` },
        expected: `a value that was sealed to this key for ${read.scope} use as ${read.namespace}/${read.name}`,
        found: 'one that was damaged, moved here, or sealed to another key',
        todo: 'restore the file from Git, or seal it again',
      })
    }
    data[key] = plain.toString('base64')
  }
  for (const [key, value] of Object.entries(read.template)) data[key] = Buffer.from(value).toString('base64')
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: read.name, namespace: read.namespace, labels: read.labels, annotations: read.annotations },
    type: read.type,
    data,
  }
}

// --------------------------------------------------------------------------------------------- certificate

function readSealingCertificate(options: SealedSecretsOptions): X509Certificate {
  const where: Where =
    options.certificateFile === undefined
      ? { field: 'custody.sealedSecrets.certificate' }
      : { file: options.certificateFile }
  const refuse = (what: string, expected: string, found: string, cause?: unknown): ReanchorError =>
    new ReanchorError({
      what,
      where,
      expected,
      found,
      todo: 'fetch the certificate that the controller uses now',
      example: 'kubeseal --fetch-cert > sealed-secrets.pem',
      ...(cause === undefined ? {} : { cause }),
    })
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(options.certificatePem)
  } catch (error) {
    throw refuse('the sealing certificate cannot be read', 'one PEM certificate', 'something else', error)
  }
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey
  if (asymmetricKeyType !== 'rsa' || (asymmetricKeyDetails?.modulusLength ?? 0) < 2048) {
    throw refuse(
      'the sealing certificate is not one of a Sealed Secrets controller',
      'an RSA key of 2048 bits or more',
      `${asymmetricKeyType} ${asymmetricKeyDetails?.modulusLength ?? ''}`.trim(),
    )
  }
  if (Date.parse(certificate.validTo) <= options.now.getTime()) {
    // As kubeseal does (v0.36.6, pkg/kubeseal/kubeseal.go, ParseKey).
    throw refuse(
      'the sealing certificate has expired',
      'one that is valid now',
      `valid until ${new Date(certificate.validTo).toISOString()}`,
    )
  }
  return certificate
}

function remarks(certificate: X509Certificate, now: Date): readonly string[] {
  const found: string[] = []
  const days = Math.floor((now.getTime() - Date.parse(certificate.validFrom)) / 86_400_000)
  if (days > renewalDays) {
    found.push(
      `The sealing certificate is ${days} days old, and the controller makes a new key every ${renewalDays} days by default: what is sealed to it opens as long as the old key is kept; fetch the present one with \`kubeseal --fetch-cert\`.`,
    )
  }
  const left = Math.floor((Date.parse(certificate.validTo) - now.getTime()) / 86_400_000)
  if (left < expiryWarningDays) {
    found.push(
      `The sealing certificate expires in ${left} days: then nothing can be sealed to it, by \`plan\` as little as by kubeseal; what is sealed opens as before, since the controller does not look at the date.`,
    )
  }
  found.push(
    `A Secret that exists already is taken over only if it is annotated ${namespaceOfAnnotations}managed=true, and keys that a phase drops only go if it is not annotated ${namespaceOfAnnotations}patch=true.`,
  )
  return found
}

// ----------------------------------------------------------------------------------------------- manifest

function manifestTree(
  secret: PlainSecret,
  sealed: ReadonlyMap<string, string>,
  scope: SealingScope,
): ReadonlyMap<string, Tree> {
  const annotations =
    scope === 'strict' ? secret.annotations : { ...secret.annotations, [`${namespaceOfAnnotations}${scope}`]: 'true' }
  const inSecret = Object.fromEntries(Object.entries(secret.annotations).filter(([name]) => !addressesDelivery(name)))
  const templateAnnotations = {
    ...inSecret,
    [`${namespaceOfAnnotations}managed`]: 'true',
    [`${namespaceOfAnnotations}skip-set-owner-references`]: 'true',
  }
  const publicData = Object.entries(secret.data).filter(([key]) => !sealed.has(key))
  const template = new Map<string, Tree>([['metadata', metadataTree(secret.labels, templateAnnotations)]])
  template.set('type', secret.type)
  if (publicData.length > 0) {
    template.set('data', sortedMap(Object.fromEntries(publicData.map(([key, value]) => [key, literalTemplate(value)]))))
  }
  return new Map<string, Tree>([
    ['apiVersion', 'bitnami.com/v1alpha1'],
    ['kind', 'SealedSecret'],
    [
      'metadata',
      new Map<string, Tree>([
        ['name', secret.name],
        ['namespace', secret.namespace],
        ...metadataTree(secret.labels, annotations),
      ]),
    ],
    [
      'spec',
      new Map<string, Tree>([
        ['encryptedData', sealed],
        ['template', template],
      ]),
    ],
  ])
}

function metadataTree(
  labels: Readonly<Record<string, string>>,
  annotations: Readonly<Record<string, string>>,
): ReadonlyMap<string, Tree> {
  const tree = new Map<string, Tree>()
  if (Object.keys(labels).length > 0) tree.set('labels', sortedMap(labels))
  if (Object.keys(annotations).length > 0) tree.set('annotations', sortedMap(annotations))
  return tree
}

/** Annotations for whoever applies the manifest mean nothing on the Secret that the controller makes. */
function addressesDelivery(name: string): boolean {
  return name.startsWith('kustomize.toolkit.fluxcd.io/') || name.startsWith('argocd.argoproj.io/')
}

interface Parts {
  readonly name: string
  readonly namespace: string
  readonly scope: SealingScope
  readonly encrypted: Readonly<Record<string, string>>
  /** Rendered. */
  readonly template: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly type: string
}

function parts(yaml: string, file?: string): Parts {
  const { metadata, spec, refuse } = readControllerManifest(yaml, 'SealedSecret', file)
  const template = isRecord(spec.template) ? spec.template : {}
  const templateMetadata = isRecord(template.metadata) ? template.metadata : {}
  const rendered: Record<string, string> = {}
  for (const [key, value] of Object.entries(texts(template.data))) {
    const text = renderedTemplate(value)
    if (text === null) throw refuse(`spec.template.data["${key}"]`, 'a text without template actions')
    rendered[key] = text
  }
  const scopes = texts(metadata.annotations)
  const wide = (['cluster-wide', 'namespace-wide'] as const).find(
    scope => scopes[`${namespaceOfAnnotations}${scope}`] === 'true',
  )
  return {
    name: metadata.name,
    namespace: metadata.namespace,
    scope: wide ?? 'strict',
    encrypted: texts(spec.encryptedData),
    template: rendered,
    labels: texts(templateMetadata.labels),
    annotations: texts(templateMetadata.annotations),
    type: typeof template.type === 'string' ? template.type : 'Opaque',
  }
}

function texts(value: unknown): Record<string, string> {
  if (!isRecord(value)) return {}
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
}

function keepSealed(kept: SealedFile, scope: SealingScope, known: Map<string, string>): void {
  const file = kept.file ?? kept.destination
  if (readManifest(kept.yaml, file).object().kind !== 'SealedSecret') return
  const read = parts(kept.yaml, file)
  // Sealed for another scope a value does not open under this one; `seal` says that it is not known.
  if (read.scope !== scope) return
  for (const [key, value] of Object.entries(read.encrypted))
    known.set([read.namespace, read.name, key, value].join('\0'), value)
}

// --------------------------------------------------------------------------------------------------- scheme

/** Binds a value to where it may be used (v0.36.6, sealedsecret_expansion.go, EncryptionLabel). */
function label(secret: { readonly namespace: string; readonly name: string }, scope: SealingScope): Buffer {
  if (scope === 'cluster-wide') return Buffer.alloc(0)
  return Buffer.from(scope === 'namespace-wide' ? secret.namespace : `${secret.namespace}/${secret.name}`)
}

/** v0.36.6, pkg/crypto/crypto.go, HybridEncrypt. The nonce may be zero because a session key seals one value only. */
function hybridEncrypt(plain: Buffer, key: KeyObject, context: Buffer, random: (size: number) => Buffer): string {
  const session = random(32)
  const size = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8)
  const padded = oaep(session, context, size, random(32))
  const sealedKey = publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, padded)
  const cipher = createCipheriv('aes-256-gcm', session, Buffer.alloc(12))
  const length = Buffer.alloc(2)
  length.writeUInt16BE(sealedKey.length)
  return Buffer.concat([length, sealedKey, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString(
    'base64',
  )
}

function hybridDecrypt(sealed: Buffer, key: KeyObject, context: Buffer): Buffer | null {
  if (!looksSealed(sealed.toString('base64'))) return null
  const end = 2 + sealed.readUInt16BE(0)
  try {
    const session = privateDecrypt(
      { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: context },
      sealed.subarray(2, end),
    )
    const decipher = createDecipheriv('aes-256-gcm', session, Buffer.alloc(12)).setAuthTag(sealed.subarray(-16))
    return Buffer.concat([decipher.update(sealed.subarray(end, -16)), decipher.final()])
  } catch {
    return null
  }
}

/** EME-OAEP (RFC 8017 section 7.1.1) with SHA-256, by hand because node:crypto takes no seed for it. */
function oaep(message: Buffer, context: Buffer, size: number, seed: Buffer): Buffer {
  const hash = createHash('sha256').update(context).digest()
  const block = Buffer.concat([
    hash,
    Buffer.alloc(size - message.length - 2 * hash.length - 2),
    Buffer.from([1]),
    message,
  ])
  const maskedBlock = xor(block, mgf1(seed, block.length))
  const maskedSeed = xor(seed, mgf1(maskedBlock, seed.length))
  return Buffer.concat([Buffer.from([0]), maskedSeed, maskedBlock])
}

function mgf1(seed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = []
  for (let counter = 0; counter * 32 < length; counter += 1) {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(counter)
    blocks.push(createHash('sha256').update(seed).update(number).digest())
  }
  return Buffer.concat(blocks).subarray(0, length)
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] ?? 0)))
}

/** Base64 of a length, that many bytes of an RSA ciphertext, and more: no private key in PEM looks like that. */
function looksSealed(value: string): boolean {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value)) return false
  const bytes = Buffer.from(value, 'base64')
  if (bytes.length < 2) return false
  const size = bytes.readUInt16BE(0)
  return [256, 384, 512, 1024].includes(size) && bytes.length >= 2 + size + 16
}
