/**
 * Reads the block YAML that `yamlText` writes, and nothing else: null for any text that holds something it would not write, which
 * the caller then gives to a full YAML reader. plan.yaml of 1,000 sites has 16 MB, and a full reader builds a tree of nodes of half a
 * gigabyte for it; every `check` in CI reads one.
 */
export function readWrittenYaml(text: string): { readonly value: unknown } | null {
  try {
    const reader = new Reader(text)
    const value = reader.block(0)
    return reader.ended() ? { value } : null
  } catch (error) {
    if (error instanceof NotOurs) return null
    throw error
  }
}

class NotOurs extends Error {}

const literal = /^\|([-+]?)$/
/** A key that is written plain, or quoted as JSON; then the value, if it stands on the same line. */
const entry = /^([A-Za-z_$./][\w$./@-]*|\d[\w./-]*|"(?:[^"\\]|\\.)*"):(?: (.*))?$/s

class Reader {
  private readonly text: string
  private at = 0
  /** The present line without its indentation; null at the end. */
  private line: string | null = null
  private indent = 0

  constructor(text: string) {
    this.text = text
    // A comment stands at the top, and an empty line after it.
    const comment = /^(?:#[^\r\n]*\n)+\n/.exec(text)
    this.at = comment?.[0].length ?? 0
    this.next()
  }

  ended(): boolean {
    return this.line === null
  }

  /** A map or a list whose entries stand at this indentation. */
  block(indent: number): unknown {
    if (this.line === null || this.indent !== indent) throw new NotOurs()
    return isItem(this.line) ? this.list(indent) : this.map(indent)
  }

  private list(indent: number): unknown[] {
    const items: unknown[] = []
    while (this.line !== null && this.indent === indent && isItem(this.line)) {
      const rest = this.line.slice(2)
      if (isItem(rest) || entry.test(rest)) {
        // What follows the dash is a block of its own, two columns further in.
        this.line = rest
        this.indent = indent + 2
        items.push(this.block(indent + 2))
      } else {
        items.push(this.value(rest, indent))
      }
    }
    if (this.line !== null && this.indent > indent) throw new NotOurs()
    return items
  }

  private map(indent: number): Record<string, unknown> {
    const map: Record<string, unknown> = {}
    while (this.line !== null && this.indent === indent && !isItem(this.line)) {
      const found = entry.exec(this.line)
      const key = keyOf(found?.[1])
      if (found === null || Object.hasOwn(map, key)) throw new NotOurs()
      const rest = found[2]
      if (rest === undefined) {
        this.next()
        if (this.line === null || this.indent <= indent) throw new NotOurs()
        map[key] = this.block(this.indent)
      } else {
        map[key] = this.value(rest, indent)
      }
    }
    if (this.line !== null && this.indent > indent) throw new NotOurs()
    return map
  }

  private value(text: string, indent: number): unknown {
    const block = literal.exec(text)
    if (block !== null) return this.literal(block[1] ?? '', indent)
    this.next()
    return scalar(text)
  }

  /** Lines that are further in than `indent`, as they stand. */
  private literal(chomp: string, indent: number): string {
    const lines: string[] = []
    let depth: number | null = null
    for (;;) {
      const { text: line, end } = this.rawLine()
      if (line === null) break
      const blank = line.trim() === ''
      if (!blank) {
        const own = line.search(/[^ ]/)
        if (own <= indent) break
        depth ??= own
        if (own < depth) throw new NotOurs()
      } else if (line !== '') {
        throw new NotOurs()
      }
      lines.push(line)
      this.at = end
    }
    if (depth === null) throw new NotOurs()
    const inner = depth
    const whole = lines.map(line => line.slice(inner)).join('\n')
    // Trailing blank lines are kept only with `+`, which is not worth telling apart here.
    if (chomp === '+' || whole.endsWith('\n')) throw new NotOurs()
    this.next()
    return chomp === '-' ? whole : `${whole}\n`
  }

  private rawLine(): { readonly text: string | null; readonly end: number } {
    if (this.at >= this.text.length) return { text: null, end: this.at }
    const end = this.text.indexOf('\n', this.at)
    if (end === -1) throw new NotOurs()
    return { text: this.text.slice(this.at, end), end: end + 1 }
  }

  private next(): void {
    const { text, end } = this.rawLine()
    this.at = end
    this.line = null
    if (text === null) return
    this.indent = text.search(/[^ ]/)
    if (this.indent === -1 || text.includes('\t') || text.includes('\r')) throw new NotOurs()
    this.line = text.slice(this.indent)
  }
}

function isItem(line: string): boolean {
  return line.startsWith('- ')
}

function keyOf(text: string | undefined): string {
  if (text === undefined) throw new NotOurs()
  const value = text.startsWith('"') ? scalar(text) : plain(text)
  if (typeof value !== 'string' || value === '__proto__' || value === '<<') throw new NotOurs()
  return value
}

function scalar(text: string): unknown {
  if (text === '[]') return []
  if (text === '{}') return {}
  if (text.startsWith('"')) return quoted(text)
  return plain(text)
}

function quoted(text: string): string {
  // Of the escapes of YAML and JSON only these mean the same in both.
  if (!/^"(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"$/.test(text)) throw new NotOurs()
  return JSON.parse(text) as string
}

const words = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['null', null],
])
/** What YAML 1.1 takes for a boolean, for nothing, or for a number by a word. */
const special = /^(y|yes|n|no|on|off|true|false|null|~)$/i

/** A plain scalar that every version of YAML takes for the same value; anything that is less clear is not ours. */
function plain(text: string): unknown {
  if (words.has(text)) return words.get(text)
  if (/^(0|-?[1-9]\d{0,14})$/.test(text)) return Number(text)
  if (special.test(text) || !/^(?:[\w$/]|\.{1,2}\/)[^#]*$/.test(text) || /: |:$| $/.test(text)) throw new NotOurs()
  if (/^\d/.test(text) && (/^0(b[01_]*|o[0-7_]*|x[\da-f_]*)$/i.test(text) || !/[a-df-su-y]/i.test(text)))
    throw new NotOurs()
  return text
}
