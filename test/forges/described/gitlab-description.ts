import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { type Described, described } from './openapi.ts'

let loaded: Promise<Described | null> | null = null

/**
 * GitLab's own description (doc/api/openapi/openapi_v3.yaml of its repository), where REANCHOR_GITLAB_OPENAPI names a copy; null: none was given, since no
 * package registry has it.
 */
export function gitlabDescription(): Promise<Described | null> {
  loaded ??= read()
  return loaded
}

async function read(): Promise<Described | null> {
  const file = process.env.REANCHOR_GITLAB_OPENAPI
  if (file === undefined || file === '') return null
  return described(parse(await readFile(file, 'utf8'), { maxAliasCount: -1 }), {
    // Its generator writes lists down as one of their entries, and what can be null as what it is otherwise.
    listsAsEntries: true,
    nullsUnsaid: true,
    // Texts with commas is what its pages ask for, and all that older versions take.
    commaLists: ['add_labels'],
    // POST of a status.
    createdAsOk: true,
  })
}
