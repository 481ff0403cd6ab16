import { ReanchorError, typeText, type Where } from '../errors.ts'
import type { PlainSecret } from './custody.ts'
import { goRegExp } from './go-regexp.ts'
import { isRecord, type Leaf, readManifest, sortedMap, type Tree } from './manifest.ts'

/** A Secret as SOPS seals it: what stands in the clear, what does not, and which keys open it. Nothing here holds a key. */

export const sealedText = /^ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]$/

/** A manifest that an earlier plan sealed, and the path that it has, or will have, in the repository. */
export interface SealedFile {
  readonly destination: string
  readonly yaml: string
  /** Where the text was read, for errors; the destination unless said otherwise. */
  readonly file?: string
}

/** A Secret as Kubernetes takes it: values of `data` are base64. */
export interface SecretManifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly type?: string
  readonly data: Readonly<Record<string, string>>
}

/** What can be told of a sealed manifest without any private identity. Nothing here is authenticated. */
export interface SealedSecret {
  readonly name: string
  readonly namespace: string
  /** Public values, decoded. */
  readonly data: Readonly<Record<string, string>>
  /** Private values as they stand; each may be given to `seal` in place of the private value itself. */
  readonly sealed: Readonly<Record<string, string>>
  readonly recipients: readonly string[]
}

export interface AgeEntry {
  readonly recipient: string
  readonly enc: string
}

export interface SopsBlock {
  /** Empty where no age recipient alone opens the file. */
  readonly age: readonly AgeEntry[]
  /** What opens the file, group by group, in words that are equal for equal keys: without the sealed data keys and their dates. */
  readonly masters: readonly string[]
  /** True where age recipients in one group are all: then no program is needed to open it. */
  readonly ageAlone: boolean
  readonly lastmodified: string
  readonly mac: string
  readonly macOnlyEncrypted: boolean
  readonly encrypts: (path: readonly string[]) => boolean
}

/** Reads what is public in a manifest that was sealed by SOPS. `file` is for errors. */
export function readSealedSecret(yaml: string, file?: string): SealedSecret {
  const where: Where = file === undefined ? {} : { file }
  const manifest = readManifest(yaml, file)
  const object = manifest.object()
  const block = readBlock(object.sops, where, { ageAlone: false })
  const secret = secretManifest(object, where)
  const data: Record<string, string> = {}
  const sealed: Record<string, string> = {}
  for (const [key, value] of Object.entries(secret.data)) {
    if (block.encrypts(['data', key])) sealed[key] = value
    else data[key] = Buffer.from(value, 'base64').toString()
  }
  return {
    name: secret.metadata.name,
    namespace: secret.metadata.namespace ?? '',
    data,
    sealed,
    recipients: block.age.map(entry => entry.recipient),
  }
}

/** Whether a private value is a sealed text that `seal` takes over as it stands. */
export function isSealedValue(value: string): boolean {
  return sealedText.test(value)
}

export function objectId(destination: string, object: { readonly namespace: string; readonly name: string }): string {
  return [destination, object.namespace, object.name].join('\0')
}

/** SOPS seals a leaf if any key on its path matches, so a private key must not be called like anything else in the document. */
export function checkRegexReach(secret: PlainSecret, keys: readonly string[], where: Where): void {
  if (keys.length === 0) {
    throw new ReanchorError({
      what: 'the Secret has no private value',
      where,
      expected: 'at least one private key of data',
      found: 'none',
      todo: 'write it as a plain manifest, or name its private keys',
    })
  }
  const others = [
    'apiVersion',
    'kind',
    'metadata',
    'name',
    'namespace',
    'labels',
    'annotations',
    'type',
    'data',
    'sops',
  ]
  const names = new Set([...others, ...Object.keys(secret.labels), ...Object.keys(secret.annotations)])
  const clash = keys.find(key => names.has(key))
  if (clash === undefined) return
  throw new ReanchorError({
    what: 'a private key of data is called like another field of the manifest, which SOPS would seal too',
    where: { ...where, field: `data["${clash}"]` },
    expected: 'a name that occurs once in the manifest',
    found: clash,
    todo: 'rename the key, the label or the annotation',
  })
}

/** The manifest without its `sops` block; `sealed` has the texts of its private keys. */
export function secretTree(secret: PlainSecret, sealed: ReadonlyMap<string, string>): ReadonlyMap<string, Tree> {
  const data = Object.fromEntries(
    Object.entries(secret.data).map(([key, value]) => [key, sealed.get(key) ?? Buffer.from(value).toString('base64')]),
  )
  const metadata = new Map<string, Tree>([
    ['name', secret.name],
    ['namespace', secret.namespace],
  ])
  if (Object.keys(secret.labels).length > 0) metadata.set('labels', sortedMap(secret.labels))
  if (Object.keys(secret.annotations).length > 0) metadata.set('annotations', sortedMap(secret.annotations))
  return new Map<string, Tree>([
    ['apiVersion', 'v1'],
    ['kind', 'Secret'],
    ['metadata', metadata],
    ['type', secret.type],
    ['data', sortedMap(data)],
  ])
}

/** Matches these keys of `data` and nothing else that `checkRegexReach` lets through. */
export function encryptedRegex(keys: readonly string[]): string {
  return `^(${keys.map(key => key.replaceAll('.', '\\.')).join('|')})$`
}

