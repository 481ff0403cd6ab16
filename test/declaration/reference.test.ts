import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { fieldReference, withFieldReference } from '../../src/declaration/json-schema.ts'
import { readDeclaration } from '../../src/declaration/read.ts'

const page = readFileSync(new URL('../../docs/rotation.yaml.md', import.meta.url), 'utf8')

/** Every field of the committed schema, by a walk of its own: as the table names them. */
function fieldsOf(node: unknown, path = ''): readonly string[] {
  if (typeof node !== 'object' || node === null) return []
  const { properties, additionalProperties, items, anyOf } = node as Record<string, unknown>
  const named = Object.entries((properties ?? {}) as Record<string, unknown>).flatMap(([name, field]) => {
    const here = path === '' ? name : `${path}.${name}`
    return [here, ...fieldsOf(field, here)]
  })
  const branches = ((anyOf ?? []) as unknown[]).flatMap(branch => fieldsOf(branch, path))
  return [...named, ...branches, ...fieldsOf(additionalProperties, `${path}.*`), ...fieldsOf(items, `${path}[]`)]
}

test('the page mentions every field of the schema', () => {
  const schema: unknown = JSON.parse(
    readFileSync(new URL('../../schemas/rotation.schema.json', import.meta.url), 'utf8'),
  )
  const fields = fieldsOf(schema)
  expect(fields.length).toBeGreaterThan(80)
  expect(fields.filter(field => !page.includes(`| \`${field}\` |`))).toEqual([])
})

test('the table of fields is current: build, then node dist/src/declaration/json-schema.js', () => {
  expect(page).toBe(withFieldReference(page))
  expect(fieldReference()).not.toContain('undefined')
})

test("the page's shortest declaration is one", async () => {
  const block = /## The shortest one\n\n((?: {4}.*\n)+)/.exec(page)?.[1] ?? ''
  const declaration = await readDeclaration(block.replaceAll(/^ {4}/gm, ''), 'rotations/mesh-2026/rotation.yaml')
  expect(declaration.sites.map(site => site.name)).toEqual(['eu-1'])
})

test('every default of the table that can be read is legal', async () => {
  const { declarationSchema } = await import('../../src/declaration/schema.ts')
  const shortest = declarationSchema.shape.spec.shape
  for (const name of ['forge', 'current', 'next', 'custody', 'rollout', 'gates', 'reload'] as const) {
    expect(shortest[name].safeParse(undefined).success, name).toBe(true)
  }
})
