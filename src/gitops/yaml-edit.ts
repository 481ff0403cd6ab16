import { isDeepStrictEqual } from 'node:util'
import {
  type Alias,
  type CST,
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  type Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml'
import { ReanchorError } from '../errors.ts'
import type { DocumentSelector, WiringEdit } from '../rotation.ts'
import { isPlain, type Plain, textAt } from './manifests.ts'
import { blockLines, flowText, type YamlStyle } from './yaml-text.ts'

export type Held = { readonly holds: true } | { readonly holds: false; readonly found: string }

/**
 * Makes an edit in a user's file by the smallest change of its text: lines that the edit does not touch stay as they are,
 * byte for byte. An edit that holds already changes nothing. `text` is null where the file does not exist.
 *
 * Throws a `ReanchorError` with the lines to add by hand where the text cannot be changed without touching more: aliases
 * and anchors in the part concerned, values whose end cannot be told, an object that is not there.
 */
export function applyWiring(
  text: string | null,
  edit: WiringEdit,
  file: string,
): { readonly text: string; readonly changed: boolean } {
  if (edit.kind === 'create') return created(text, edit.content, file)
  if (text === null) {
    throw new ReanchorError({
      what: 'the file to wire does not exist',
      where: { file },
      expected: selectorText(edit.document),
      found: 'no file',
      todo: 'restore the file, or run `reanchor plan` again',
    })
  }
  if (wiringHolds(text, edit, file).holds) return { text, changed: false }
  const place = placeOf(text, edit, file)
  const after = edited(place, edit)
  verify(place, edit, after)
  return { text: after, changed: true }
}

/** Whether an edit is in place. `text` is null where the file does not exist. */
export function wiringHolds(text: string | null, edit: WiringEdit, file: string): Held {
  if (text === null) return { holds: false, found: 'no such file' }
  if (edit.kind === 'create') return createHolds(text, edit.content, file)
  const documents = parsed(text, file)
  const document = select(documents, edit.document)
  if (typeof document === 'string') return { holds: false, found: document }
  const value = valueAt(plainOf(document), edit.at)
  switch (edit.kind) {
    case 'set':
      return isDeepStrictEqual(value, structuredClone(edit.value)) ? { holds: true } : missing(edit.at, value)
    case 'listItem':
      return Array.isArray(value) && value.some(item => sameItem(item, edit.value))
        ? { holds: true }
        : missing(edit.at, value)
    case 'remove':
      return value === undefined ? { holds: true } : missing(edit.at, value)
    case 'dropItem':
      return Array.isArray(value) && value.some(item => isItem(item, edit))
        ? { holds: false, found: `${pathText(edit.at)}: an item with ${edit.key} ${edit.value}` }
        : { holds: true }
    case 'intoList': {
      const beside = besideOf(edit)
      const list = valueAt(plainOf(document), beside)
      if (value !== undefined) return missing(edit.at, value)
      return Array.isArray(list) && list.length > 0 ? { holds: true } : missing(beside, list)
    }
  }
}

function isItem(item: unknown, { key, value }: Extract<WiringEdit, { kind: 'dropItem' }>): boolean {
  return textAt(item, key) === value
}

function besideOf(edit: Extract<WiringEdit, { kind: 'intoList' }>): readonly string[] {
  return [...edit.at.slice(0, -1), edit.to]
}

function missing(at: readonly string[], value: unknown): Held {
  return {
    holds: false,
    found: `${pathText(at)}: ${value === undefined ? 'absent' : (JSON.stringify(value)?.slice(0, 200) ?? 'absent')}`,
  }
}

/** `../x/` and `./../x` name the same folder as `../x`. */
function sameItem(item: unknown, wanted: unknown): boolean {
  if (typeof item === 'string' && typeof wanted === 'string')
    return item.replace(/^\.\//, '').replace(/\/$/, '') === wanted
  return isDeepStrictEqual(item, structuredClone(wanted))
}

// ------------------------------------------------------------------------------------------------- whole files

function created(text: string | null, content: string, file: string): { text: string; changed: boolean } {
  if (text === null) return { text: content, changed: true }
  const held = createHolds(text, content, file)
  if (held.holds) return { text, changed: false }
  throw new ReanchorError({
    what: 'the file that adopt would create is there already, with another content',
    where: { file },
    expected: 'no file, or one that says the same',
    found: held.found,
    todo: 'name another file in rotation.yaml, or make this one say the following',
    example: content,
  })
}

// How often a delivery looks is the user's to change.
const freeFields = new Set(['interval', 'retryInterval', 'timeout'])

/** A created file holds as long as every field that it was given has its value; more fields may be there. */
function createHolds(text: string, content: string, file: string): Held {
  if (text === content) return { holds: true }
  const wanted = parsed(content, file).map(plainOf)
  const found = parsed(text, file).map(plainOf)
  for (const object of wanted) {
    const name = textAt(object, 'metadata', 'name')
    const candidate = found.find(
      each => textAt(each, 'kind') === textAt(object, 'kind') && textAt(each, 'metadata', 'name') === name,
    )
    if (candidate === undefined)
      return { holds: false, found: `no ${textAt(object, 'kind') ?? 'document'} ${name ?? ''}`.trimEnd() }
    const difference = firstDifference(object, withSourceInUse(object, candidate), [])
    if (difference !== null) return { holds: false, found: difference }
  }
  return { holds: true }
}

/**
 * Argo CD takes `sources`, where there are any, in the place of `source` (argo-cd pkg/apis/application/v1alpha1/types.go, HasMultipleSources): an Application
 * that was given another source beside ours, such as a hook, still applies ours.
 */
function withSourceInUse(wanted: unknown, found: unknown): unknown {
  const source = valueAt(wanted, ['spec', 'source'])
  const sources = valueAt(found, ['spec', 'sources'])
  if (!isPlain(found) || !isPlain(found.spec) || textAt(found, 'kind') !== 'Application') return found
  if (source === undefined || !Array.isArray(sources) || sources.length === 0) return found
  const ours = sources.find(each => firstDifference(source, each, []) === null)
  return { ...found, spec: { ...found.spec, source: ours } }
}

function firstDifference(wanted: unknown, found: unknown, path: readonly string[]): string | null {
  if (!isPlain(wanted))
    return isDeepStrictEqual(wanted, found) ? null : `${pathText(path)}: ${JSON.stringify(found) ?? 'absent'}`
  if (!isPlain(found)) return `${pathText(path)}: ${JSON.stringify(found) ?? 'absent'}`
  for (const [key, value] of Object.entries(wanted)) {
    if (freeFields.has(key) && found[key] !== undefined) continue
    const difference = firstDifference(value, found[key], [...path, key])
    if (difference !== null) return difference
  }
  return null
}

// ---------------------------------------------------------------------------------------------------- documents

type Parsed = Document.Parsed

function parsed(text: string, file: string): Parsed[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { keepSourceTokens: true, merge: true, lineCounter: lines })
  for (const document of documents) {
    const error = document.errors[0]
    if (error === undefined) continue
    const { line, col } = lines.linePos(error.pos[0])
    throw new ReanchorError({
      what: 'the file is not readable as YAML',
      where: { file, line, column: col },
      found: error.message.split('\n')[0] ?? '',
      todo: 'correct the file',
    })
  }
  return Array.isArray(documents) ? documents : []
}

function plainOf(document: Parsed): unknown {
  return document.toJS({ maxAliasCount: 100 })
}

function select(documents: readonly Parsed[], selector: DocumentSelector): Parsed | string {
  const filled = documents.filter(document => document.contents !== null && plainOf(document) !== null)
  if (selector === 'single') {
    const [only, second] = filled
    if (only === undefined) return documents[0] ?? 'an empty file'
    return second === undefined ? only : `${filled.length} documents`
  }
  const named = filled.filter(document => {
    const value = plainOf(document)
    if (textAt(value, 'kind') !== selector.kind || textAt(value, 'metadata', 'name') !== selector.name) return false
    const namespace = textAt(value, 'metadata', 'namespace')
    // A namespace that the file leaves out may come from a kustomization.
    return selector.namespace === null || namespace === null || namespace === selector.namespace
  })
  const [only, second] = named
  if (only === undefined) return `no ${selectorText(selector)}`
  return second === undefined ? only : `${named.length} times ${selectorText(selector)}`
}

function selectorText(selector: DocumentSelector): string {
  if (selector === 'single') return 'a file with one document'
  return `${selector.kind} ${selector.namespace === null ? '' : `${selector.namespace}/`}${selector.name}`
}

function valueAt(value: unknown, at: readonly string[]): unknown {
  let here = value
  for (const key of at) {
    if (Array.isArray(here)) here = here[Number(key)]
    else if (isPlain(here) && Object.hasOwn(here, key)) here = here[key]
    else return undefined
  }
  return here
}

function pathText(at: readonly string[]): string {
  return at.map(key => (/^[\w-]+$/.test(key) ? key : JSON.stringify(key))).join('.')
}

// --------------------------------------------------------------------------------------------------------- edits

type PathEdit = Exclude<WiringEdit, { readonly kind: 'create' }>

/** Where an edit takes place. */
interface Place {
  readonly text: string
  readonly file: string
  readonly documents: readonly Parsed[]
  readonly document: Parsed
  /** Nodes from the root down, as far as the path exists. */
  readonly nodes: readonly Node[]
  readonly style: YamlStyle
  readonly edit: PathEdit
}

function placeOf(text: string, edit: PathEdit, file: string): Place {
  const documents = parsed(text, file)
  const document = select(documents, edit.document)
  if (typeof document === 'string') {
    throw new ReanchorError({
      what: 'the object to wire is not in the file',
      where: { file },
      expected: selectorText(edit.document),
      found: document,
      todo: 'correct the file, or run `reanchor plan` again',
    })
  }
  const nodes: Node[] = []
  let node: unknown = document.contents
  for (const key of [...edit.at, null]) {
    if (!isNode(node)) break
    nodes.push(node)
    if (key === null) break
    node = isMap(node) ? pairOf(node, key)?.value : isSeq(node) ? node.items[Number(key)] : undefined
  }
  const place = { text, file, documents, document, nodes, style: styleOf(text, document), edit }
  refuseShared(place)
  return place
}

/** Text behind an alias, and text that aliases repeat elsewhere, belongs to more than this one place. */
function refuseShared(place: Place): void {
  const used = new Set<string>()
  visitNodes(place.document.contents, node => {
    if (isAlias(node)) used.add(node.source)
  })
  for (const node of place.nodes) {
    if (isAlias(node)) throw byHand(place, `the alias *${(node as Alias).source} stands here`, node)
    if (isCollection(node) || isScalar(node)) {
      const anchor = (node as Scalar | YAMLMap).anchor
      if (anchor !== undefined && used.has(anchor))
        throw byHand(place, `the anchor &${anchor} is used elsewhere too`, node)
    }
  }
}

function visitNodes(node: unknown, visit: (node: unknown) => void): void {
  visit(node)
  if (isPair(node)) {
    visitNodes(node.key, visit)
    visitNodes(node.value, visit)
  } else if (isCollection(node)) {
    for (const item of node.items) visitNodes(item, visit)
  }
}

function byHand(place: Place, found: string, node?: Node): ReanchorError {
  const { edit, file, text } = place
  const offset = node?.range?.[0] ?? 0
  return new ReanchorError({
    what: 'the file cannot be wired without changing more than the place concerned',
    where: { file, line: text.slice(0, offset).split('\n').length, field: pathText(edit.at) },
    expected:
      edit.kind === 'remove' || edit.kind === 'dropItem'
        ? 'a key or an item that stands by itself'
        : 'plain maps and lists down to the place',
    found,
    todo: todoByHand(edit),
    ...(edit.kind === 'set' || edit.kind === 'listItem' ? { example: handText(edit, place.style) } : {}),
  })
}

function todoByHand(edit: PathEdit): string {
  switch (edit.kind) {
    case 'remove':
      return `remove ${pathText(edit.at)} by hand`
    case 'dropItem':
      return `take the item with ${edit.key} ${edit.value} out of ${pathText(edit.at)} by hand`
    case 'intoList':
      return `make ${pathText(edit.at)} the first item of a list ${edit.to} by hand`
    default:
      return 'add this by hand'
  }
}

/** Edits that put a value somewhere. */
type ValueEdit = Extract<PathEdit, { kind: 'set' | 'listItem' }>

function handText(edit: ValueEdit, style: YamlStyle): string {
  const value = edit.kind === 'listItem' ? [edit.value] : edit.value
  return blockLines(nested(edit.at, value), 0, style).join('\n')
}

/** A value under keys, the outermost first. */
function nested(keys: readonly string[], value: unknown): unknown {
  return keys.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value)
}

