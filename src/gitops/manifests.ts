import { type Document, isScalar, LineCounter, parseAllDocuments } from 'yaml'
import { ReanchorError } from '../errors.ts'
import type { FileTree } from '../rotation.ts'

/** A mapping as read from YAML or JSON. */
export type Plain = { [key: string]: unknown }

/** A Kubernetes object as a file holds it: apiVersion, kind and metadata.name are there. */
export interface ManifestObject {
  apiVersion: string
  kind: string
  metadata: {
    name: string
    namespace?: string
    labels?: Record<string, string>
    annotations?: Record<string, string>
    [field: string]: unknown
  }
  [field: string]: unknown
}

/** One YAML document of a file. */
export interface ParsedDocument {
  /** 0-based index among the file's documents that are not empty. */
  readonly document: number
  /** 1-based line where its content starts. */
  readonly line: number
  readonly value: unknown
}

export interface ParsedFile {
  readonly documents: readonly ParsedDocument[]
  /** Null where the file was read without an error; then `documents` holds all of it. */
  readonly error: ReanchorError | null
}

interface CachedFile {
  readonly text: string
  readonly parsed: ParsedFile
}

const caches = new WeakMap<FileTree, Map<string, CachedFile>>()

/**
 * The documents of a YAML (or JSON) file of the tree, parsed once per tree. A missing file is null; a file that is
 * no YAML has `error` set. The values are shared: whoever changes one copies it first.
 */
export function parsedFile(files: FileTree, path: string): ParsedFile | null {
  const text = files.get(path)
  if (text === undefined) return null
  const cache = cacheOf(files)
  const known = cache.get(path)
  if (known !== undefined && known.text === text) return known.parsed
  const parsed = parseYamlFile(text, path)
  cache.set(path, { text, parsed })
  return parsed
}

/** Lets a tree that was made from another one use what was parsed there; files whose text differs are parsed anew. */
export function shareParsed(from: FileTree, to: FileTree): void {
  caches.set(to, new Map(cacheOf(from)))
}

function cacheOf(files: FileTree): Map<string, CachedFile> {
  const known = caches.get(files)
  if (known !== undefined) return known
  const made = new Map<string, CachedFile>()
  caches.set(files, made)
  return made
}

/** Parses YAML text as kustomize does: version 1.2 scalars, merge keys, aliases up to a bound; a repeated key is an error. */
export function parseYamlFile(text: string, file: string): ParsedFile {
  const documents: ParsedDocument[] = []
  try {
    const lines = new LineCounter()
    for (const document of parseAllDocuments(text, { merge: true, lineCounter: lines })) {
      const error = document.errors[0]
      if (error !== undefined) {
        const { line, col } = lines.linePos(error.pos[0])
        return { documents, error: notYaml(file, error.message.split('\n')[0] ?? '', line, col) }
      }
      if (isEmptyDocument(document)) continue
      const start = document.contents?.range?.[0] ?? 0
      // 100 aliases is the library's own bound against documents that unfold without end.
      documents.push({
        document: documents.length,
        line: lines.linePos(start).line,
        value: document.toJS({ maxAliasCount: 100 }),
      })
    }
    return { documents, error: null }
  } catch (error) {
    return { documents, error: notYaml(file, error instanceof Error ? error.message : String(error)) }
  }
}

function isEmptyDocument(document: Document): boolean {
  const contents = document.contents
  if (contents === null) return true
  return isScalar(contents) && contents.value === null
}

function notYaml(file: string, found: string, line?: number, column?: number): ReanchorError {
  return new ReanchorError({
    what: 'the file is not readable as YAML',
    where: { file, ...(line === undefined ? {} : { line }), ...(column === undefined ? {} : { column }) },
    expected: 'YAML without repeated keys, and without aliases that unfold without bound',
    found,
    todo: 'correct the file',
  })
}

export function isPlain(value: unknown): value is Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether a value has what every Kubernetes object has. A List has no name. */
export function isManifest(value: unknown): value is ManifestObject {
  if (!isPlain(value)) return false
  const { apiVersion, kind, metadata } = value
  return (
    typeof apiVersion === 'string' &&
    typeof kind === 'string' &&
    isPlain(metadata) &&
    typeof metadata.name === 'string' &&
    metadata.name !== ''
  )
}

/** The value at a path of keys, or undefined. */
export function at(value: unknown, ...keys: readonly (string | number)[]): unknown {
  let here = value
  for (const key of keys) {
    if (Array.isArray(here) && typeof key === 'number') here = here[key]
    else if (isPlain(here)) here = here[key]
    else return undefined
  }
  return here
}

export function textAt(value: unknown, ...keys: readonly (string | number)[]): string | null {
  const found = at(value, ...keys)
  return typeof found === 'string' && found !== '' ? found : null
}

export function listAt(value: unknown, ...keys: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...keys)
  return Array.isArray(found) ? found : []
}

export function stringsAt(value: unknown, ...keys: readonly (string | number)[]): readonly string[] {
  return listAt(value, ...keys).filter((item): item is string => typeof item === 'string')
}

/** The API group of an apiVersion; the core group is ''. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/')
  return slash === -1 ? '' : apiVersion.slice(0, slash)
}

/** `Kind namespace/name`, or `Kind name` where there is no namespace. */
export function objectText(object: ManifestObject): string {
  const namespace = object.metadata.namespace
  return `${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${object.metadata.name}`
}

export function isYamlPath(path: string): boolean {
  return path.endsWith('.yaml') || path.endsWith('.yml')
}
