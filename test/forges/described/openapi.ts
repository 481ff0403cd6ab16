/** An OpenAPI 3.0 description as something that requests and responses are held to. */
import { Ajv, type ValidateFunction } from 'ajv'
import type { Answer, Asked } from './server.ts'

type Json = Readonly<Record<string, unknown>>

/** A request, and which operation of the description it is for. */
export interface DescribedRequest extends Asked {
  readonly template: string
  readonly parameters: Readonly<Record<string, string>>
}

export interface Described {
  /** The path of the description that a request is for, with its parameters; null: there is none. */
  route(
    method: string,
    path: string,
  ): { readonly template: string; readonly parameters: Readonly<Record<string, string>> } | null
  /** What is wrong with a request; empty: nothing. */
  request(method: string, template: string, query: URLSearchParams, body: unknown): readonly string[]
  response(method: string, template: string, status: number, body: unknown): readonly string[]
  /** The first example of a success, or null. */
  example(method: string, template: string, status: number): unknown
}

interface Operation {
  readonly parameters?: readonly Json[]
  readonly requestBody?: Json
  readonly responses: Readonly<Record<string, Json>>
}

/** Where what a forge publishes falls short of what it does. */
export interface Shortcomings {
  /** Parameters of queries that hold for all operations that read, and stand in none. */
  readonly everywhere?: readonly string[]
  /** Fields of bodies that stand in its text alone, or are younger than it. */
  readonly unlisted?: readonly string[]
  /** Lists are described as one of their entries. */
  readonly listsAsEntries?: boolean
  /** No field is described as one that can be null, though answers have such. */
  readonly nullsUnsaid?: boolean
  /** Fields of bodies that are lists, and are taken as one text with commas too. */
  readonly commaLists?: readonly string[]
  /** What answers 201 is described as if it answered 200. */
  readonly createdAsOk?: boolean
}

export function described(document: Json, shortcomings: Shortcomings = {}): Described {
  const { everywhere = [], unlisted = [], commaLists = [] } = shortcomings
  const { listsAsEntries = false, nullsUnsaid = false, createdAsOk = false } = shortcomings
  const paths = document.paths as Readonly<Record<string, Readonly<Record<string, Operation>>>>
  const ajv = new Ajv({
    strict: false,
    validateFormats: false,
    allErrors: false,
    validateSchema: false,
    coerceTypes: false,
  })
  ajv.addSchema({ ...plain(document), $id: 'api' })
  const compiled = new Map<string, ValidateFunction>()
  const templates = Object.keys(paths).map(template => ({
    template,
    names: [...template.matchAll(/\{(\w+)\}/g)].map(found => found[1] ?? ''),
    // A longer literal part wins over a parameter.
    pattern: new RegExp(`^${template.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{\w+\}/g, '([^/]+)')}$`),
    literal: template.replace(/\{\w+\}/g, '').length,
  }))
  templates.sort((a, b) => b.literal - a.literal)

  function follow(value: unknown): Json {
    let found = value as Json
    while (typeof found.$ref === 'string') {
      let at: unknown = document
      for (const part of found.$ref.slice(2).split('/'))
        at = (at as Json)[part.replaceAll('~1', '/').replaceAll('~0', '~')]
      found = at as Json
    }
    return found
  }

  function operation(method: string, template: string): Operation {
    const found = paths[template]?.[method.toLowerCase()]
    if (found === undefined) throw new Error(`no operation ${method} ${template}`)
    return found
  }

  /** Of an object, and of all that it is made of; none where the description leaves them open. */
  function namesIn(schema: unknown): ReadonlySet<string> {
    const { properties, allOf } = follow(schema)
    const parts = Array.isArray(allOf) ? allOf.flatMap(part => [...namesIn(part)]) : []
    return new Set([...Object.keys((properties ?? {}) as Json), ...parts])
  }

  function check(schema: unknown, value: unknown, key: string): readonly string[] {
    let validate = compiled.get(key)
    if (validate === undefined) {
      validate = ajv.compile(absolute(plain(schema)) as Json)
      compiled.set(key, validate)
    }
    if (validate(value)) return []
    return (validate.errors ?? []).map(({ instancePath, message }) => `${key}: ${instancePath} ${message}`)
  }

  return {
    route(method, path) {
      for (const { template, names, pattern } of templates) {
        const found = pattern.exec(path)
        if (found === null || paths[template]?.[method.toLowerCase()] === undefined) continue
        const parameters = names.map((name, index) => [name, decodeURIComponent(found[index + 1] ?? '')])
        return { template, parameters: Object.fromEntries(parameters) }
      }
      return null
    },
    request(method, template, query, sent) {
      const body = apart(sent, commaLists)
      const { parameters = [], requestBody } = operation(method, template)
      const wrong: string[] = []
      const known = new Map(parameters.map(follow).map(one => [`${one.in}:${one.name}`, one]))
      for (const [name, text] of query) {
        const parameter = known.get(`query:${name}`)
        if (parameter === undefined && method === 'GET' && everywhere.includes(name)) continue
        if (parameter === undefined) wrong.push(`query ${name} is not described`)
        else
          wrong.push(
            ...check(parameter.schema, typed(follow(parameter.schema), text), `${method} ${template} ?${name}`),
          )
      }
      for (const one of known.values())
        if (one.in === 'query' && one.required === true && !query.has(String(one.name)))
          wrong.push(`query ${one.name} is missing`)
      const described = requestBody === undefined ? null : follow(requestBody)
      const schema = (described?.content as Json | undefined)?.['application/json'] as Json | undefined
      if (body !== undefined && schema === undefined) wrong.push('a body that is not described')
      if (body === undefined && described?.required === true) wrong.push('no body')
      if (body !== undefined && schema !== undefined) {
        wrong.push(...check(schema.schema, body, `${method} ${template} body`))
        const names = namesIn(schema.schema)
        // A request is held to name no field that the description does not: a server would ignore it.
        for (const name of Object.keys(body as Json))
          if (names.size > 0 && !names.has(name) && !unlisted.includes(name))
            wrong.push(`body field ${name} is not described`)
      }
      return wrong
    },
    response(method, template, status, answered) {
      const { responses } = operation(method, template)
      const found = responses[String(status)] ?? (status === 201 && createdAsOk ? responses['200'] : undefined)
      if (found === undefined) return [`status ${status} is not described`]
      const schema = ((follow(found).content as Json | undefined)?.['application/json'] as Json | undefined)?.schema
      if (schema === undefined) return []
      const body = nullsUnsaid ? withoutNulls(answered) : answered
      const key = `${method} ${template} ${status}`
      if (!listsAsEntries || !Array.isArray(body) || follow(schema).type === 'array') return check(schema, body, key)
      return body.flatMap(entry => check(schema, entry, key))
    },
    example(method, template, status) {
      const found = operation(method, template).responses[String(status)]
      const content = ((found === undefined ? {} : follow(found)).content as Json | undefined)?.['application/json'] as
        | Json
        | undefined
      const [first] = Object.values((content?.examples ?? {}) as Readonly<Record<string, Json>>)
      return first === undefined ? null : structuredClone(follow(first).value)
    },
  }
}

