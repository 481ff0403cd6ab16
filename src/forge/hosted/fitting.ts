const cutOff = '\n\n… cut off here: this forge takes no more. `reanchor status` and `reanchor diff` show all.'

/**
 * A text in at most `limit` UTF-16 units, which is as many characters or more as any forge counts. Texts of pull requests are summarised before they come
 * here; this is for what others wrote, and for what nobody foresaw.
 */
export function fitting(text: string, limit: number): string {
  if (text.length <= limit) return text
  const end = limit > 2 * cutOff.length ? cutOff : '…'
  // Not between the halves of a character.
  const head = text.slice(0, limit - end.length).replace(/[\uD800-\uDBFF]$/, '')
  const fences = head.match(/^```/gm)?.length ?? 0
  if (end === '…' || fences % 2 === 0) return head + end
  return `${head.slice(0, -4)}\n\`\`\`${end}`
}
