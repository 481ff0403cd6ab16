/** The few things that colour says; each is a function from text to text, so that no colour is a choice like any other. */
export interface Paint {
  readonly good: (text: string) => string
  readonly bad: (text: string) => string
  readonly wait: (text: string) => string
  readonly faint: (text: string) => string
  readonly strong: (text: string) => string
}

const same = (text: string): string => text

export const noPaint: Paint = { good: same, bad: same, wait: same, faint: same, strong: same }

/** The colours that picocolors (or anything like it) makes: `paintWith(picocolors.createColors(true))`. */
export function paintWith(colors: {
  readonly green: (text: string) => string
  readonly red: (text: string) => string
  readonly yellow: (text: string) => string
  readonly dim: (text: string) => string
  readonly bold: (text: string) => string
}): Paint {
  return { good: colors.green, bad: colors.red, wait: colors.yellow, faint: colors.dim, strong: colors.bold }
}

/** Lines no longer than `width`, broken at spaces; `indent` stands before every line but the first. */
export function wrapped(text: string, width: number, indent: string): string {
  const lead = /^ */.exec(text)?.[0] ?? ''
  const lines: string[] = []
  let line = lead
  for (const [index, word] of text.slice(lead.length).split(' ').entries()) {
    const start = lines.length === 0 ? lead.length : indent.length
    if (line.length > start && line.length + 1 + word.length > Math.max(width, start + 20)) {
      lines.push(line)
      line = indent + word
    } else line = index === 0 ? line + word : `${line} ${word}`
  }
  lines.push(line)
  return lines.join('\n')
}

/** Columns as wide as their widest cell; the last one is not padded. Padding is counted on the plain text. */
export function columns(
  rows: readonly (readonly string[])[],
  paint: (cell: string, row: number, column: number) => string = same,
): readonly string[] {
  const widths: number[] = []
  for (const row of rows)
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length)
  return rows.map((row, at) =>
    row
      .map((cell, index) => {
        const padding = index === row.length - 1 ? '' : ' '.repeat((widths[index] ?? 0) - cell.length)
        return paint(cell, at, index) + padding
      })
      .join('  ')
      .trimEnd(),
  )
}
