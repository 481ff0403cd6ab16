import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { ReanchorError } from '../errors.ts'
import { canaryName, valuesAnnotation } from '../names.ts'
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
import {
  isRemoteReference,
  type RemoteValue,
  readRemoteReference,
  remoteReference,
  type StoredValue,
} from './remote-value.ts'
import type { SealedFile, SealedSecret } from './sops-document.ts'

export interface ExternalSecretsOptions {
  readonly store: string
  readonly storeKind: 'SecretStore' | 'ClusterSecretStore'
  /** Begins every name in the store: `reanchor/mesh-2026-eu-1-`. */
  readonly prefix: string
  /** What the store calls the first version of a name. */
  readonly version: string
  /** Names of values that have no public part. */
  readonly random: (size: number) => Buffer
  /** Manifests of an earlier plan whose values are to be kept; those of other kinds are passed over. */
  readonly keep?: readonly SealedFile[]
}

export interface ExternalSecretsCustody extends Custody {
  readonly kind: 'externalSecrets'
  /** What the manifests made so far refer to and no kept one did: somebody has to put it into the store. */
  values(): readonly StoredValue[]
}

/** Every value has a name of its own, under which it is the only property. */
const property = 'value'

/** How often External Secrets looks again. Versions are pinned, so it finds the same; what it heals is a Secret that was edited or deleted. */
const refreshInterval = '1h'

/**
 * Leaves private values to a store that External Secrets reads: the manifest names them, by a name and a version that are never used again.
 *
 * Public values stand readable in the template, so that a change of trust is reviewed as with any other custody. A name tells whose key it is
 * by the digest of the public key. What the store holds under it is checked in the cluster, before it is written, by the template: another value
 * than the planned one ends as SecretSyncedError and leaves the Secret as it was.
 *
 * The Secret gets no owner, so that it outlives the ExternalSecret; its data is replaced whole (creationPolicy Orphan, external-secrets cc5bfbc,
 * externalsecret_controller_template.go, ApplyTemplate).
 */
export function createExternalSecretsCustody(options: ExternalSecretsOptions): ExternalSecretsCustody {
  const guard = createGuard(isRemoteReference)
  const known = new Map<string, RemoteValue>()
  const stored = new Map<string, StoredValue>()
  for (const kept of options.keep ?? []) keepValues(kept, known)

  function remoteOf(secret: PlainSecret, key: string): RemoteValue {
    const value = secret.data[key] ?? ''
    if (isRemoteReference(value)) return readRemoteReference(value)
    const id = [secret.namespace, secret.name, key, sha256(value)].join('\0')
    const before = known.get(id)
    if (before !== undefined) return before
    const publicKey = publicKeyDigest(value)
    const name = (publicKey ?? options.random(32).toString('hex')).slice(0, 32)
    const drawn = publicKey !== null || secret.name === canaryName
    const plainName = `${options.prefix}${secret.name}-${name}`
    // The same key in another form is another value.
    const taken = stored.has(plainName)
    const remote: StoredValue = {
      key: taken ? `${plainName}-${sha256(value).slice(0, 8)}` : plainName,
      property,
      version: options.version,
      sha256: drawn ? sha256(value) : null,
      value,
    }
    known.set(id, remote)
    stored.set(remote.key, remote)
    return remote
  }

  return {
    kind: 'externalSecrets',
    values: () => [...stored.values()],
    async seal(secret, destination) {
      checkPlainSecret(secret, destination)
      refuseOwnMarks(secret, destination)
      const keys = [...new Set(secret.privateKeys)].sort()
      const remotes = new Map(keys.map(key => [key, remoteOf(secret, key)]))
      const text = writeManifest(manifestTree(secret, remotes, options))
      guard(text, secret, destination)
      return text
    },
  }
}

