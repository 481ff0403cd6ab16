import { createCipheriv, createDecipheriv, createHash, timingSafeEqual } from 'node:crypto'
import { ReanchorError, type Where } from '../errors.ts'
import { ageDecrypt, checkRecipients, readIdentities, type WrapDataKey, wrapDataKey as wrapWithAge } from './age.ts'
import type { Custody, PlainSecret } from './custody.ts'
import { createGuard } from './guard.ts'
import {
  checkPlainSecret,
  type Leaf,
  type ReadManifest,
  readManifest,
  secretId,
  type Tree,
  writeManifest,
} from './manifest.ts'
import { oneAtATime } from './one-at-a-time.ts'
import {
  type AgeEntry,
  checkRegexReach,
  encryptedRegex,
  isSealedValue,
  objectId,
  readBlock,
  type SealedFile,
  type SecretManifest,
  type SopsBlock,
  sealedLeaves,
  sealedText,
  secretManifest,
  secretTree,
} from './sops-document.ts'

/** The version of sops whose format this is; sops reads it to know how the MAC was made. */
const sopsVersion = '3.13.3'

// So that a MAC over encrypted values only can never pass for one over all (sops v3.13.3, sops.go, MACOnlyEncryptedInitialization).
const macOnlyEncryptedStart = Buffer.from('8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69', 'hex')

export interface SopsCustodyOptions {
  /** Age recipients for all destinations, or for each. */
  readonly recipients: readonly string[] | ((destination: string) => readonly string[])
  /** Stands as `lastmodified`, whole seconds. */
  readonly now: Date
  /** Data keys and initialisation vectors. */
  readonly random: (size: number) => Buffer
  /** Seals a data key to one recipient; age by default. */
  readonly wrapDataKey?: WrapDataKey
  /** Manifests of an earlier plan whose sealed values are to be kept; those that SOPS did not seal are passed over. */
  readonly keep?: readonly SealedFile[]
  /** Text of an age key file, as SOPS_AGE_KEY holds it. With it, kept manifests are opened and new values may join them. */
  readonly identity?: string
}

interface Mac {
  readonly mac: string
  readonly lastmodified: string
}

/** One data key of one Secret. Null: the key cannot be had, so that only what it sealed already can be written. */
interface Generation {
  readonly recipients: readonly string[]
  readonly age: readonly AgeEntry[]
  readonly dataKey: Buffer | null
  /** From key and digest of the plain text. */
  readonly byPlain: Map<string, string>
  /** From sealed text to the key of `data` it belongs to. */
  readonly keyOf: Map<string, string>
  /** From the sealed texts of a document, in order. */
  readonly macs: Map<string, Mac>
}

/**
 * Seals to age recipients in the format of SOPS, with no private identity at hand.
 *
 * Only the private keys of `data` are sealed and the MAC covers only them, so that a change of a public value leaves the
 * rest of the file alone. Every Secret, told apart by destination, namespace and name, has one data key: an equal value under an
 * equal key keeps its ciphertext, and a document with equal private values keeps its whole `sops` block.
 *
 * A private value may be the sealed text of a manifest in `keep` (see `readSealedSecret`): it is written as it is. Without
 * `identity` all private values of that document must then come from one manifest in `keep`.
 */
export function createSopsCustody(options: SopsCustodyOptions): Custody {
  const wrap = options.wrapDataKey ?? wrapWithAge
  const lastmodified = options.now.toISOString().replace(/\.\d+Z$/, 'Z')
  const objects = new Map<string, Generation[]>()
  const guard = createGuard(isSealedValue)
  let loaded: Promise<void> | null = null

  async function load(): Promise<void> {
    const identities = options.identity === undefined ? null : readIdentities(options.identity)
    for (const kept of options.keep ?? []) await keepSealed(kept, identities, objects)
  }

  async function newGeneration(recipients: readonly string[]): Promise<Generation> {
    const dataKey = options.random(32)
    const age: AgeEntry[] = []
    for (const recipient of recipients) age.push({ recipient, enc: await wrap(dataKey, recipient) })
    return { recipients, age, dataKey, byPlain: new Map(), keyOf: new Map(), macs: new Map() }
  }

  async function seal(secret: PlainSecret, destination: string): Promise<string> {
    const where: Where = { file: destination, object: secretId(secret) }
    checkPlainSecret(secret, destination)
    const keys = [...new Set(secret.privateKeys)].sort()
    checkRegexReach(secret, keys, where)
    const given = typeof options.recipients === 'function' ? options.recipients(destination) : options.recipients
    const recipients = checkRecipients(given, where)
    loaded ??= load()
    await loaded

    const id = objectId(destination, secret)
    const generations = objects.get(id) ?? []
    objects.set(id, generations)
    const wanted = keys.map(key => privateValue(key, secret.data[key] ?? '', generations, where))
    let generation = chooseGeneration(wanted, generations, recipients, where)
    if (generation === null) {
      generation = await newGeneration(recipients)
      generations.push(generation)
    }
    const chosen = generation
    const sealed = wanted.map(value => sealValue(value, chosen, options.random))
    const mac = macOf(sealed, wanted, chosen, lastmodified, options.random, where)
    const tree = secretTree(secret, new Map(keys.map((key, index) => [key, sealed[index] ?? ''])))
    const text = writeManifest(new Map([...tree, ['sops', sopsTree(keys, chosen, mac)]]))
    guard(text, secret, destination)
    return text
  }

  return {
    kind: 'sops',
    // Two calls for one Secret must not both make it a data key.
    seal: oneAtATime(seal),
  }
}

