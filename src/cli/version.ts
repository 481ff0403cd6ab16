import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Version of this package, from the nearest package.json above this file (sources and build lie at different depths). */
export function packageVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  for (;;) {
    try {
      const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
        name?: string
        version?: string
      }
      if (manifest.name === 'reanchor' && manifest.version !== undefined) return manifest.version
    } catch {
      // No package.json at this depth.
    }
    const parent = dirname(folder)
    if (parent === folder) throw new Error('the package.json of reanchor is missing')
    folder = parent
  }
}
