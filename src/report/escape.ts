/** Characters that hide, reorder or fake text: controls, soft hyphen, zero-width, bidirectional and line separators. */
const unseen = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu

/** One line in which every character shows. Subjects and names are chosen by others and must not fake a line of a report. */
export function visible(text: string): string {
  return text.replace(unseen, escapeUnit)
}

/**
 * Markdown in which the text stays text: a code span takes no markup, no mention, no reference and no HTML. A backtick would
 * end it and a bar would end a table's cell, so both are written as escapes.
 */
export function code(text: string): string {
  const safe = visible(text).replace(/[`|]/g, escapeUnit)
  return `\`${safe.trim() === '' ? '""' : safe}\``
}

/** Prose of our own with nothing in it that a forge would take for markup, a mention or a reference. */
export function prose(text: string): string {
  // A mention is looked for after entities are resolved, so an entity does not stop it: the zero-width space does.
  return visible(text)
    .replace(/[\\`*_{}[\]<>|~#&$]/g, char => `&#${char.charCodeAt(0)};`)
    .replace(/@/g, '@\u200b')
    .replace(/!(?=&)/g, '&#33;')
    .replace(/:\/\//g, '&#58;//')
    .replace(/\bwww\./gi, 'www&#46;')
}

/** Prose with `code` in backticks, as our own sentences have it: the spans become code, the rest is escaped. */
export function sentence(text: string): string {
  return text
    .split('`')
    .map((part, index) => (index % 2 === 0 ? prose(part) : code(part)))
    .join('')
}

/** Markdown of `prose` and `code` for a terminal, where entities are noise and nothing pings: the characters themselves, and still none that hides. */
export function terminalText(markdown: string): string {
  return markdown
    .split('\n')
    .map(line =>
      visible(
        line
          .replace(/&#(3[3-9]|[4-9]\d|1[01]\d|12[0-6]);/g, (_, at) => String.fromCharCode(Number(at)))
          .replace(/@\u200b/g, '@'),
      ),
    )
    .join('\n')
}

function escapeUnit(char: string): string {
  return Array.from(
    { length: char.length },
    (_, index) => `\\u${char.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('')
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

/** `a, b and c`, cut to `most` names: `a, b and 998 more`. */
export function listed(names: readonly string[], most = 4): string {
  if (names.length <= 1) return names[0] ?? ''
  if (names.length <= most) return `${names.slice(0, -1).join(', ')} and ${names.at(-1) ?? ''}`
  return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`
}
