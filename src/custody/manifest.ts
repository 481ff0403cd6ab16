import { isDeepStrictEqual } from 'node:util'
import { isAlias, isMap, isScalar, isSeq, LineCounter, parse, parseDocument } from 'yaml'
import { ReanchorError, typeText, type Where } from '../errors.ts'
import type { PlainSecret } from './custody.ts'

/** What a manifest is made of, written in its own order: Maps, unlike objects, keep the place of keys such as `10`. */
export type Tree = string | boolean | ReadonlyMap<string, Tree> | readonly ReadonlyMap<string, Tree>[]

/** A map whose keys are sorted by code unit, so that equal objects are equal bytes. */
export function sortedMap(record: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

/**
 * YAML that every reader in the chain reads alike: `yaml` here, go-yaml in sops and kustomize, sigs.k8s.io/yaml in kubectl and Argo CD.
 * Only what needs no knowledge of YAML's versions stands plain or as a block; all else is quoted. Text beyond printable
 * ASCII is read back under YAML 1.1 and 1.2 and compared before it is given out.
 */
export function writeManifest(tree: ReadonlyMap<string, Tree>): string {
  const lines: string[] = []
  writeMap(tree, '', '', lines)
  const text = `${lines.join('\n')}\n`
  if (!/^[ -~\n]*$/.test(text) || text.includes('\\u') || text.includes('\\x')) compareReadBack(text, tree)
  return text
}

function writeMap(map: ReadonlyMap<string, Tree>, indent: string, first: string, lines: string[]): void {
  let lead = first === '' ? indent : first
  for (const [key, value] of map) {
    writeValue(value, `${lead}${scalar(key)}:`, indent, lines)
    lead = indent
  }
}

function writeValue(value: Tree, lead: string, indent: string, lines: string[]): void {
  if (typeof value === 'boolean') {
    lines.push(`${lead} ${value}`)
  } else if (typeof value === 'string') {
    if (!isBlock(value)) lines.push(`${lead} ${scalar(value)}`)
    else
      lines.push(
        `${lead} |`,
        ...value
          .slice(0, -1)
          .split('\n')
          .map(line => (line === '' ? '' : `${indent}  ${line}`)),
      )
  } else if (value instanceof Map) {
    if (value.size === 0) lines.push(`${lead} {}`)
    else {
      lines.push(lead)
      writeMap(value, `${indent}  `, '', lines)
    }
  } else {
    lines.push(lead)
    for (const item of value as readonly ReadonlyMap<string, Tree>[])
      writeMap(item, `${indent}    `, `${indent}  - `, lines)
  }
}

// A block scalar keeps its bytes if it ends with exactly one newline and does not begin with a blank: go-yaml refuses a tab there.
function isBlock(text: string): boolean {
  return /^[!-~][ -~]*\n(?:[ -~]*\n)*$/.test(text) && !text.endsWith('\n\n')
}

// Words that some version of YAML reads as a boolean or null. What begins with a digit, a sign or a dot is quoted at once, since
// base64 may well be `1234` or `1e34`, and sigs.k8s.io/yaml reads 0o17 as a number where others do not. `E123` is no number for Go, but
// is for the reader here under YAML 1.1.
const words = /^(?:y|n|yes|no|on|off|true|false|null|e[-+]?[0-9]+)$/i
const plainText = /^(?:[A-Za-z/^][A-Za-z0-9_./@:+=()\\|$^-]*|ENC\[[A-Za-z0-9_,:/+=-]*\])$/

function scalar(text: string): string {
  if (plainText.test(text) && !text.endsWith(':') && !words.test(text)) return text
  return JSON.stringify(text).replaceAll(unprintable, escapedLetter)
}

// go-yaml refuses most of these where they stand as they are, and takes U+0085, U+2028 and U+2029 for line breaks even
// between quotes.
const unprintable = /[^\P{Cc}\n\t]|[\u2028\u2029\ufeff\ufffe\uffff]/gu

function escapedLetter(letter: string): string {
  return `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function compareReadBack(text: string, tree: ReadonlyMap<string, Tree>): void {
  const wanted = plain(tree)
  for (const version of ['1.1', '1.2'] as const) {
    if (isDeepStrictEqual(plain(parse(text, { version, mapAsMap: true })), wanted)) continue
    throw new Error(`a manifest does not read back under YAML ${version} as it was written`)
  }
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

/** An object of ours that a controller makes a Secret of, and how what is wrong in it is refused. */
export interface ControllerManifest {
  readonly metadata: Readonly<Record<string, unknown>> & { readonly name: string; readonly namespace: string }
  readonly spec: Readonly<Record<string, unknown>>
  refuse(field: string, expected: string): ReanchorError
}

/** Reads a manifest of this kind that reanchor wrote. Throws ReanchorError (2) for any other. */
export function readControllerManifest(yaml: string, kind: string, file?: string): ControllerManifest {
  const object = readManifest(yaml, file).object()
  const refuse = (field: string, expected: string): ReanchorError =>
    new ReanchorError({
      what: `the manifest is no ${kind} that reanchor wrote`,
      where: { ...(file === undefined ? {} : { file }), field },
      expected,
      found: typeText(object),
      todo: 'restore the file from Git',
    })
  const { metadata, spec } = object
  if (object.kind !== kind || !isRecord(metadata) || !isRecord(spec))
    throw refuse('kind', `${kind} with metadata and spec`)
  const { name, namespace } = metadata
  if (typeof name !== 'string' || typeof namespace !== 'string') throw refuse('metadata', 'a name and a namespace')
  return { metadata: { ...metadata, name, namespace }, spec, refuse }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
