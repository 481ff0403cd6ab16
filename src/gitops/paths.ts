import type { FileTree } from '../rotation.ts'

/**
 * A path inside the repository from a folder and a relative path: no leading or trailing slash, '' for the root.
 * Null where it is absolute or leaves the repository.
 */
export function inRepository(folder: string, relative: string): string | null {
  if (relative.startsWith('/')) return null
  return resolve(folder, relative)
}

/** As `inRepository`, for paths that count from the root with or without a leading `/` or `./`. */
export function fromRoot(path: string): string | null {
  return resolve('', path)
}

function resolve(folder: string, relative: string): string | null {
  const parts = folder === '' ? [] : folder.split('/')
  for (const part of relative.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') {
      parts.push(part)
      continue
    }
    if (parts.pop() === undefined) return null
  }
  return parts.join('/')
}

/** The folder that holds a path; '' for the root. */
export function folderOf(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash === -1 ? '' : path.slice(0, slash)
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

export function join(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`
}

/** Whether `path` is `folder` or lies below it. */
export function isUnder(path: string, folder: string): boolean {
  return folder === '' || path === folder || path.startsWith(`${folder}/`)
}

interface FolderEntry {
  readonly files: string[]
  readonly folders: Set<string>
}

const folderIndexes = new WeakMap<FileTree, Map<string, FolderEntry>>()

/** Files and folders right inside a folder, full paths, sorted; null where there is no such folder. */
export function listFolder(
  files: FileTree,
  folder: string,
): { readonly files: readonly string[]; readonly folders: readonly string[] } | null {
  const entry = folderIndex(files).get(folder)
  if (entry === undefined) return null
  return { files: [...entry.files].sort(), folders: [...entry.folders].sort() }
}

export function isFolder(files: FileTree, folder: string): boolean {
  return folderIndex(files).has(folder)
}

function folderIndex(files: FileTree): Map<string, FolderEntry> {
  const known = folderIndexes.get(files)
  if (known !== undefined) return known
  const index = new Map<string, FolderEntry>([['', { files: [], folders: new Set() }]])
  for (const path of files.keys()) {
    let folder = folderOf(path)
    entryOf(index, folder).files.push(path)
    while (folder !== '') {
      const parent = folderOf(folder)
      entryOf(index, parent).folders.add(folder)
      folder = parent
    }
  }
  folderIndexes.set(files, index)
  return index
}

function entryOf(index: Map<string, FolderEntry>, folder: string): FolderEntry {
  const known = index.get(folder)
  if (known !== undefined) return known
  const entry: FolderEntry = { files: [], folders: new Set() }
  index.set(folder, entry)
  return entry
}
