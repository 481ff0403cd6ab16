import { parseAllDocuments } from 'yaml'
import { canonicalJson, list, record, text } from '../verify/values.ts'

type Texts = ReadonlyMap<string, string>

/**
 * Whether a folder declares after a change what it declared before: manifests that differ in comments and format alone, and files beside them that no
 * tool reads. What cannot be parsed is not the same.
 */
export function saysTheSame(before: Texts, after: Texts): boolean {
  if ([...before.keys()].some(path => !after.has(path))) return false
  return [...after].every(([path, now]) => {
    const old = before.get(path)
    if (old === now) return true
    if (old === undefined) return /\.(md|txt)$/.test(path)
    if (!/\.ya?ml$/.test(path)) return false
    const [was, is] = [meaningOf(old), meaningOf(now)]
    return was !== null && was === is
  })
}

/** Files that the folder's kustomization.yaml lists as resources. */
export function resourcesOf(folder: Texts): ReadonlySet<string> {
  return new Set(list(kustomization(folder).resources).flatMap(path => text(path)?.replace(/^\.\//, '') ?? []))
}

/** Whether the folder's kustomization.yaml changes in more than what it lists: a patch makes another object of the very same file. */
export function buildsOtherwise(before: Texts, after: Texts): boolean {
  const rest = (folder: Texts): string => canonicalJson({ ...kustomization(folder), resources: [] })
  return before.has('kustomization.yaml') && rest(before) !== rest(after)
}

/** The one read last: the folders of a fleet's sites mostly have the same. */
let lately: { readonly written: string; readonly read: Readonly<Record<string, unknown>> } | null = null

function kustomization(folder: Texts): Readonly<Record<string, unknown>> {
  const written = folder.get('kustomization.yaml') ?? ''
  if (lately?.written !== written) lately = { written, read: record(documentsOf(written)?.[0]) }
  return lately.read
}

function meaningOf(written: string): string | null {
  const documents = documentsOf(written)
  return documents === null ? null : canonicalJson(documents)
}

function documentsOf(written: string): readonly unknown[] | null {
  const documents = parseAllDocuments(written)
  if (!Array.isArray(documents) || documents.some(({ errors }) => errors.length > 0)) return null
  try {
    return documents.map(document => document.toJS({ maxAliasCount: 0 }))
  } catch {
    return null
  }
}
