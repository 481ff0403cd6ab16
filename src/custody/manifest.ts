import { isDeepStrictEqual } from 'node:util'
import {
  Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  Pair,
  parse,
  parseDocument,
  Scalar,
  YAMLMap,
  YAMLSeq,
} from 'yaml'
import { ReanchorError, type Where } from '../errors.ts'
import type { PlainSecret } from './custody.ts'

/** A tree of maps, lists and strings that is written in its own order. Maps keep the order even of keys such as `10`. */
export type Tree = string | boolean | readonly Tree[] | ReadonlyMap<string, Tree>

/** A map whose keys are sorted by code unit, so that equal objects are equal bytes. */
export function sortedMap(record: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

/**
 * YAML that every reader in the chain reads alike: `yaml` here, go-yaml in sops and kustomize, sigs.k8s.io/yaml in kubectl and Argo CD.
 * The text is read back under YAML 1.1 and 1.2 and compared before it is given out.
 */
export function writeManifest(tree: ReadonlyMap<string, Tree>): string {
  const document = new Document(null, { version: '1.1' })
  document.contents = node(tree) as unknown as typeof document.contents
  const text = document.toString({ lineWidth: 0 }).replaceAll(unprintable, escapedLetter)
  const wanted = plain(tree)
  for (const version of ['1.1', '1.2'] as const) {
    // Two literals that only differ in the reader's version of YAML must not exist in what we write.
    if (!isDeepStrictEqual(plain(parse(text, { version, mapAsMap: true })), wanted)) {
      throw new Error(`a manifest does not read back under YAML ${version} as it was written`)
    }
  }
  return text
}

// Nodes are made here because YAML 1.1 would write a JavaScript Map as !!omap, which Go readers refuse.
function node(tree: Tree): YAMLMap | YAMLSeq | Scalar {
  if (typeof tree === 'string' || typeof tree === 'boolean') {
    const scalar = new Scalar(tree)
    if (typeof tree === 'string' && ambiguous(tree)) scalar.type = 'QUOTE_DOUBLE'
    return scalar
  }
  if (Array.isArray(tree)) {
    const list = new YAMLSeq()
    for (const item of tree as readonly Tree[]) list.add(node(item))
    return list
  }
  const map = new YAMLMap()
  for (const [key, value] of tree as ReadonlyMap<string, Tree>) map.items.push(new Pair(node(key), node(value)))
  return map
}

// Texts that `yaml` leaves plain or in a block although a Go reader takes them for something else: sigs.k8s.io/yaml reads
// 0o17 as a number, go-yaml refuses a block scalar that begins with a tab. All that begins like a number is quoted at once,
// since base64 may well be `1234` or `1e34`.
function ambiguous(text: string): boolean {
  return /^[\d.+\-~\t=]/.test(text) || text.search(unprintable) >= 0
}

// go-yaml refuses most of these where they stand as they are, and takes U+0085, U+2028 and U+2029 for line breaks even
// between quotes. They only ever stand between double quotes here.
const unprintable = /[^\P{Cc}\n\t]|[\u2028\u2029\ufeff\ufffe\uffff]/gu

function escapedLetter(letter: string): string {
  return `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function plain(tree: unknown): unknown {
  if (tree instanceof Map) return new Map([...tree].map(([key, value]) => [key, plain(value)]))
  if (Array.isArray(tree)) return tree.map(plain)
  return tree
}

/** One leaf of a manifest, with the keys that lead to it (list indexes left out, as SOPS does) and a way to replace it. */
export interface Leaf {
  readonly path: readonly string[]
  readonly value: unknown
  replace(value: unknown): void
}

export interface ReadManifest {
  /** In document order; null values are left out. */
  readonly leaves: readonly Leaf[]
  /** The document as it is now, replaced leaves included. */
  object(): Record<string, unknown>
}

/** Exactly one YAML document with a map at its root and without anchors; throws a located error otherwise. */
export function readManifest(text: string, file?: string): ReadManifest {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number | undefined): Where => {
    const place = offset === undefined ? null : lines.linePos(offset)
    return {
      ...(file === undefined ? {} : { file }),
      ...(place === null ? {} : { line: place.line, column: place.col }),
    }
  }
  const [error] = document.errors
  if (error !== undefined) {
    throw new ReanchorError({
      what: 'the manifest is not one well-formed YAML document',
      where: at(error.pos[0]),
      expected: 'one YAML document',
      found: error.code,
      todo: 'restore the file from Git',
    })
  }
  if (!isMap(document.contents)) {
    throw new ReanchorError({
      what: 'the manifest is not a map',
      where: at(0),
      expected: 'apiVersion, kind, metadata, …',
      found: document.contents === null ? 'an empty document' : 'something else',
      todo: 'restore the file from Git',
    })
  }
  const leaves: Leaf[] = []
  const walk = (node: unknown, path: readonly string[]): void => {
    if (isAlias(node)) {
      throw new ReanchorError({
        what: 'YAML aliases are not allowed in a sealed manifest',
        where: at(node.range?.[0]),
        expected: 'every value written out',
        found: `*${node.source}`,
        todo: 'write the value in place of the alias',
      })
    }
    if (isMap(node)) {
      for (const pair of node.items) walk(pair.value, [...path, keyText(pair.key)])
      return
    }
    if (isSeq(node)) {
      for (const item of node.items) walk(item, path)
      return
    }
    if (!isScalar(node) || node.value === null) return
    leaves.push({
      path,
      value: node.value,
      replace: value => {
        node.value = value
      },
    })
  }
  walk(document.contents, [])
  return { leaves, object: () => document.toJS({ maxAliasCount: 0 }) as Record<string, unknown> }
}

function keyText(key: unknown): string {
  return isScalar(key) ? (typeof key.value === 'string' ? key.value : (key.source ?? String(key.value))) : ''
}

/** `Secret namespace/name` */
export function secretId(secret: { readonly namespace: string; readonly name: string }): string {
  return `Secret ${secret.namespace}/${secret.name}`
}

/** Throws where a Secret cannot be sealed so that only its private values are sealed. */
export function checkPlainSecret(secret: PlainSecret, destination: string): void {
  const where: Where = { file: destination, object: secretId(secret) }
  for (const key of Object.keys(secret.data)) {
    if (/^[-._a-zA-Z0-9]{1,253}$/.test(key)) continue
    throw new ReanchorError({
      what: 'this is no key of a Secret',
      where: { ...where, field: `data["${key}"]` },
      expected: '1 to 253 letters, digits, `-`, `_` and `.`',
      found: key,
      todo: 'rename the key',
    })
  }
  for (const key of secret.privateKeys) {
    const value = Object.hasOwn(secret.data, key) ? secret.data[key] : undefined
    if (value !== undefined && value !== '') continue
    throw new ReanchorError({
      what: 'a private value is missing or empty',
      where: { ...where, field: `data["${key}"]` },
      expected: 'the private key, to be sealed',
      found: value === undefined ? 'no such key' : 'an empty value, which SOPS would leave in the clear',
      todo: 'give the key, or leave it out of the private keys',
    })
  }
}