function edited(place: Place, edit: PathEdit): string {
  const { nodes, text } = place
  const depth = nodes.length - 1
  const exists = depth === edit.at.length
  const last = nodes[depth]
  if (edit.kind === 'remove') return removed(place)
  if (edit.kind === 'dropItem') return dropped(place, edit)
  if (edit.kind === 'intoList') return movedIntoList(place, edit.to)
  if (last === undefined)
    return `${text}${text === '' || text.endsWith('\n') ? '' : place.style.lineEnd}${lines(place, handLines(place, edit))}`
  const rest = edit.at.slice(depth)
  if (exists) {
    if (edit.kind === 'set') return replaced(place, edit.value)
    if (isSeq(last)) return appended(place, last, edit.value)
    if (isScalar(last) && last.value === null) return replaced(place, [edit.value])
    throw byHand(place, 'something that is no list', last)
  }
  const value = edit.kind === 'listItem' ? [edit.value] : edit.value
  const [key, ...inner] = rest
  if (key === undefined) throw byHand(place, 'nothing to edit')
  if (isMap(last)) return insertedPair(place, last, key, nested(inner, value))
  if (isScalar(last) && last.value === null) return replaced(place, nested(rest, value))
  throw byHand(place, 'a value that is no map', last)
}

function handLines(place: Place, edit: ValueEdit): readonly string[] {
  return handText(edit, place.style).split('\n')
}

