import type { Proof } from '../rotation.ts'
import { plural, visible } from './escape.ts'
import { columns, noPaint, wrapped } from './paint.ts'
import type { TextOptions } from './status.ts'

const mostRows = 200

/** The safety table of a plan; for one that is not safe, the smallest counterexample of each transition that breaks, first. */
export function proveText(proof: Proof, options: TextOptions = {}): string {
  const paint = options.paint ?? noPaint
  const width = options.width ?? 100
  const lines: string[] = []
  const broken = proof.transitions.filter(row => row.counterexample !== null)
  // What breaks must be on the screen even of a plan with a thousand sites.
  const shown =
    proof.transitions.length <= mostRows
      ? proof.transitions
      : [...broken, ...proof.transitions.filter(row => row.counterexample === null)].slice(0, mostRows)
  const rows = shown.map(row => [
    visible(row.from),
    visible(row.to),
    row.site === '*' ? 'across sites' : visible(row.site),
    String(row.mixes),
    String(row.handshakes),
    row.counterexample === null ? 'safe' : 'BREAKS',
    row.goodUntil?.slice(0, 10) ?? '',
  ])
  const table = columns(
    [['from', 'to', 'sites', 'mixes', 'handshakes', '', 'good until'], ...rows],
    (cell, row, column) => {
      if (row === 0) return paint.strong(cell)
      if (column !== 5) return cell
      return cell === 'safe' ? paint.good(cell) : paint.bad(cell)
    },
  )
  lines.push(...table)
  if (shown.length < proof.transitions.length)
    lines.push(paint.faint(`and ${plural(proof.transitions.length - shown.length, 'more transition')}`))
  for (const row of broken.slice(0, 10)) {
    lines.push('', paint.bad(`${visible(row.from)} to ${visible(row.to)} breaks ${row.counterexample?.link ?? ''}:`))
    lines.push(wrapped(`  ${visible(row.counterexample?.sentence ?? '')}`, width, '  '))
  }
  for (const note of proof.notes) lines.push('', wrapped(`note: ${visible(note)}`, width, '      '))
  const handshakes = proof.transitions.reduce((sum, row) => sum + row.handshakes, 0)
  const count = `${plural(proof.transitions.length, 'transition')}, ${plural(handshakes, 'handshake')}`
  lines.push(
    '',
    proof.safe
      ? paint.good(`safe: ${count}, none fails`)
      : paint.bad(`not safe: ${count}, ${plural(broken.length, 'transition breaks', 'transitions break')}`),
  )
  return `${lines.join('\n')}\n`
}