/** Reads what an ExternalSecret of ours says. In `sealed` stand references, which may be given to `seal` in place of the values. */
export function readExternalSecret(yaml: string, file?: string): SealedSecret {
  const { metadata, spec, refuse } = readControllerManifest(yaml, 'ExternalSecret', file)
  const digests = readDigests(isRecord(metadata.annotations) ? metadata.annotations[valuesAnnotation] : null)
  const sealed: Record<string, string> = {}
  for (const entry of Array.isArray(spec.data) ? spec.data : []) {
    const remote: unknown = isRecord(entry) ? entry.remoteRef : null
    if (!isRecord(entry) || typeof entry.secretKey !== 'string' || !isRecord(remote))
      throw refuse('spec.data', 'items with secretKey and remoteRef')
    const { key, property: name, version } = remote
    if (typeof key !== 'string' || typeof name !== 'string' || typeof version !== 'string')
      throw refuse('spec.data[].remoteRef', 'a key, a property and a version')
    sealed[entry.secretKey] = remoteReference({
      key,
      property: name,
      version,
      sha256: digests.get(entry.secretKey) ?? null,
    })
  }
  const target = isRecord(spec.target) && isRecord(spec.target.template) ? spec.target.template.data : {}
  const data: Record<string, string> = {}
  for (const [key, value] of Object.entries(isRecord(target) ? target : {})) {
    if (key in sealed || typeof value !== 'string') continue
    const text = renderedTemplate(value)
    if (text === null) throw refuse(`spec.target.template.data["${key}"]`, 'a text without template actions')
    data[key] = text
  }
  return { name: metadata.name, namespace: metadata.namespace, data, sealed, recipients: [] }
}

// ----------------------------------------------------------------------------------------------- manifest

function manifestTree(
  secret: PlainSecret,
  remotes: ReadonlyMap<string, RemoteValue>,
  { store, storeKind }: ExternalSecretsOptions,
): ReadonlyMap<string, Tree> {
  const inSecret = Object.fromEntries(Object.entries(secret.annotations).filter(([name]) => !addressesDelivery(name)))
  const expected = valuesText(secret, remotes, digest => digest)
  const arrived = valuesText(secret, remotes, (_, key) => `{{ index . ${JSON.stringify(key)} | sha256sum }}`)
  const marks = (text: string) => (text === '' ? {} : { [valuesAnnotation]: text })
  const data = Object.fromEntries(
    Object.entries(secret.data).map(([key, value]) => {
      const remote = remotes.get(key)
      return [key, remote === undefined ? literalTemplate(value) : checkedTemplate(key, remote)]
    }),
  )
  const template = new Map<string, Tree>([
    ['engineVersion', 'v2'],
    ['mergePolicy', 'Replace'],
    ['type', secret.type],
    ['metadata', metadataTree(templates(secret.labels), { ...templates(inSecret), ...marks(arrived) })],
    ['data', sortedMap(data)],
  ])
  return new Map<string, Tree>([
    ['apiVersion', 'external-secrets.io/v1'],
    ['kind', 'ExternalSecret'],
    [
      'metadata',
      new Map<string, Tree>([
        ['name', secret.name],
        ['namespace', secret.namespace],
        ...metadataTree(secret.labels, { ...secret.annotations, ...marks(expected) }),
      ]),
    ],
    [
      'spec',
      new Map<string, Tree>([
        ['refreshPolicy', 'Periodic'],
        ['refreshInterval', refreshInterval],
        ['secretStoreRef', sortedMap({ name: store, kind: storeKind })],
        [
          'target',
          new Map<string, Tree>([
            ['name', secret.name],
            ['creationPolicy', 'Orphan'],
            ['deletionPolicy', 'Retain'],
            ['template', template],
          ]),
        ],
        ['data', [...remotes].map(([key, remote]) => dataTree(key, remote))],
      ]),
    ],
  ])
}

/** Defaults of the definition are written out: Argo CD would call an object that lacks them out of sync. */
function dataTree(secretKey: string, { key, property: name, version }: RemoteValue): ReadonlyMap<string, Tree> {
  const remoteRef = { conversionStrategy: 'Default', decodingStrategy: 'None', metadataPolicy: 'None' }
  return new Map<string, Tree>([
    ['secretKey', secretKey],
    ['remoteRef', sortedMap({ ...remoteRef, key, property: name, version })],
  ])
}