function lines(place: Place, items: readonly string[]): string {
  return items.map(item => `${item}${place.style.lineEnd}`).join('')
}

/** Puts whole lines after the line on which `end` lies; a file without a final line end keeps that. */
function insertLines(place: Place, end: number, items: readonly string[]): string {
  const { text } = place
  const { lineEnd } = place.style
  if (end > 0 && text[end - 1] === '\n') return text.slice(0, end) + lines(place, items) + text.slice(end)
  const next = text.indexOf('\n', end)
  if (next === -1) return `${text}${lineEnd}${items.join(lineEnd)}`
  return text.slice(0, next + 1) + lines(place, items) + text.slice(next + 1)
}

function splice(text: string, start: number, end: number, inserted: string): string {
  return text.slice(0, start) + inserted + text.slice(end)
}

// ------------------------------------------------------------------------------------------------ where text ends

function rangeOf(place: Place, node: Node): readonly [number, number, number] {
  if (node.range === undefined || node.range === null) throw byHand(place, 'a value whose place is not known')
  return node.range
}

/** Offset after the last character of a value; after its line where it is a block scalar. */
function endOf(place: Place, node: Node): number {
  if (isFlow(node) || isScalar(node) || isAlias(node)) return rangeOf(place, node)[1]
  if (isMap(node)) {
    const pair = node.items.at(-1)
    return pair === undefined ? rangeOf(place, node)[1] : endOfPair(place, node, pair)
  }
  if (isSeq(node)) {
    const item = node.items.at(-1)
    if (isNode(item) && !isEmptyScalar(item)) return endOf(place, item)
    return indicatorEnd(place, itemTokens(node).at(-1)?.start, 'seq-item-ind')
  }
  return rangeOf(place, node)[1]
}

