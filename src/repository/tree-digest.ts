/** The digest that tells which step a site's folder holds. */
import { createHash } from 'node:crypto'
import type { Digest, FileTree } from '../rotation.ts'

export interface FileBytes {
  /** As Git writes it: 100644, 100755, 120000 (symbolic link, bytes are its target), 160000 (submodule, bytes are its commit). */
  readonly mode: string
  readonly bytes: Uint8Array
}

/** A folder with modes and exact bytes; paths are relative to the folder. */
export type Folder = ReadonlyMap<string, FileBytes>

/** SHA-256 over the lines `mode path\0sha256\n`, sorted by their bytes. Text counts as UTF-8 with mode 100644. */
export function treeDigest(files: FileTree | Folder): Digest {
  const lines: Buffer[] = []
  for (const [path, file] of files) {
    const { mode, bytes } = asFile(file)
    lines.push(Buffer.from(`${mode} ${path}\0${sha256(bytes)}\n`, 'utf8'))
  }
  lines.sort(Buffer.compare)
  return sha256(Buffer.concat(lines))
}

/** Text becomes a regular file. */
export function asFile(file: string | FileBytes): FileBytes {
  return typeof file === 'string' ? { mode: '100644', bytes: Buffer.from(file, 'utf8') } : file
}

function sha256(bytes: Uint8Array): Digest {
  return createHash('sha256').update(bytes).digest('hex')
}
