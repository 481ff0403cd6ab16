/** Where a lock file is not what `Plan` says. */
export interface ShapeProblem {
  /** `phases[2].steps[0].sites.eu-1.digest`. */
  readonly field: string
  readonly expected: string
  readonly found: string
}

type Shape = (value: unknown, field: string) => ShapeProblem | null

function matching(expected: string, is: (value: unknown) => boolean): Shape {
  return (value, field) => (is(value) ? null : { field, expected, found: shown(value) })
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 59)}…` : text
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Fields that are not listed are let be: a later version may have more. */
function map(fields: Readonly<Record<string, Shape>>): Shape {
  return (value, field) => {
    if (!isMap(value)) return { field, expected: 'a map', found: shown(value) }
    for (const [name, shape] of Object.entries(fields)) {
      // An own field: `constructor` of every object is none of the file's.
      const problem = shape(Object.hasOwn(value, name) ? value[name] : undefined, `${field}.${name}`)
      if (problem !== null) return problem
    }
    return null
  }
}

function listOf(shape: Shape): Shape {
  return (value, field) => {
    if (!Array.isArray(value)) return { field, expected: 'a list', found: shown(value) }
    return first(value.entries(), ([index, item]) => shape(item, `${field}[${index}]`))
  }
}

function mapOf(shape: Shape): Shape {
  return (value, field) => {
    if (!isMap(value)) return { field, expected: 'a map', found: shown(value) }
    return first(Object.entries(value), ([name, item]) => shape(item, `${field}.${name}`))
  }
}

function first<T>(items: Iterable<T>, problemOf: (item: T) => ShapeProblem | null): ShapeProblem | null {
  for (const item of items) {
    const problem = problemOf(item)
    if (problem !== null) return problem
  }
  return null
}

function orNull(shape: Shape): Shape {
  return (value, field) => (value === null ? null : shape(value, field))
}

function optional(shape: Shape): Shape {
  return (value, field) => (value === undefined ? null : shape(value, field))
}

const text = matching('text', value => typeof value === 'string')
const texts = listOf(text)
const number = matching('a number', value => typeof value === 'number' && Number.isFinite(value))
const flag = matching('true or false', value => typeof value === 'boolean')

const tree = {
  digest: text,
  state: map({
    bundle: texts,
    issuer: text,
    chain: texts,
    source: text,
    settings: mapOf(text),
    restarts: mapOf(text),
  }),
}

const planShape = map({
  metadata: map({ name: text }),
  createdAt: text,
  system: text,
  strategy: text,
  base: text,
  follows: optional(text),
  inputs: map({ declaration: text, material: text, next: text }),
  certificates: listOf(
    map({
      sha256: text,
      spki: text,
      subject: text,
      issuer: text,
      serial: text,
      notBefore: text,
      notAfter: text,
      key: text,
      ski: orNull(text),
      aki: orNull(text),
      ca: flag,
      pathLength: orNull(number),
      pem: text,
      role: text,
      sites: texts,
      file: text,
    }),
  ),
  sites: listOf(map({ name: text, path: text })),
  batches: listOf(texts),
  phases: listOf(
    map({
      number,
      name: text,
      title: text,
      steps: listOf(
        map({
          number,
          name: text,
          what: text,
          sites: mapOf(map({ ...tree, undo: orNull(map(tree)), nudge: orNull(map(tree)) })),
        }),
      ),
    }),
  ),
  wiring: listOf(map({ site: text, file: text, purpose: text, edit: map({ kind: text }) })),
  canaries: mapOf(text),
  gates: map({ hold: number, fresh: number, settle: number, attest: listOf(map({ name: text, why: text })) }),
  leafHours: number,
  parties: texts,
  formerDigests: mapOf(text),
})

/** The first thing in a lock file that is not of the kind that it has to be; null: there is none. */
export function planProblem(value: unknown): ShapeProblem | null {
  const problem = planShape(value, '')
  return problem === null ? null : { ...problem, field: problem.field.replace(/^\./, '') }
}
