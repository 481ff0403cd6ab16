import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import * as z from 'zod'
import type { SchemaNode } from './read.ts'
import { declarationSchema } from './schema.ts'

/** Names the schema; it is no address. The file itself ships in the package, under schemas/. */
const schemaId = 'https://reanchor.dev/v1alpha1/rotation.schema.json'

/** The JSON Schema (2020-12) of what a user may write: fields with defaults are optional. */
export function jsonSchemaOf(schema: typeof declarationSchema): SchemaNode {
  return z.toJSONSchema(schema, { io: 'input' }) as SchemaNode
}

/** `schemas/rotation.schema.json`, byte for byte. */
export function rotationJsonSchema(): string {
  const { $schema, ...rest } = z.toJSONSchema(declarationSchema, { io: 'input' })
  return `${JSON.stringify({ $schema, $id: schemaId, ...rest }, null, 2)}\n`
}

/** The table of fields in docs/rotation.yaml.md: one row for every field, in the order of the schema. */
export function fieldReference(): string {
  const rows: string[] = []
  const visit = (node: SchemaNode, path: string): void => {
    for (const branch of node.anyOf ?? []) visit(branch, path)
    for (const [name, field] of Object.entries(node.properties ?? {})) {
      const here = path === '' ? name : `${path}.${name}`
      // Two branches may share a field; the first one says what it is.
      if (!rows.some(row => row.startsWith(`| \`${here}\` |`)))
        rows.push(rowOf(here, field, node.required?.includes(name) === true))
      visit(field, here)
    }
    if (typeof node.additionalProperties === 'object') visit(node.additionalProperties, `${path}.*`)
    if (node.items !== undefined) visit(node.items, `${path}[]`)
  }
  visit(jsonSchemaOf(declarationSchema), '')
  return ['| field | what it is | default | example |', '|---|---|---|---|', ...rows].join('\n')
}

function rowOf(path: string, field: SchemaNode, required: boolean): string {
  const values = field.enum ?? field.items?.enum
  const choices =
    values === undefined || values.length < 2 ? '' : ` One of ${values.map(value => `\`${value}\``).join(', ')}.`
  const standard = required ? 'required' : field.default === undefined ? '' : `\`${flow(field.default)}\``
  const example = field.examples?.[0]
  const cells = [
    `\`${path}\``,
    `${field.description}${choices}`,
    standard,
    example === undefined ? '' : `\`${flow(example)}\``,
  ]
  return `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function flow(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', flowCollectionPadding: false, lineWidth: 0 }).trim()
}

const referenceStart = '<!-- fields -->\n'
const referenceEnd = '\n<!-- /fields -->'

/** A text with the table between its two marks replaced by the present one. Throws where the marks are missing. */
export function withFieldReference(text: string): string {
  const start = text.indexOf(referenceStart)
  const end = text.indexOf(referenceEnd)
  if (start === -1 || end < start) throw new Error('the marks of the table of fields are missing')
  return `${text.slice(0, start)}${referenceStart}${fieldReference()}${text.slice(end)}`
}

/** Run as a script in the package's folder, after a build: `node dist/src/declaration/json-schema.js` writes both files anew. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync('schemas/rotation.schema.json', rotationJsonSchema())
  const page = 'docs/rotation.yaml.md'
  writeFileSync(page, withFieldReference(readFileSync(page, 'utf8')))
}
