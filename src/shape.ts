/** Where a value that was read is not of the shape that it has to have. */
export interface ShapeProblem {
  /** Names of fields and places in lists, from the outside in. */
  readonly path: Path
  readonly expected: string
  readonly found: string
}

export type Path = readonly (string | number)[]

/** Gives the first problem of a value that stands at a path; null: there is none. */
export type Shape = (value: unknown, path: Path) => ShapeProblem | null

export function matching(expected: string, accepts: (value: unknown) => boolean): Shape {
  return (value, path) => (accepts(value) ? null : { path, expected, found: foundText(value) })
}

/** A value in a message, cut to 80 characters. */
export function foundText(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function listOf(shape: Shape): Shape {
  return (value, path) => {
    if (!Array.isArray(value)) return { path, expected: 'a list', found: foundText(value) }
    return firstProblem(value.entries(), shape, path)
  }
}

export function mapOf(shape: Shape): Shape {
  return (value, path) => {
    if (!isMap(value)) return { path, expected: 'a map', found: foundText(value) }
    return firstProblem(Object.entries(value), shape, path)
  }
}

function firstProblem(
  items: Iterable<readonly [string | number, unknown]>,
  shape: Shape,
  path: Path,
): ShapeProblem | null {
  for (const [name, item] of items) {
    const problem = shape(item, [...path, name])
    if (problem !== null) return problem
  }
  return null
}

export function orNull(shape: Shape): Shape {
  return (value, path) => (value === null ? null : shape(value, path))
}

export const text = matching('text', value => typeof value === 'string')
export const flag = matching('true or false', value => typeof value === 'boolean')
