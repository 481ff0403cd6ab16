import type { Node } from 'yaml'
import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import { ReanchorError } from '../errors.ts'
import { secretOffset, shown } from './values.ts'

/** Keys of maps and indexes of lists, from the document's root. */
export type FieldPath = readonly (string | number)[]

export interface Position {
  /** 1-based. */
  readonly line: number
  /** 1-based. */
  readonly column: number
}

/** A YAML document as plain values, with the place of each. */
export interface LocatedYaml {
  readonly value: unknown
  /** Place of the field's value; of the nearest map or list around it where the field is absent. */
  at(path: FieldPath): Position
  /** Place of the field's name; as `at` for list items and absent fields. */
  atKey(path: FieldPath): Position
}

export interface YamlLimits {
  /** Of the text, in UTF-16 units. */
  readonly size: number
  readonly depth: number
  readonly nodes: number
}

/** Room for a declaration of thousands of sites; far from what exhausts memory or the stack. */
const declarationLimits: YamlLimits = { size: 1024 * 1024, depth: 16, nodes: 100_000 }

/** `spec.sites[0].path`; names that are no plain words are quoted. */
export function fieldText(path: FieldPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else if (/^[A-Za-z_][\w-]*$/.test(part)) text += text === '' ? part : `.${part}`
    else text += `[${shown(part)}]`
  }
  return text
}

/**
 * Reads one YAML 1.2 document of plain maps, lists and scalars. What makes YAML dangerous or ambiguous is refused with its
 * place: anchors, aliases, merge keys, tags, directives, several documents, a key given twice, deep nesting, sheer size.
 * Problems go to `errors`; the value is null where the text could not be read as a whole.
 */
export function readLocatedYaml(
  text: string,
  file: string,
  errors: ReanchorError[],
  limits: YamlLimits = declarationLimits,
): LocatedYaml | null {
  const secret = secretOffset(text)
  if (secret !== null) {
    const before = text.slice(0, secret).split('\n')
    errors.push(
      new ReanchorError({
        what: 'what looks like a private key stands in this file',
        where: { file, line: before.length, column: (before.at(-1)?.length ?? 0) + 1 },
        expected: 'names of files only; this file is committed',
        todo: 'take it out, and if it was ever committed or sent anywhere, treat the key as known to others',
      }),
    )
    return null
  }
  const bomb = bombPlace(text, limits)
  if (bomb !== null) {
    errors.push(bombError(file, bomb.what, bomb.expected, bomb.position))
    return null
  }
  const lines = new LineCounter()
  const positionOf = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const before = errors.length
  const add = (what: string, offset: number, expected: string, todo?: string, field?: string): void => {
    const where = { file, ...positionOf(offset), ...(field === undefined || field === '' ? {} : { field }) }
    errors.push(new ReanchorError({ what, where, expected, ...(todo === undefined ? {} : { todo }) }))
  }

  let document: ReturnType<typeof parseDocument>
  try {
    // uniqueKeys compares every pair of keys; the walk below finds repeats with a set.
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false, logLevel: 'error' })
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    errors.push(bombError(file, 'is nested too deeply', `at most ${limits.depth} levels`, { line: 1, column: 1 }))
    return null
  }
  if (document.directives?.yaml.explicit === true || Object.keys(document.directives?.tags ?? {}).length > 1) {
    add(
      'a YAML directive',
      Math.max(text.search(/^%/m), 0),
      'plain YAML 1.2 without directives',
      'take the line that begins with % out',
    )
  }
  const places = new Set<number>()
  for (const problem of document.errors) {
    // What follows from the first mistake at a place says nothing more.
    if (places.has(problem.pos[0])) continue
    places.add(problem.pos[0])
    if (problem.code === 'MULTIPLE_DOCS') {
      add(
        'a second YAML document',
        problem.pos[0],
        'one document per file',
        'take out everything from the second --- on',
      )
      break
    }
    add(
      `not readable as YAML: ${shownMessage(problem.message)}`,
      problem.pos[0],
      'YAML 1.2: fields indented with blanks, one value per field',
      'mend the line, or the one above it',
    )
  }
  if (errors.length > before) return null

  const keyOffsets = new Map<string, number>()
  const valueOffsets = new Map<string, number>()
  let nodes = 0
  let exhausted = false

  const visit = (node: Node | null, path: FieldPath, fallback: number): unknown => {
    nodes += 1
    const offset = node?.range?.[0] ?? fallback
    valueOffsets.set(JSON.stringify(path), offset)
    if (exhausted) return null
    if (nodes > limits.nodes || path.length > limits.depth) {
      exhausted = true
      const what = nodes > limits.nodes ? 'holds too many values' : 'is nested too deeply'
      const expected = nodes > limits.nodes ? `at most ${limits.nodes} values` : `at most ${limits.depth} levels`
      errors.push(bombError(file, what, expected, positionOf(offset)))
      return null
    }
    if (node === null) return null
    if (isAlias(node)) {
      add('a YAML alias', offset, 'every value written out', 'write the value in place of the alias', fieldText(path))
      return null
    }
    if ('anchor' in node && node.anchor !== undefined) {
      add('a YAML anchor', offset, 'every value written out', 'take the & and its name out', fieldText(path))
    }
    if (node.tag !== undefined) {
      add(
        'a YAML tag',
        offset,
        'plain values without tags',
        'take the ! and its name out; put texts in quotes',
        fieldText(path),
      )
      return null
    }
    if (isScalar(node)) return node.value
    if (isSeq(node)) return node.items.map((item, index) => visitItem(item, [...path, index], offset))
    if (!isMap(node)) return null
    const map: Record<string, unknown> = {}
    const seen = new Set<string>()
    for (const pair of node.items) {
      const key = pair.key
      const keyOffset = isNodeLike(key) ? (key.range?.[0] ?? offset) : offset
      if (!isScalar(key) || key.anchor !== undefined || key.tag !== undefined) {
        add('a field name that is not a plain word', keyOffset, 'a plain name', undefined, fieldText(path))
        continue
      }
      const name = typeof key.value === 'string' ? key.value : (key.source ?? String(key.value))
      if (name === '<<') {
        add(
          'a YAML merge key',
          keyOffset,
          'every field written out',
          'write the fields in place of <<',
          fieldText(path),
        )
        continue
      }
      if (name === '__proto__') {
        add('a field that no declaration has: __proto__', keyOffset, 'a known field', 'take it out', fieldText(path))
        continue
      }
      const here = [...path, name]
      if (seen.has(name)) {
        add('a field that is given twice', keyOffset, 'every field once', 'keep one of the two', fieldText(here))
        continue
      }
      seen.add(name)
      keyOffsets.set(JSON.stringify(here), keyOffset)
      map[name] = visitItem(pair.value, here, keyOffset)
    }
    return map
  }
  const visitItem = (item: unknown, path: FieldPath, fallback: number): unknown => {
    if (isPair(item)) {
      add(
        'a field inside a list in brackets',
        fallback,
        'a list of values or of maps',
        'put the field in braces',
        fieldText(path),
      )
      return null
    }
    return visit(isNodeLike(item) ? item : null, path, fallback)
  }

  const value = visit(isNodeLike(document.contents) ? document.contents : null, [], 0)
  if (exhausted) return null

  const nearest = (path: FieldPath, maps: readonly ReadonlyMap<string, number>[]): Position => {
    for (let length = path.length; length >= 0; length -= 1) {
      const key = JSON.stringify(path.slice(0, length))
      for (const map of maps) {
        const offset = map.get(key)
        if (offset !== undefined) return positionOf(offset)
      }
    }
    return { line: 1, column: 1 }
  }
  return {
    value,
    at: path => nearest(path, valueOffsets.has(JSON.stringify(path)) ? [valueOffsets] : [keyOffsets, valueOffsets]),
    atKey: path => nearest(path, [keyOffsets, valueOffsets]),
  }
}