/**
 * Opens a manifest and verifies its MAC, which Flux does not do.
 * `identity` is the text of an age key file. `file` is for errors.
 */
export async function decryptSopsSecret(yaml: string, identity: string, file?: string): Promise<SecretManifest> {
  const where: Where = file === undefined ? {} : { file }
  const identities = readIdentities(identity)
  const manifest = readManifest(yaml, file)
  const block = readBlock(manifest.object().sops, where, { ageAlone: true })
  const dataKey = await findDataKey(block, identities)
  if (dataKey === null) {
    throw new ReanchorError({
      what: 'the age identity does not open this file',
      where: { ...where, field: 'sops.age' },
      expected: `an identity of ${block.age.map(entry => entry.recipient).join(' or ')}`,
      found: `${identities.length} ${identities.length === 1 ? 'identity' : 'identities'}, none of which opens it`,
      todo: 'point SOPS_AGE_KEY_FILE to the identity of one of these recipients',
    })
  }
  verify(manifest, block, dataKey, where)
  const object = manifest.object()
  delete object.sops
  return secretManifest(object, where)
}

// --------------------------------------------------------------------------------------------------- sealing

interface PrivateValue {
  readonly key: string
  /** Base64, as it stands in `data`; null: only its sealed text is known. */
  readonly plain: string | null
  /** Its sealed text, and the data key that it was sealed with, where it was given as such. */
  readonly reference: { readonly text: string; readonly generation: Generation } | null
}

function privateValue(key: string, value: string, generations: readonly Generation[], where: Where): PrivateValue {
  if (!isSealedValue(value)) return { key, plain: Buffer.from(value).toString('base64'), reference: null }
  const generation = generations.find(known => known.keyOf.get(value) === key)
  if (generation === undefined) {
    throw new ReanchorError({
      what: 'a sealed value is not one of this Secret',
      where: { ...where, field: `data["${key}"]` },
      expected: 'a sealed value of the same destination, namespace, name and key',
      found: `a sealed value that no manifest given to keep holds there (${generations.length} data keys known)`,
      todo: 'a sealed value cannot be moved: give the private value itself, or the manifest that it stands in',
    })
  }
  const plain = generation.dataKey === null ? null : openValue(value, ['data', key], generation.dataKey, where).text
  return { key, plain, reference: { text: value, generation } }
}

function chooseGeneration(
  wanted: readonly PrivateValue[],
  generations: readonly Generation[],
  recipients: readonly string[],
  where: Where,
): Generation | null {
  const closed = wanted.find(value => value.plain === null)
  if (closed === undefined) {
    const usable = generations.filter(known => known.dataKey !== null && sameSet(known.recipients, recipients))
    const holdsAll = (known: Generation) =>
      wanted.every(value => known.byPlain.has(plainId(value.key, value.plain ?? '')))
    return usable.find(holdsAll) ?? usable.at(-1) ?? null
  }
  const generation = closed.reference?.generation
  const stranger = wanted.find(value => value.reference?.generation !== generation)
  if (generation === undefined || stranger !== undefined) {
    throw new ReanchorError({
      what: 'kept and new private values cannot be sealed in one manifest without the age identity',
      where: { ...where, field: `data["${stranger?.key ?? closed.key}"]` },
      expected: `all private values kept from one manifest, as that of "${closed.key}" is`,
      found: 'a value that its data key has not sealed',
      todo: 'set SOPS_AGE_KEY_FILE so that the data key can be read, or give all private values anew',
    })
  }
  if (!sameSet(generation.recipients, recipients)) {
    throw new ReanchorError({
      what: 'the recipients have changed, and a kept value cannot be sealed to others without the age identity',
      where,
      expected: recipients.join(', '),
      found: `sealed to ${generation.recipients.join(', ')}`,
      todo: 'set SOPS_AGE_KEY_FILE to an identity of a recipient it is sealed to now, or give the private value itself',
    })
  }
  return generation
}