function endOfPair(place: Place, map: YAMLMap, pair: Pair): number {
  if (isNode(pair.value) && !isEmptyScalar(pair.value)) return endOf(place, pair.value)
  const token = tokenOf(place, map, pair)
  if (token.sep === undefined) return isNode(pair.key) ? rangeOf(place, pair.key)[1] : 0
  return indicatorEnd(place, token.sep, 'map-value-ind')
}

/** A null that is not written: `key:` with nothing behind. */
function isEmptyScalar(node: Node): boolean {
  return (
    isScalar(node) &&
    node.value === null &&
    node.range !== undefined &&
    node.range !== null &&
    node.range[0] === node.range[1]
  )
}

function isFlow(node: Node): boolean {
  return isCollection(node) && (node as YAMLMap).flow === true
}

interface ItemToken {
  readonly start: readonly CST.SourceToken[]
  readonly sep?: readonly CST.SourceToken[]
}

function itemTokens(node: YAMLMap | YAMLSeq): readonly ItemToken[] {
  const token = node.srcToken as { readonly items?: readonly ItemToken[] } | undefined
  return token?.items ?? []
}

function tokenOf(place: Place, map: YAMLMap, pair: Pair): ItemToken {
  const start = isNode(pair.key) ? rangeOf(place, pair.key)[0] : -1
  const found = itemTokens(map).find(item => (item as { key?: { offset?: number } | null }).key?.offset === start)
  if (found === undefined) throw byHand(place, 'a key that is not written in the usual way')
  return found
}

