/** Patterns in the syntax of .gitignore, as Flux's GitRepository takes them in `spec.ignore` and in `.sourceignore`. */
export interface IgnorePattern {
  readonly expression: RegExp
  readonly negated: boolean
  /** A trailing slash: only folders match. */
  readonly folderOnly: boolean
}

export function ignorePatterns(text: string, folder = ''): readonly IgnorePattern[] {
  const patterns: IgnorePattern[] = []
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.replace(/(?<!\\)\s+$/, '')
    if (line === '' || line.startsWith('#')) continue
    const negated = line.startsWith('!')
    const body = negated ? line.slice(1) : line
    const folderOnly = body.endsWith('/')
    const path = folderOnly ? body.slice(0, -1) : body
    const anchored = path.includes('/')
    const prefix = folder === '' ? '' : `${escaped(folder)}/`
    const expression = `^${prefix}${anchored ? '' : '(?:.*/)?'}${translated(path.replace(/^\//, ''))}$`
    patterns.push({ expression: new RegExp(expression), negated, folderOnly })
  }
  return patterns
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function translated(pattern: string): string {
  let result = ''
  for (const part of pattern.split(/(\*\*\/|\/\*\*$|\*|\?|\[[^\]]+\]|\\.)/)) {
    if (part === '**/') result += '(?:[^/]+/)*'
    else if (part === '/**') result += '/.*'
    else if (part === '*') result += '[^/]*'
    else if (part === '?') result += '[^/]'
    else if (/^\[.+\]$/.test(part)) result += part.replace(/^\[!/, '[^')
    else if (/^\\.$/.test(part)) result += escaped(part.slice(1))
    else result += escaped(part)
  }
  return result
}

/** Whether a file is left out: the last pattern that matches decides, and nothing below a folder that is left out comes back. */
export function isIgnored(path: string, patterns: readonly IgnorePattern[]): boolean {
  const parts = path.split('/')
  for (let length = 1; length <= parts.length; length++) {
    const here = parts.slice(0, length).join('/')
    const isFolder = length < parts.length
    let ignored = false
    for (const pattern of patterns) {
      if (pattern.folderOnly && !isFolder) continue
      if (pattern.expression.test(here)) ignored = !pattern.negated
    }
    if (ignored) return true
  }
  return false
}
