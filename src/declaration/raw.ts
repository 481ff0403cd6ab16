import type { FieldPath } from './located-yaml.ts'
import { nearestName } from './values.ts'

/** Looks into a declaration as it stands in the file, whatever its form: what is not there, or is something else, is null or empty. */

export interface Finding {
  readonly path: FieldPath
  readonly what: string
  readonly expected: string
  readonly todo?: string
  readonly example?: string
  /** Point at the field's name instead of its value. */
  readonly atKey?: boolean
}

export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function valueAt(value: unknown, path: FieldPath): unknown {
  let here = value
  for (const part of path) {
    if (typeof part === 'number') here = Array.isArray(here) ? here[part] : undefined
    else here = isMap(here) && Object.hasOwn(here, part) ? here[part] : undefined
  }
  return here
}

export function mapAt(value: unknown, path: FieldPath): Readonly<Record<string, unknown>> | null {
  const found = valueAt(value, path)
  return isMap(found) ? found : null
}

export function listAt(value: unknown, path: FieldPath): readonly unknown[] {
  const found = valueAt(value, path)
  return Array.isArray(found) ? found : []
}

export function textAt(value: unknown, path: FieldPath): string | null {
  const found = valueAt(value, path)
  return typeof found === 'string' ? found : null
}

export function unknownSite(path: FieldPath, name: string, names: readonly string[]): Finding {
  const near = nearestName(name, names)
  return {
    path,
    what: 'is not the name of a site',
    expected: names.length === 0 ? 'the name of a site of spec.sites' : `one of: ${names.join(', ')}`,
    ...(near === null ? {} : { todo: `write ${near}` }),
  }
}