function indicatorEnd(
  place: Place,
  tokens: readonly CST.SourceToken[] | undefined,
  type: 'map-value-ind' | 'seq-item-ind',
): number {
  const token = tokens?.find(each => each.type === type)
  if (token === undefined) throw byHand(place, 'a value that is not written in the usual way')
  return token.offset + token.source.length
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf('\n', offset - 1) + 1)
}

function lineStart(text: string, offset: number): number {
  return text.lastIndexOf('\n', offset - 1) + 1
}

function pairOf(map: YAMLMap, key: string): Pair | undefined {
  return map.items.find(pair => isScalar(pair.key) && String(pair.key.value) === key)
}

// --------------------------------------------------------------------------------------------------- kinds of edit

function insertedPair(place: Place, map: YAMLMap, key: string, value: unknown): string {
  const { text, style } = place
  const pair: Plain = { [key]: value }
  if (isFlow(map)) return insertedInFlow(place, map, flowText(pair).slice(1, -1))
  const first = map.items[0]
  if (first === undefined || !isNode(first.key)) throw byHand(place, 'a map without keys', map)
  const indent = columnOf(text, rangeOf(place, first.key)[0])
  return insertLines(place, endOf(place, map), blockLines(pair, indent, style))
}

function appended(place: Place, list: YAMLSeq, value: unknown): string {
  const { text, style } = place
  if (isFlow(list)) return insertedInFlow(place, list, flowText(value))
  const dash = itemTokens(list)[0]?.start.find(token => token.type === 'seq-item-ind')
  if (dash === undefined) throw byHand(place, 'a list that is not written in the usual way', list)
  const indent = columnOf(text, dash.offset)
  return insertLines(place, endOf(place, list), blockLines([value], indent, { ...style, indentLists: true }))
}

function insertedInFlow(place: Place, collection: YAMLMap | YAMLSeq, inserted: string): string {
  const { text } = place
  const last = collection.items.at(-1)
  const [start, end] = rangeOf(place, collection)
  if (last === undefined) return splice(text, start + 1, end - 1, inserted)
  const after = isPair(last)
    ? endOfPair(place, collection as YAMLMap, last)
    : isNode(last)
      ? endOf(place, last)
      : end - 1
  return splice(text, after, after, `, ${inserted}`)
}