// --------------------------------------------------------------------------------------------------- reading

/** Throws where the block is none of SOPS, or age recipients alone do not open the file and `ageAlone` is asked for. */
export function readBlock(block: unknown, where: Where, asked: { readonly ageAlone: boolean }): SopsBlock {
  const refuse = (field: string, expected: string, found: string): ReanchorError =>
    new ReanchorError({
      what: asked.ageAlone
        ? 'the manifest is not sealed by SOPS to age recipients'
        : 'the manifest is not sealed by SOPS',
      where: { ...where, field },
      expected,
      found,
      todo: 'restore the file from Git, or seal it again',
    })
  if (!isRecord(block)) throw refuse('sops', 'a sops block', 'none')
  const { mac, lastmodified } = block
  if (typeof mac !== 'string' || typeof lastmodified !== 'string') {
    throw refuse('sops.mac', 'a MAC and the time of the last change', 'they are missing')
  }
  const groups = Array.isArray(block.key_groups) && block.key_groups.length > 0 ? block.key_groups : [block]
  const masters = groups.map(mastersOf)
  if (masters.every(group => group.length === 0)) throw refuse('sops', 'at least one key that opens it', 'none')
  const threshold = typeof block.shamir_threshold === 'number' ? block.shamir_threshold : 0
  const age = groups.length === 1 ? ageEntries(groups[0]) : []
  const ageAlone = groups.length === 1 && masters[0]?.length === age.length
  if (asked.ageAlone && groups.length > 1)
    throw refuse('sops.key_groups', 'one group of keys', 'several: their shares need the sops program')
  if (asked.ageAlone && age.length === 0)
    throw refuse('sops.age', 'at least one age recipient with its sealed data key', 'none')
  return {
    age,
    masters: [...masters.map(group => group.join(' or ')), ...(threshold > 0 ? [`threshold ${threshold}`] : [])],
    ageAlone,
    mac,
    lastmodified,
    macOnlyEncrypted: block.mac_only_encrypted === true,
    encrypts: rule(block, where),
  }
}

/** As sops v3.13.3 names them in a file (stores/stores.go, Metadata). */
const masterKinds = ['kms', 'gcp_kms', 'hckms', 'azure_kv', 'hc_vault', 'age', 'pgp'] as const

function mastersOf(group: unknown): readonly string[] {
  if (!isRecord(group)) return []
  return masterKinds.flatMap(kind => {
    const entries: unknown = group[kind]
    return (Array.isArray(entries) ? entries : []).filter(isRecord).map(entry => {
      const said = Object.entries(entry).filter(([field]) => field !== 'enc' && field !== 'created_at')
      return `${kind} ${JSON.stringify(said.sort(([one], [other]) => (one < other ? -1 : 1)))}`
    })
  })
}

function ageEntries(group: unknown): readonly AgeEntry[] {
  const entries: unknown = isRecord(group) ? group.age : null
  return (Array.isArray(entries) ? entries : []).flatMap((entry: unknown) =>
    isRecord(entry) && typeof entry.recipient === 'string' && typeof entry.enc === 'string'
      ? [{ recipient: entry.recipient, enc: entry.enc }]
      : [],
  )
}

/** Which leaves are sealed: one element of the path that matches is enough (sops v3.13.3, sops.go, shouldBeEncrypted). */
function rule(block: Readonly<Record<string, unknown>>, where: Where): (path: readonly string[]) => boolean {
  const text = (field: string) =>
    typeof block[field] === 'string' && block[field] !== '' ? String(block[field]) : null
  const regex = text('encrypted_regex')
  if (regex !== null) {
    const match = goRegExp(regex, { ...where, field: 'sops.encrypted_regex' })
    return path => path.some(key => match.test(key))
  }
  const not = text('unencrypted_regex')
  if (not !== null) {
    const match = goRegExp(not, { ...where, field: 'sops.unencrypted_regex' })
    return path => !path.some(key => match.test(key))
  }
  const suffix = text('encrypted_suffix')
  if (suffix !== null) return path => path.some(key => key.endsWith(suffix))
  const without = text('unencrypted_suffix')
  return path => without === null || !path.some(key => key.endsWith(without))
}

export function sealedLeaves(leaves: readonly Leaf[], block: SopsBlock): readonly Leaf[] {
  return leaves.filter(leaf => leaf.path[0] === 'data' && leaf.path.length === 2 && block.encrypts(leaf.path))
}

export function secretManifest(object: Readonly<Record<string, unknown>>, where: Where): SecretManifest {
  const { metadata, data } = object
  const texts = isRecord(data) ? Object.values(data).every(value => typeof value === 'string') : false
  if (
    object.apiVersion === 'v1' &&
    object.kind === 'Secret' &&
    isRecord(metadata) &&
    typeof metadata.name === 'string' &&
    texts
  ) {
    return object as unknown as SecretManifest
  }
  throw new ReanchorError({
    what: 'the manifest is no Secret with data',
    where,
    expected: 'apiVersion v1, kind Secret, metadata.name and data whose values are texts',
    found: typeText(object),
    todo: 'give the file of the Secret; stringData is not supported',
  })
}