/** A value that is not the planned one is never written: the function `fail` ends the rendering. */
function checkedTemplate(key: string, { sha256: digest }: RemoteValue): string {
  const value = `index . ${JSON.stringify(key)}`
  if (digest === null) return `{{ ${value} }}`
  const otherwise = '{{ fail "the store holds another value than the one that was planned" }}'
  return `{{ if eq (${value} | sha256sum) "${digest}" }}{{ ${value} }}{{ else }}${otherwise}{{ end }}`
}

/** `ca-key.pem=<SHA-256> certificate=<SHA-256>` for each private value whose digest may be known. */
function valuesText(
  secret: PlainSecret,
  remotes: ReadonlyMap<string, RemoteValue>,
  digestOf: (digest: string, key: string) => string,
): string {
  const texts = [...remotes].flatMap(([key, { sha256: digest }]) =>
    digest === null ? [] : [`${key}=${digestOf(digest, key)}`],
  )
  const certificate = issuingCertificate(secret)
  return texts.length === 0 || certificate === null
    ? texts.join(' ')
    : [...texts, `certificate=${certificate}`].join(' ')
}

/** Fingerprint of the first certificate of what signs: the values that are called for it, then any. */
function issuingCertificate({ data, privateKeys }: PlainSecret): string | null {
  const shown = Object.entries(data).filter(([key]) => !privateKeys.includes(key))
  const named = shown.filter(([key]) => /^(ca-cert|crt|tls|ca)\.(pem|crt)$/.test(key) && key !== 'ca.crt')
  for (const [, value] of [...named, ...shown]) {
    const pem = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(value)?.[0]
    if (pem !== undefined) return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')
  }
  return null
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

function templates(values: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, literalTemplate(value)]))
}

/** Annotations for whoever applies the manifest mean nothing on the Secret that the controller makes. */
function addressesDelivery(name: string): boolean {
  return name.startsWith('kustomize.toolkit.fluxcd.io/') || name.startsWith('argocd.argoproj.io/')
}

function refuseOwnMarks(secret: PlainSecret, destination: string): void {
  const own = [...Object.keys(secret.annotations), ...Object.keys(secret.labels)].find(
    name => name.startsWith('reconcile.external-secrets.io/') || name === valuesAnnotation,
  )
  if (own === undefined) return
  throw new ReanchorError({
    what: 'marks of External Secrets are set by custody and by its controller alone',
    where: { file: destination, object: secretId(secret), field: 'metadata' },
    expected: 'none of them',
    found: own,
    todo: 'remove it',
  })
}

// --------------------------------------------------------------------------------------------------- reading

function keepValues(kept: SealedFile, known: Map<string, RemoteValue>): void {
  const file = kept.file ?? kept.destination
  if (readManifest(kept.yaml, file).object().kind !== 'ExternalSecret') return
  const { namespace, name, sealed } = readExternalSecret(kept.yaml, file)
  for (const [key, reference] of Object.entries(sealed)) {
    const remote = readRemoteReference(reference)
    if (remote.sha256 !== null) known.set([namespace, name, key, remote.sha256].join('\0'), remote)
  }
}

function readDigests(text: unknown): ReadonlyMap<string, string> {
  if (typeof text !== 'string') return new Map()
  return new Map(
    text.split(' ').flatMap(part => {
      const [, key, digest] = /^(.+)=([0-9a-f]{64})$/.exec(part) ?? []
      return key === undefined || digest === undefined ? [] : [[key, digest] as const]
    }),
  )
}

/** SHA-256 of the public key of a private one in PEM; null where the value is something else. */
function publicKeyDigest(value: string): string | null {
  if (!value.includes('PRIVATE KEY-----')) return null
  try {
    const spki = createPublicKey(createPrivateKey(value)).export({ type: 'spki', format: 'der' })
    return createHash('sha256').update(spki).digest('hex')
  } catch {
    // The cause may hold key material, so it is not kept.
    return null
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