/**
 * Holds a request to the description, has it answered, and holds the answer to it too, but for statuses that `isUnsaid` names. Throws for what is not as
 * described.
 */
export function heldTo(
  api: Described,
  /** Null: a path that the description cannot have. */
  path: string | null,
  asked: Asked,
  answered: (request: DescribedRequest) => Answer,
  isUnsaid: (status: number) => boolean,
): Answer {
  const { method, query, body } = asked
  const found = path === null ? null : api.route(method, path)
  if (found === null) throw new Error(`${method} ${asked.path} is no operation that is described`)
  const wrong = api.request(method, found.template, query, body)
  if (wrong.length > 0) throw new Error(`the request is not as described: ${wrong.join('; ')}`)
  const answer = answered({ ...asked, ...found })
  const bad = isUnsaid(answer.status) ? [] : api.response(method, found.template, answer.status, answer.body)
  if (bad.length > 0) throw new Error(`the answer is not as described: ${bad.join('; ')}`)
  return answer
}

/** Errors outside of a description are the gateway's: no right, no such repository. */
export function isGateways(status: number): boolean {
  return [401, 403, 404].includes(status)
}

function apart(body: unknown, fields: readonly string[]): unknown {
  if (fields.length === 0 || typeof body !== 'object' || body === null) return body
  const entries = Object.entries(body).map(([key, value]) => [
    key,
    fields.includes(key) && typeof value === 'string' ? value.split(',') : value,
  ])
  return Object.fromEntries(entries)
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (typeof value !== 'object' || value === null) return value
  const said = Object.entries(value).filter(([, inner]) => inner !== null)
  return Object.fromEntries(said.map(([key, inner]) => [key, withoutNulls(inner)]))
}

function typed(schema: Json, text: string): unknown {
  if (schema.type === 'integer' || schema.type === 'number') return Number(text)
  if (schema.type === 'boolean') return text === 'true'
  if (schema.type === 'array') return text.split(',')
  return text
}

/** `nullable` of OpenAPI 3.0 in the words of JSON Schema. */
function plain(value: unknown): Json {
  const walk = (one: unknown): unknown => {
    if (Array.isArray(one)) return one.map(walk)
    if (typeof one !== 'object' || one === null) return one
    const { nullable, ...rest } = Object.fromEntries(Object.entries(one).map(([key, inner]) => [key, walk(inner)]))
    // A schema that has a property of this name has an object there.
    if (nullable !== true) return nullable === undefined || nullable === false ? rest : { ...rest, nullable }
    return { anyOf: [rest, { type: 'null' }] }
  }
  return walk(value) as Json
}

/** References of a part of the document, when it is compiled by itself. */
function absolute(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(absolute)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [
    key,
    key === '$ref' && typeof inner === 'string' && inner.startsWith('#') ? `api${inner}` : absolute(inner),
  ])
  return Object.fromEntries(entries)
}
