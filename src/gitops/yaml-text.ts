import { isPlain } from './manifests.ts'

export interface YamlStyle {
  readonly lineEnd: '\n' | '\r\n'
  /** Columns per level. */
  readonly indent: number
  /** Whether a list stands deeper than the key that holds it. */
  readonly indentLists: boolean
}

// Read as something else than text by YAML 1.1 or 1.2.
const notText =
  /^(?:|~|null|true|false|yes|no|on|off|y|n|[-+]?[.]?(?:inf|nan)|[-+.]?[0-9][-+0-9a-fA-FoOxXeE_.:TtZz]*)$/i

/** A value on one line, as it may stand in any context. */
export function flowText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flowText).join(', ')}]`
  if (isPlain(value)) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${flowText(key)}: ${flowText(item)}`)
      .join(', ')}}`
  }
  if (typeof value !== 'string') return JSON.stringify(value ?? null)
  const plain = /^[A-Za-z0-9_./$][A-Za-z0-9_./$+-]*$/.test(value) && !notText.test(value)
  return plain ? value : JSON.stringify(value)
}

/** A map or list in block style, one string per line; scalars and what is empty stand on one line. */
export function blockLines(value: unknown, column: number, style: YamlStyle): readonly string[] {
  const margin = ' '.repeat(column)
  if (Array.isArray(value) && value.length > 0) {
    return value.flatMap(item => {
      const [first, ...rest] = blockLines(item, column + 2, style)
      return [`${margin}- ${(first ?? '').trimStart()}`, ...rest]
    })
  }
  if (!isPlain(value) || Object.keys(value).length === 0) return [`${margin}${flowText(value)}`]
  return Object.entries(value).flatMap(([key, item]) => {
    const head = `${margin}${flowText(key)}:`
    if (Array.isArray(item) && item.length > 0)
      return [head, ...blockLines(item, style.indentLists ? column + style.indent : column, style)]
    if (isPlain(item) && Object.keys(item).length > 0) return [head, ...blockLines(item, column + style.indent, style)]
    return [`${head} ${flowText(item)}`]
  })
}