function sealValue(value: PrivateValue, generation: Generation, random: (size: number) => Buffer): string {
  if (value.plain === null) return value.reference?.text ?? ''
  const id = plainId(value.key, value.plain)
  const before = generation.byPlain.get(id)
  if (before !== undefined) return before
  const text = sealText(value.plain, ['data', value.key].join(':').concat(':'), dataKeyOf(generation), random)
  generation.byPlain.set(id, text)
  generation.keyOf.set(text, value.key)
  return text
}

function macOf(
  sealed: readonly string[],
  wanted: readonly PrivateValue[],
  generation: Generation,
  lastmodified: string,
  random: (size: number) => Buffer,
  where: Where,
): Mac {
  const id = sealed.join('\n')
  const before = generation.macs.get(id)
  if (before !== undefined) return before
  if (generation.dataKey === null) {
    throw new ReanchorError({
      what: 'the kept private values stood in no one manifest together, and a new MAC needs the age identity',
      where,
      expected: 'the private values of exactly one kept manifest',
      found: wanted.map(value => value.key).join(', '),
      todo: 'set SOPS_AGE_KEY_FILE so that the data key can be read, or give all private values anew',
    })
  }
  const digest = createHash('sha512').update(macOnlyEncryptedStart)
  for (const value of wanted) digest.update(value.plain ?? '')
  const mac = {
    mac: sealText(digest.digest('hex').toUpperCase(), lastmodified, generation.dataKey, random),
    lastmodified,
  }
  generation.macs.set(id, mac)
  return mac
}

function sopsTree(keys: readonly string[], generation: Generation, mac: Mac): Tree {
  return new Map<string, Tree>([
    ['age', generation.age.map(entry => new Map(Object.entries({ recipient: entry.recipient, enc: entry.enc })))],
    ['encrypted_regex', encryptedRegex(keys)],
    ['lastmodified', mac.lastmodified],
    ['mac', mac.mac],
    ['mac_only_encrypted', true],
    ['version', sopsVersion],
  ])
}

function plainId(key: string, plain: string): string {
  return `${key}\0${createHash('sha256').update(plain).digest('hex')}`
}

function dataKeyOf(generation: Generation): Buffer {
  if (generation.dataKey === null) throw new Error('a value is to be sealed with a data key that is not known')
  return generation.dataKey
}

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every(item => b.includes(item))
}

async function keepSealed(
  kept: SealedFile,
  identities: readonly string[] | null,
  objects: Map<string, Generation[]>,
): Promise<void> {
  const where: Where = { file: kept.file ?? kept.destination }
  const manifest = readManifest(kept.yaml, where.file)
  const object = manifest.object()
  // A site whose custody changed has manifests of another kind: their values cannot be kept, and `seal` says so if asked.
  if (object.sops === undefined) return
  const block = readBlock(object.sops, where, { ageAlone: false })
  // What other keys open is for the program to keep.
  if (!block.ageAlone) return
  const secret = secretManifest(object, where)
  if (!block.macOnlyEncrypted) {
    throw new ReanchorError({
      what: 'the manifest was not sealed by reanchor, so its values cannot be kept',
      where,
      expected: 'sops.mac_only_encrypted: true',
      found: 'a MAC over all values',
      todo: 'give the private value itself',
    })
  }
  const id = objectId(kept.destination, { namespace: secret.metadata.namespace ?? '', name: secret.metadata.name })
  const generations = objects.get(id) ?? []
  objects.set(id, generations)
  const same = generations.find(
    known => known.age.map(entry => entry.enc).join() === block.age.map(entry => entry.enc).join(),
  )
  const generation = same ?? {
    recipients: block.age.map(entry => entry.recipient),
    age: block.age,
    dataKey: null,
    byPlain: new Map(),
    keyOf: new Map(),
    macs: new Map(),
  }
  const sealed = sealedLeaves(manifest.leaves, block)
  const texts = sealed.map(leaf => String(leaf.value))
  // An identity that opens one site's files need not open another's: what stays closed can still be kept as it is.
  const dataKey = generation.dataKey ?? (identities === null ? null : await findDataKey(block, identities))
  if (dataKey !== null) verify(readManifest(kept.yaml, where.file), block, dataKey, where)
  const known = { ...generation, dataKey }
  for (const [index, leaf] of sealed.entries()) {
    const key = leaf.path[1] ?? ''
    const text = texts[index] ?? ''
    known.keyOf.set(text, key)
    if (known.dataKey !== null) {
      known.byPlain.set(plainId(key, openValue(text, leaf.path, known.dataKey, where).text), text)
    }
  }
  known.macs.set(texts.join('\n'), { mac: block.mac, lastmodified: block.lastmodified })
  if (same === undefined) generations.push(known)
  else generations.splice(generations.indexOf(same), 1, known)
}

// --------------------------------------------------------------------------------------------------- opening

