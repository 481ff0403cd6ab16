import { flag, foundText, isMap, listOf, mapOf, matching, orNull, type Shape, text } from '../shape.ts'

/** Where a lock file is not what `Plan` says. */
export interface PlanProblem {
  /** `phases[2].steps[0].sites.eu-1.digest`. */
  readonly field: string
  readonly expected: string
  readonly found: string
}

/** Fields that are not listed are let be: a later version may have more. */
function map(fields: Readonly<Record<string, Shape>>): Shape {
  return (value, path) => {
    if (!isMap(value)) return { path, expected: 'a map', found: foundText(value) }
    for (const [name, shape] of Object.entries(fields)) {
      // An own field: `constructor` of every object is none of the file's.
      const problem = shape(Object.hasOwn(value, name) ? value[name] : undefined, [...path, name])
      if (problem !== null) return problem
    }
    return null
  }
}

function optional(shape: Shape): Shape {
  return (value, path) => (value === undefined ? null : shape(value, path))
}

const texts = listOf(text)
const number = matching('a number', value => typeof value === 'number' && Number.isFinite(value))

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
  sites: listOf(map({ name: text, path: text, cluster: optional(text) })),
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
export function planProblem(value: unknown): PlanProblem | null {
  const problem = planShape(value, [])
  if (problem === null) return null
  const { path, expected, found } = problem
  const field = path.map(part => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')
  return { field: field.replace(/^\./, ''), expected, found }
}
