import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as z from 'zod'
import type { SchemaNode } from './read.ts'
import { declarationSchema } from './schema.ts'

/** Names the schema; it is no address. The file itself ships in the package, under schemas/. */
export const schemaId = 'https://reanchor.dev/v1alpha1/rotation.schema.json'

/** The JSON Schema (2020-12) of what a user may write: fields with defaults are optional. */
export function jsonSchemaOf(schema: typeof declarationSchema): SchemaNode {
  return z.toJSONSchema(schema, { io: 'input' }) as SchemaNode
}

/** `schemas/rotation.schema.json`, byte for byte. */
export function rotationJsonSchema(): string {
  const { $schema, ...rest } = z.toJSONSchema(declarationSchema, { io: 'input' })
  return `${JSON.stringify({ $schema, $id: schemaId, ...rest }, null, 2)}\n`
}

/** Run as a script in the package's folder, after a build: `node dist/src/declaration/json-schema.js` writes the file anew. */
if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync('schemas/rotation.schema.json', rotationJsonSchema())