/** Puts a value in the place of the one at the end of the path. */
function replaced(place: Place, value: unknown): string {
  const { text, nodes, edit, style } = place
  const old = nodes.at(-1)
  const parent = nodes.at(-2)
  if (old === undefined) throw byHand(place, 'nothing to replace')
  if (isCollection(old) || isScalar(old)) {
    if ((old as Scalar).anchor !== undefined || (old as Scalar).tag !== undefined) {
      if ((old as Scalar).anchor !== undefined || !isDefaultTag(old as Scalar))
        throw byHand(place, 'a value with an anchor or a tag', old)
    }
  }
  const [start, end] = isEmptyScalar(old) ? [-1, -1] : rangeOf(place, old)
  const scalar = !isPlain(value) && !Array.isArray(value)
  const inFlow = nodes.slice(0, -1).some(isFlow)
  if (inFlow || isFlow(old)) {
    if (start === -1) throw byHand(place, 'a value that is not written', old)
    return splice(text, start, end, flowText(value))
  }
  if (parent === undefined) {
    if (isEmptyScalar(old)) return insertLines(place, text.length, blockLines(value, 0, style))
    throw byHand(place, 'a document that is no map', old)
  }
  const key = edit.at[nodes.length - 2] ?? ''
  const pair = isMap(parent) ? pairOf(parent, key) : undefined
  if (pair === undefined || !isMap(parent) || !isNode(pair.key)) throw byHand(place, 'an element of a list', old)
  const colon = indicatorEnd(place, tokenOf(place, parent, pair).sep, 'map-value-ind')
  const indent = columnOf(text, rangeOf(place, pair.key)[0])
  const isBlock = isCollection(old) || isBlockScalar(old)
  if (!isBlock) {
    const fresh = scalar || start !== -1 ? flowText(value) : null
    if (fresh !== null && start !== -1) return splice(text, start, end, fresh)
    if (fresh !== null) return splice(text, colon, colon, ` ${fresh}`)
    // `key:` with nothing behind: the value goes below, where a comment on the line stays.
    return insertLines(place, colon, childLines(value, indent, style))
  }
  const from = isBlockScalar(old) ? text.indexOf('\n', start) + 1 : lineStart(text, start)
  const contentEnd = endOf(place, old)
  const to = text[contentEnd - 1] === '\n' ? contentEnd : lineEndAt(text, contentEnd)
  if (isBlockScalar(old) || scalar) {
    const head = text.slice(0, colon)
    const behind = isBlockScalar(old) ? '' : text.slice(colon, from).replace(/\r?\n$/, '')
    const kept = scalar
      ? `${head} ${flowText(value)}${behind}`
      : `${head}${behind}${style.lineEnd}${childLines(value, indent, style).join(style.lineEnd)}`
    return `${kept}${to >= text.length && !text.endsWith('\n') ? '' : style.lineEnd}${text.slice(to)}`
  }
  const body = childLines(value, indent, style).join(style.lineEnd)
  return splice(text, from, to, `${body}${to >= text.length && !text.endsWith('\n') ? '' : style.lineEnd}`)
}

function isDefaultTag(node: Scalar): boolean {
  return node.tag === undefined || node.tag.startsWith('tag:yaml.org,2002:')
}

function isBlockScalar(node: Node): boolean {
  return isScalar(node) && (node.type === 'BLOCK_LITERAL' || node.type === 'BLOCK_FOLDED')
}

/** Offset after the line end of the line on which `offset` lies. */
function lineEndAt(text: string, offset: number): number {
  const next = text.indexOf('\n', offset)
  return next === -1 ? text.length : next + 1
}

function childLines(value: unknown, indent: number, style: YamlStyle): readonly string[] {
  const below = Array.isArray(value) && !style.indentLists ? indent : indent + style.indent
  return blockLines(value, below, { ...style, indentLists: style.indentLists })
}

function removed(place: Place): string {
  const { text, nodes, edit } = place
  const parent = nodes.at(-2)
  const key = edit.at.at(-1) ?? ''
  const pair = parent !== undefined && isMap(parent) ? pairOf(parent, key) : undefined
  if (parent === undefined || !isMap(parent) || pair === undefined || !isNode(pair.key))
    throw byHand(place, 'a value that is merged in, or an element of a list')
  const index = parent.items.indexOf(pair)
  const start = rangeOf(place, pair.key)[0]
  const end = endOfPair(place, parent, pair)
  const next = parent.items[index + 1]
  const before = parent.items[index - 1]
  if (isFlow(parent)) {
    if (next !== undefined && isNode(next.key)) return cut(place, start, rangeOf(place, next.key)[0])
    if (before !== undefined) return cut(place, endOfPair(place, parent, before), end)
    return cut(place, start, end)
  }
  const lineBegin = lineStart(text, start)
  const lineFinish = text[end - 1] === '\n' ? end : lineEndAt(text, end)
  const ownLine = text.slice(lineBegin, start).trim() === ''
  if (parent.items.length === 1) return emptied(place, parent, ownLine ? lineBegin : start, lineFinish, end)
  if (ownLine) {
    // The last line of a file without a final line end takes the one before it along.
    if (lineFinish >= text.length && !text.endsWith('\n')) return text.slice(0, lineBegin).replace(/\r?\n$/, '')
    return splice(text, lineBegin, lineFinish, '')
  }
  // The first key of a list's item: the next one moves up to the dash.
  if (next === undefined || !isNode(next.key)) throw byHand(place, 'the only key of a list’s item', parent)
  const nextStart = rangeOf(place, next.key)[0]
  if (text.slice(lineFinish, nextStart).trim() !== '')
    throw byHand(place, 'a comment between this key and the next', parent)
  return splice(text, start, nextStart, '')
}

