/** A unified diff of two folders for people to read. */
import { findPrivateKeys } from '../custody/leak.ts'
import type { FileTree } from '../rotation.ts'
import { asFile, type FileBytes, type Folder } from './tree-digest.ts'

/**
 * Files in the order of their paths, three lines of context, `''` where nothing differs. A file that holds private key
 * material on either side is named and not shown; control characters are written as escapes, so that a terminal shows
 * them instead of obeying.
 */
export function folderDiff(before: FileTree | Folder, after: FileTree | Folder): string {
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort()
  return paths.map(path => fileDiff(path, before.get(path), after.get(path))).join('')
}

function fileDiff(path: string, was: string | FileBytes | undefined, is: string | FileBytes | undefined): string {
  const a = was === undefined ? null : asFile(was)
  const b = is === undefined ? null : asFile(is)
  const [left, right] = [Buffer.from(a?.bytes ?? []), Buffer.from(b?.bytes ?? [])]
  if (a?.mode === b?.mode && left.equals(right)) return ''

  const name = visible(path)
  const head = [`diff --git a/${name} b/${name}`]
  if (a === null && b !== null) head.push(`new file mode ${b.mode}`)
  if (b === null && a !== null) head.push(`deleted file mode ${a.mode}`)
  if (a !== null && b !== null && a.mode !== b.mode) head.push(`old mode ${a.mode}`, `new mode ${b.mode}`)
  if (left.equals(right)) return `${head.join('\n')}\n`

  head.push(a === null ? '--- /dev/null' : `--- a/${name}`, b === null ? '+++ /dev/null' : `+++ b/${name}`)
  const secret = [...findPrivateKeys(left), ...findPrivateKeys(right)][0]
  if (secret !== undefined) return `${head.join('\n')}\n(holds private key material, ${secret.kind}: not shown)\n`
  if (!isText(left) || !isText(right)) return `${head.join('\n')}\n(not text: not shown)\n`
  return `${[...head, ...hunks(lines(left), lines(right))].join('\n')}\n`
}

function isText(bytes: Buffer): boolean {
  return !bytes.includes(0) && Buffer.from(bytes.toString('utf8'), 'utf8').equals(bytes)
}

/** Lines with their line ends, so that a missing final newline is a difference. */
function lines(bytes: Buffer): readonly string[] {
  return bytes.toString('utf8').match(/[^\n]*\n|[^\n]+$/g) ?? []
}

function visible(text: string): string {
  return text.replace(/(?!\t)[\p{Cc}\p{Cf}]/gu, found => {
    const code = found.codePointAt(0) ?? 0
    if (found === '\r') return '\\r'
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

type Edit = readonly [' ' | '-' | '+', string]

function hunks(before: readonly string[], after: readonly string[]): readonly string[] {
  const edits = lineEdits(before, after)
  const output: string[] = []
  const context = 3
  let at = 0
  while (at < edits.length) {
    const first = edits.findIndex((edit, index) => index >= at && edit[0] !== ' ')
    if (first < 0) break
    let last = first
    for (let index = first; index < edits.length && index - last <= 2 * context; index += 1) {
      if (edits[index]?.[0] !== ' ') last = index
    }
    const start = Math.max(at, first - context)
    const end = Math.min(edits.length, last + context + 1)
    const part = edits.slice(start, end)
    const earlier = edits.slice(0, start)
    const count = (list: readonly Edit[], but: '-' | '+'): number => list.filter(edit => edit[0] !== but).length
    output.push(
      `@@ -${range(count(earlier, '+'), count(part, '+'))} +${range(count(earlier, '-'), count(part, '-'))} @@`,
    )
    for (const [sign, line] of part) {
      output.push(sign + visible(line.endsWith('\n') ? line.slice(0, -1) : line))
      if (!line.endsWith('\n')) output.push('\\ No newline at end of file')
    }
    at = end
  }
  return output
}

function range(earlier: number, count: number): string {
  return `${count === 0 ? earlier : earlier + 1},${count}`
}

/** Beyond this many differing lines the middle is shown as replaced: the search is quadratic in it. */
const mostEdits = 1500

/** Myers, An O(ND) Difference Algorithm and Its Variations (1986), figure 2, between the common ends. */
function lineEdits(before: readonly string[], after: readonly string[]): readonly Edit[] {
  let head = 0
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1
  let tail = 0
  const most = Math.min(before.length, after.length) - head
  while (tail < most && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1
  const a = before.slice(head, before.length - tail)
  const b = after.slice(head, after.length - tail)
  const same = (line: string): Edit => [' ', line]
  return [
    ...before.slice(0, head).map(same),
    ...(shortest(a, b) ?? [...a.map((line): Edit => ['-', line]), ...b.map((line): Edit => ['+', line])]),
    ...before.slice(before.length - tail).map(same),
  ]
}

function shortest(a: readonly string[], b: readonly string[]): readonly Edit[] | null {
  const limit = Math.min(a.length + b.length, mostEdits)
  const trace: Map<number, number>[] = []
  let furthest = new Map<number, number>([[1, 0]])
  for (let d = 0; d <= limit; d += 1) {
    trace.push(furthest)
    const next = new Map(furthest)
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && (furthest.get(k - 1) ?? -1) < (furthest.get(k + 1) ?? -1))
      let x = down ? (furthest.get(k + 1) ?? 0) : (furthest.get(k - 1) ?? 0) + 1
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1
      next.set(k, x)
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, [...trace, next], d)
    }
    furthest = next
  }
  return null
}

function walkBack(
  a: readonly string[],
  b: readonly string[],
  trace: readonly ReadonlyMap<number, number>[],
  distance: number,
): readonly Edit[] {
  const edits: Edit[] = []
  let [x, y] = [a.length, b.length]
  for (let d = distance; d >= 0; d -= 1) {
    const furthest = trace[d] as ReadonlyMap<number, number>
    const k = x - y
    const down = k === -d || (k !== d && (furthest.get(k - 1) ?? -1) < (furthest.get(k + 1) ?? -1))
    const previous = down ? k + 1 : k - 1
    const startX = d === 0 ? 0 : (furthest.get(previous) ?? 0)
    const startY = d === 0 ? 0 : startX - previous
    while (x > startX && y > startY) {
      x -= 1
      y -= 1
      edits.push([' ', a[x] as string])
    }
    if (d === 0) break
    if (down) edits.push(['+', b[--y] as string])
    else edits.push(['-', a[--x] as string])
  }
  return edits.reverse()
}
