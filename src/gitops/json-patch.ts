import { isDeepStrictEqual } from 'node:util'
import { isPlain, type Plain } from './manifests.ts'

/** An operation of a JSON patch that cannot be applied. */
export class JsonPatchConflict extends Error {}

/** Whether a value has the form of a JSON patch (RFC 6902 §3): a list of operations. */
export function isJsonPatch(value: unknown): value is readonly Plain[] {
  return Array.isArray(value) && value.every(item => isPlain(item) && typeof item.op === 'string')
}

/** Applies a JSON patch (RFC 6902) to a copy. Throws `JsonPatchConflict`. */
export function applyJsonPatch(object: Plain, operations: readonly Plain[]): Plain {
  const result = structuredClone(object)
  for (const operation of operations) apply(result, operation)
  return result
}

function apply(object: Plain, operation: Plain): void {
  const path = pointer(operation, 'path')
  switch (operation.op) {
    case 'add':
      add(object, path, structuredClone(operation.value))
      return
    case 'remove':
      remove(object, path)
      return
    case 'replace':
      remove(object, path)
      add(object, path, structuredClone(operation.value))
      return
    case 'move':
      add(object, path, remove(object, pointer(operation, 'from')))
      return
    case 'copy':
      add(object, path, structuredClone(get(object, pointer(operation, 'from'))))
      return
    case 'test':
      if (isDeepStrictEqual(get(object, path), operation.value ?? null)) return
      throw new JsonPatchConflict(`test failed at /${path.join('/')}`)
    default:
      throw new JsonPatchConflict(`unknown operation ${String(operation.op)}`)
  }
}

/** RFC 6901 §4: ~1 is /, then ~0 is ~. */
function pointer(operation: Plain, name: 'path' | 'from'): string[] {
  const text = operation[name]
  if (typeof text !== 'string' || !text.startsWith('/')) {
    throw new JsonPatchConflict(`${String(operation.op)} needs a ${name} that starts with /`)
  }
  return pointerParts(text)
}

/** The keys that a pointer leads through, from `/` on. */
export function pointerParts(text: string): string[] {
  return text
    .slice(1)
    .split('/')
    .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

/** A patch that takes away what these paths lead to, as `kubectl patch --type=json --patch` takes it. */
export function removalPatch(paths: readonly (readonly string[])[]): string {
  const escaped = (part: string): string => part.replaceAll('~', '~0').replaceAll('/', '~1')
  return JSON.stringify(paths.map(path => ({ op: 'remove', path: path.map(part => `/${escaped(part)}`).join('') })))
}

function get(root: unknown, path: readonly string[]): unknown {
  let here = root
  for (const key of path) {
    const next = Array.isArray(here) ? here[indexOf(here, key, path)] : isPlain(here) ? here[key] : undefined
    if (next === undefined) throw new JsonPatchConflict(`nothing at /${path.join('/')}`)
    here = next
  }
  return here
}

function parentOf(root: Plain, path: readonly string[]): { parent: unknown; key: string } {
  return { parent: get(root, path.slice(0, -1)), key: path.at(-1) ?? '' }
}

function add(root: Plain, path: readonly string[], value: unknown): void {
  const { parent, key } = parentOf(root, path)
  if (Array.isArray(parent)) {
    const index = key === '-' ? parent.length : indexOf(parent, key, path, parent.length)
    parent.splice(index, 0, value)
    return
  }
  if (!isPlain(parent)) throw new JsonPatchConflict(`nothing can be added at /${path.join('/')}`)
  Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true })
}

function remove(root: Plain, path: readonly string[]): unknown {
  const value = get(root, path)
  const { parent, key } = parentOf(root, path)
  if (Array.isArray(parent)) parent.splice(indexOf(parent, key, path), 1)
  else if (isPlain(parent)) delete parent[key]
  return value
}

/** evanphx/json-patch, which kustomize uses, also takes negative indexes: they count from the end. */
function indexOf(list: readonly unknown[], key: string, path: readonly string[], last = list.length - 1): number {
  const written = /^(0|-?[1-9][0-9]*)$/.test(key) ? Number(key) : Number.NaN
  const index = written < 0 ? list.length + written : written
  if (!(index >= 0 && index <= last)) throw new JsonPatchConflict(`no element at /${path.join('/')}`)
  return index
}