/** Replaces every sealed leaf by its plain value, and throws where one does not open or the MAC does not match. */
function verify(manifest: ReadManifest, block: SopsBlock, dataKey: Buffer, where: Where): void {
  const digest = createHash('sha512')
  if (block.macOnlyEncrypted) digest.update(macOnlyEncryptedStart)
  for (const leaf of manifest.leaves) {
    if (leaf.path[0] === 'sops') continue
    const sealed = block.encrypts(leaf.path)
    if (!sealed && typeof leaf.value === 'string' && isSealedValue(leaf.value)) {
      throw new ReanchorError({
        what: 'a sealed value stands where the sops block says that nothing is sealed; it would reach the cluster as it is',
        where: { ...where, field: leaf.path.join('.') },
        expected: 'a plain value, or a regex that covers the field',
        found: 'ENC[…]',
        todo: 'restore the file from Git',
      })
    }
    const value = sealed ? openLeaf(leaf, dataKey, where) : { text: macText(leaf.value), value: leaf.value }
    if (sealed) leaf.replace(value.value)
    if (sealed || !block.macOnlyEncrypted) digest.update(value.text)
  }
  const stored = openValue(block.mac, null, dataKey, where, block.lastmodified).text
  const computed = digest.digest('hex').toUpperCase()
  if (stored.length !== computed.length || !timingSafeEqual(Buffer.from(stored), Buffer.from(computed))) {
    throw new ReanchorError({
      what: 'the MAC does not match: the file was changed after it was sealed',
      where: { ...where, field: 'sops.mac' },
      expected: 'the values that were sealed together',
      found: 'a value was changed, moved, added or taken away',
      todo: 'restore the file from Git, or seal it again',
    })
  }
}

function openLeaf(leaf: Leaf, dataKey: Buffer, where: Where): { readonly text: string; readonly value: unknown } {
  // SOPS leaves an empty text as it is.
  if (leaf.value === '') return { text: '', value: '' }
  return openValue(leaf.value, leaf.path, dataKey, where)
}

async function findDataKey(block: SopsBlock, identities: readonly string[]): Promise<Buffer | null> {
  for (const entry of block.age) {
    const key = await ageDecrypt(entry.enc, identities)
    if (key?.length === 32) return key
  }
  return null
}

function sealText(plain: string, additional: string, key: Buffer, random: (size: number) => Buffer): string {
  // 32 bytes and not the 12 that are usual for GCM: sops v3.13.3, aes/cipher.go, nonceSize.
  const iv = random(32)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(additional))
  const data = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
  const parts = [data, iv, cipher.getAuthTag()].map(part => part.toString('base64'))
  return `ENC[AES256_GCM,data:${parts[0]},iv:${parts[1]},tag:${parts[2]},type:str]`
}

/** `path` null: the MAC, whose additional data is `additional` itself. */
function openValue(
  sealed: unknown,
  path: readonly string[] | null,
  key: Buffer,
  where: Where,
  additional = `${path?.join(':')}:`,
): { readonly text: string; readonly value: unknown } {
  const field = path === null ? 'sops.mac' : path.join('.')
  const refuse = (what: string, found: string): ReanchorError =>
    new ReanchorError({
      what,
      where: { ...where, field },
      expected: 'ENC[AES256_GCM,data:…,iv:…,tag:…,type:…] as sealed for this field with this data key',
      found,
      todo: 'restore the file from Git, or seal it again',
    })
  const match = typeof sealed === 'string' ? sealedText.exec(sealed) : null
  if (match === null) throw refuse('a value that must be sealed is not', 'a plain value (not shown)')
  const [data, iv, tag] = match.slice(1, 4).map(part => Buffer.from(part, 'base64'))
  if (data === undefined || iv === undefined || tag === undefined || iv.length === 0 || tag.length !== 16) {
    throw refuse(
      'a sealed value is damaged',
      `an initialisation vector of ${iv?.length} and a tag of ${tag?.length} bytes`,
    )
  }
  let text: string
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 })
      .setAAD(Buffer.from(additional))
      .setAuthTag(tag)
    text = Buffer.concat([decipher.update(data), decipher.final()]).toString('utf8')
  } catch {
    throw refuse(
      'a sealed value does not open',
      'a value that was damaged, moved here, or sealed with another data key',
    )
  }
  return { text, value: typed(text, match[4] ?? '', refuse) }
}

function typed(text: string, type: string, refuse: (what: string, found: string) => ReanchorError): unknown {
  if (type === 'str' || type === 'bytes' || type === 'time') return text
  if (type === 'int' || type === 'float') return Number(text)
  if (type === 'bool') return text.toLowerCase() === 'true'
  throw refuse('a sealed value has a type that is not known', type)
}

/** The bytes that SOPS hashes for a plain value (v3.13.3, sops.go, ToBytes). */
function macText(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  return String(value)
}