/** Takes one item with its lines out of a list. The only one leaves an empty list. */
function dropped(place: Place, edit: Extract<PathEdit, { kind: 'dropItem' }>): string {
  const { text, nodes } = place
  const list = nodes.at(-1)
  if (list === undefined || !isSeq(list)) throw byHand(place, 'something that is no list', list)
  const index = list.items.findIndex(item => isNode(item) && isItem(item.toJS(place.document), edit))
  const item = list.items[index]
  const next = list.items[index + 1]
  const before = list.items[index - 1]
  if (!isNode(item)) throw byHand(place, 'an item that is not written in the usual way', list)
  const [start] = rangeOf(place, item)
  if (isFlow(list)) {
    if (isNode(next)) return cut(place, start, rangeOf(place, next)[0])
    return cut(place, isNode(before) ? endOf(place, before) : start, endOf(place, item))
  }
  const dash = itemTokens(list)[index]?.start.find(token => token.type === 'seq-item-ind')
  if (dash === undefined) throw byHand(place, 'an item that is not written in the usual way', list)
  const from = lineStart(text, dash.offset)
  if (text.slice(from, dash.offset).trim() !== '') throw byHand(place, 'an item that begins in mid-line', item)
  const end = endOf(place, item)
  const to = text[end - 1] === '\n' ? end : lineEndAt(text, end)
  if (list.items.length > 1) return splice(text, from, to, '')
  return splice(text, dash.offset, text[to - 1] === '\n' ? to - 1 : to, '[]')
}

/** Renames the key and puts a dash before the map's first key; its lines move to the right with all that stands on them. */
function movedIntoList(place: Place, to: string): string {
  const { text, nodes, edit } = place
  const parent = nodes.at(-2)
  const map = nodes.at(-1)
  const key = edit.at.at(-1) ?? ''
  const pair = parent !== undefined && isMap(parent) ? pairOf(parent, key) : undefined
  if (pair === undefined || !isMap(parent) || !isNode(pair.key) || nodes.length !== edit.at.length + 1)
    throw byHand(place, 'no map of its own')
  if (pairOf(parent, to) !== undefined) throw byHand(place, `a key ${to} beside it`, parent)
  if (!isMap(map) || map.anchor !== undefined) throw byHand(place, 'something that is no map of its own', map)
  const [keyStart, keyEnd] = rangeOf(place, pair.key)
  const [start, end] = rangeOf(place, map)
  if (isFlow(map)) {
    return `${text.slice(0, keyStart)}${to}${text.slice(keyEnd, start)}[${text.slice(start, end)}]${text.slice(end)}`
  }
  const first = map.items[0]
  if (first === undefined || !isNode(first.key)) throw byHand(place, 'a map without keys', map)
  const firstLine = lineStart(text, rangeOf(place, first.key)[0])
  const contentEnd = endOf(place, map)
  const finish = text[contentEnd - 1] === '\n' ? contentEnd : lineEndAt(text, contentEnd)
  const column = rangeOf(place, first.key)[0] - firstLine
  const body = text
    .slice(firstLine, finish)
    .split('\n')
    .map((line, index) => {
      if (index === 0) return `${line.slice(0, column)}- ${line.slice(column)}`
      return line.trim() === '' ? line : `  ${line}`
    })
    .join('\n')
  return `${text.slice(0, keyStart)}${to}${text.slice(keyEnd, firstLine)}${body}${text.slice(finish)}`
}

/** Cuts from a flow collection; a comment in the piece would be lost, or would swallow what follows. */
function cut(place: Place, start: number, end: number): string {
  const unquoted = place.text.slice(start, end).replace(/"(?:[^"\\]|\\.)*"|'[^']*'/g, '')
  if (unquoted.includes('#')) throw byHand(place, 'a comment within the part to remove')
  return splice(place.text, start, end, '')
}