function isNodeLike(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'range' in value
}

function shownMessage(message: string): string {
  const line = message.split('\n', 1)[0] ?? ''
  return line.length > 120 ? `${line.slice(0, 120)}…` : line
}

/** What the parser itself would spend its stack on, found before it runs: brackets, indents and compact block indicators. */
function bombPlace(
  text: string,
  limits: YamlLimits,
): { readonly what: string; readonly expected: string; readonly position: Position } | null {
  if (text.length > limits.size) {
    return { what: 'is too large', expected: `at most ${limits.size} characters`, position: { line: 1, column: 1 } }
  }
  const expected = `at most ${limits.depth} levels`
  // Brackets in texts and comments count too, hence the room; the walk over the parsed document holds the exact limit.
  const deepest = limits.depth + 200
  let open = 0
  for (const [index, line] of text.split('\n').entries()) {
    const compact = /^(?: |[-?:] )*/.exec(line)?.[0] ?? ''
    // A level needs a column or an indicator: this bounds how deep the parser can go, whose stack is not endless.
    if (compact.length > deepest) {
      return { what: 'is nested too deeply', expected, position: { line: index + 1, column: 1 } }
    }
    for (let column = 0; column < line.length; column += 1) {
      const character = line[column]
      if (character === '[' || character === '{') open += 1
      if ((character === ']' || character === '}') && open > 0) open -= 1
      if (open > deepest)
        return { what: 'is nested too deeply', expected, position: { line: index + 1, column: column + 1 } }
    }
  }
  return null
}

function bombError(file: string, what: string, expected: string, position: Position): ReanchorError {
  return new ReanchorError({
    what: `the document ${what}: it is refused unread`,
    where: { file, ...position },
    expected,
    todo: 'a declaration is short and flat; look at where this file comes from',
  })
}
