import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { parseAllDocuments } from 'yaml'

type Json = Readonly<Record<string, unknown>>

interface Definition {
  readonly kind: string
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string }
    readonly versions: readonly { readonly name: string; readonly schema?: { readonly openAPIV3Schema?: Json } }[]
  }
}

/** Checks objects as an API server would with strict field validation; CEL rules and formats aside. */
export interface Crds {
  /** Null where no definition has this apiVersion and kind. A patch may leave required fields out. */
  readonly errors: (object: unknown, options?: { readonly patch?: boolean }) => readonly string[] | null
  /** Errors of a value that is to stand at a path of an object of that kind. */
  readonly errorsAt: (apiVersion: string, kind: string, path: readonly string[], value: unknown) => readonly string[]
}

export function readCrds(folder: string): Crds {
  const schemas = new Map<string, Json>()
  for (const file of readdirSync(folder).filter(name => name.endsWith('.yaml'))) {
    for (const document of parseAllDocuments(readFileSync(join(folder, file), 'utf8'))) {
      const definition = document.toJS() as Definition | null
      if (definition?.kind !== 'CustomResourceDefinition' || !Array.isArray(definition.spec.versions)) continue
      for (const version of definition.spec.versions) {
        const schema = version.schema?.openAPIV3Schema
        if (schema !== undefined)
          schemas.set(`${definition.spec.group}/${version.name} ${definition.spec.names.kind}`, schema)
      }
    }
  }
  // Patterns are written for Go's RE2, which allows escapes that JavaScript's unicode mode refuses.
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, unicodeRegExp: false })
  const compiled = new Map<string, ValidateFunction>()
  const validate = (id: string, value: unknown, make: () => Json): readonly string[] => {
    const known = compiled.get(id) ?? ajv.compile(make())
    compiled.set(id, known)
    known(value)
    return (known.errors ?? []).map(error => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`)
  }
  return {
    errors(object, options = {}) {
      const { apiVersion, kind } = object as { readonly apiVersion: string; readonly kind: string }
      const schema = schemas.get(`${apiVersion} ${kind}`)
      if (schema === undefined) return null
      const patch = options.patch === true
      return validate(`${apiVersion} ${kind} ${patch}`, object, () => rootSchema(schema, patch))
    },
    errorsAt(apiVersion, kind, path, value) {
      const schema = schemas.get(`${apiVersion} ${kind}`)
      if (schema === undefined) throw new Error(`no definition of ${apiVersion} ${kind}`)
      const part = path.reduce((node, key) => ((node.properties ?? {}) as Record<string, Json>)[key] ?? {}, schema)
      if (Object.keys(part).length === 0) throw new Error(`${kind} has no ${path.join('.')}`)
      return validate(`${apiVersion} ${kind} ${path.join('.')}`, value, () => converted(part, false))
    },
  }
}

const texts = { type: 'object', additionalProperties: { type: 'string' } }
const objectMeta = {
  type: 'object',
  required: ['name'],
  additionalProperties: false,
  properties: { name: { type: 'string' }, namespace: { type: 'string' }, labels: texts, annotations: texts },
}

/** A definition leaves apiVersion, kind and metadata to the server. */
function rootSchema(schema: Json, patch: boolean): Json {
  const root = converted(schema, patch)
  const properties = root.properties as Json
  return {
    ...root,
    required: [...new Set([...((root.required as string[] | undefined) ?? []), 'apiVersion', 'kind', 'metadata'])],
    properties: { ...properties, apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: objectMeta },
  }
}

/** A structural schema as JSON Schema: unknown fields, which the server would drop in silence, are errors. */
function converted(node: Json, patch: boolean): Json {
  const open = node['x-kubernetes-preserve-unknown-fields'] === true
  const schema: Record<string, unknown> = {}
  for (const key of [
    'enum',
    'pattern',
    'minimum',
    'maximum',
    'minLength',
    'maxLength',
    'minItems',
    'maxItems',
    'minProperties',
    'maxProperties',
  ]) {
    if (node[key] !== undefined) schema[key] = node[key]
  }
  if (node.required !== undefined && !patch) schema.required = node.required
  // Below these only values are restricted; which fields there are is said outside.
  for (const key of ['allOf', 'anyOf', 'oneOf', 'not']) if (node[key] !== undefined && !patch) schema[key] = node[key]
  if (node['x-kubernetes-int-or-string'] === true) {
    return { ...schema, type: ['integer', 'string'] }
  }
  if (typeof node.type === 'string') schema.type = node.nullable === true ? [node.type, 'null'] : node.type
  if (node.nullable === true && Array.isArray(schema.enum)) schema.enum = [...schema.enum, null]
  if (node.items !== undefined) schema.items = converted(node.items as Json, patch)
  if (node.properties !== undefined) {
    schema.properties = Object.fromEntries(
      Object.entries(node.properties as Record<string, Json>).map(([key, value]) => [key, converted(value, patch)]),
    )
  }
  if (typeof node.additionalProperties === 'object')
    schema.additionalProperties = converted(node.additionalProperties as Json, patch)
  else if (node.type === 'object') schema.additionalProperties = open || node.additionalProperties === true
  return schema
}