/** Takes the only key out of a block map: the map becomes `{}`, for with nothing behind the key above would be null. */
function emptied(place: Place, map: YAMLMap, from: number, to: number, end: number): string {
  const { text, nodes, edit } = place
  const above = nodes.at(-3)
  const aboveKey = edit.at.at(-2)
  if (above === undefined || aboveKey === undefined || !isMap(above)) {
    const start = rangeOf(place, map)[0]
    return splice(text, start, text[end - 1] === '\n' ? end - 1 : end, '{}')
  }
  const pair = pairOf(above, aboveKey)
  if (pair === undefined) throw byHand(place, 'a map that is not written in the usual way', map)
  const colon = indicatorEnd(place, tokenOf(place, above, pair).sep, 'map-value-ind')
  const tail =
    to >= text.length && !text.endsWith('\n') ? text.slice(colon, from).replace(/\r?\n$/, '') : text.slice(colon, from)
  return `${text.slice(0, colon)} {}${tail}${text.slice(to)}`
}

// ----------------------------------------------------------------------------------------------------------- style

/** The file's own habits: line ends, depth of indentation, whether lists stand deeper than their key. */
function styleOf(text: string, document: Parsed): YamlStyle {
  const indents: number[] = []
  const lists: boolean[] = []
  collectStyle(text, document.contents, indents, lists)
  return {
    lineEnd: text.includes('\r\n') ? '\r\n' : '\n',
    indent: indents.length === 0 ? 2 : Math.min(...indents),
    indentLists: lists.length === 0 ? true : lists.filter(Boolean).length * 2 >= lists.length,
  }
}

function collectStyle(text: string, node: unknown, indents: number[], lists: boolean[]): void {
  if (isSeq(node)) {
    for (const item of node.items) collectStyle(text, item, indents, lists)
    return
  }
  if (!isMap(node) || node.flow === true) return
  for (const { key, value } of node.items) {
    if (
      isNode(key) &&
      key.range !== undefined &&
      key.range !== null &&
      isCollection(value) &&
      value.flow !== true &&
      value.range !== undefined &&
      value.range !== null
    ) {
      const column = columnOf(text, key.range[0])
      const deeper = columnOf(text, value.range[0]) - column
      if (isSeq(value)) lists.push(deeper > 0)
      else if (deeper > 0) indents.push(deeper)
    }
    collectStyle(text, value, indents, lists)
  }
}

// ---------------------------------------------------------------------------------------------------- verification

/** Reads the new text again: exactly the one value may have changed. */
function verify(place: Place, edit: PathEdit, after: string): void {
  let now: readonly unknown[]
  try {
    now = parsed(after, place.file).map(plainOf)
  } catch {
    throw byHand(place, 'a text in which the change cannot be made safely')
  }
  const index = place.documents.indexOf(place.document)
  const expected = place.documents.map((document, position) =>
    position === index ? withEdit(plainOf(document), edit) : plainOf(document),
  )
  if (place.documents.length === 0) expected.push(withEdit(null, edit))
  if (!isDeepStrictEqual(now, expected))
    throw byHand(place, 'a text in which the change would reach further', place.nodes.at(-1))
}

function withEdit(value: unknown, edit: PathEdit): unknown {
  const root: Plain = { root: structuredClone(value) }
  let holder: Plain | unknown[] = root
  let key = 'root'
  for (const next of edit.at) {
    let inner: unknown = Array.isArray(holder) ? holder[Number(key)] : holder[key]
    if (!isPlain(inner) && !Array.isArray(inner)) {
      inner = {}
      assign(holder, key, inner)
    }
    holder = inner as Plain | unknown[]
    key = next
  }
  const old = Array.isArray(holder) ? holder[Number(key)] : holder[key]
  if (edit.kind === 'set') assign(holder, key, structuredClone(edit.value))
  else if (edit.kind === 'listItem')
    assign(holder, key, [...(Array.isArray(old) ? old : []), structuredClone(edit.value)])
  else if (edit.kind === 'dropItem')
    assign(holder, key, Array.isArray(old) ? old.filter(item => !isItem(item, edit)) : old)
  else if (edit.kind === 'intoList' && !Array.isArray(holder)) {
    delete holder[key]
    assign(holder, edit.to, [old])
  } else if (!Array.isArray(holder)) delete holder[key]
  return root.root
}

function assign(holder: Plain | unknown[], key: string, value: unknown): void {
  if (Array.isArray(holder)) holder[Number(key)] = value
  else Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })
}
