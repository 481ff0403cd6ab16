/** Reads the JSON of a list while it arrives. */
export interface ListReader {
  push(chunk: Uint8Array): void
  /** Items that are whole and were not given before. Throws `SyntaxError` where one is not JSON. */
  items(): readonly unknown[]
  /** The list without the items that were given. Throws `SyntaxError` where it is not JSON. */
  end(): unknown
}

const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const backslash = 0x5c
const [openBracket, closeBracket, openBrace, closeBrace] = [0x5b, 0x5d, 0x7b, 0x7d]

/**
 * Cuts the objects of the root's array `items` out and parses each by itself. The text of a whole page is so large that V8 keeps it until its
 * next full collection, and a list of a hundred thousand pods has hundreds of megabytes of such pages.
 */
export function listReader(): ListReader {
  const whole: unknown[] = []
  const rest: Buffer[] = []
  let item: Buffer[] = []
  let depth = 0
  let inText = false
  let escaped = false
  let inItems = false
  let inItem = false
  /** Bytes of the last text directly in the root: its key, once a colon follows. */
  let text: number[] = []
  let key = ''

  function keep(part: Buffer): void {
    if (part.length > 0) (inItem ? item : rest).push(part)
  }

  return {
    push(bytes) {
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      let from = 0
      for (let index = 0; index < chunk.length; index += 1) {
        const byte = chunk[index] as number
        if (inText) {
          if (escaped) escaped = false
          else if (byte === backslash) escaped = true
          else if (byte === quote) inText = false
          if (depth === 1 && inText && text.length < 16) text.push(byte)
          continue
        }
        if (byte === quote) {
          inText = true
          text = []
        } else if (byte === colon && depth === 1) {
          key = String.fromCharCode(...text)
        } else if (byte === openBrace || byte === openBracket) {
          if (inItems && depth === 2 && byte === openBrace) {
            keep(chunk.subarray(from, index))
            inItem = true
            from = index
          }
          depth += 1
          if (byte === openBracket && depth === 2 && key === 'items') inItems = true
        } else if (byte === closeBrace || byte === closeBracket) {
          depth -= 1
          if (depth === 1) inItems = false
          if (inItem && depth === 2) {
            keep(chunk.subarray(from, index + 1))
            inItem = false
            from = index + 1
            whole.push(JSON.parse(Buffer.concat(item).toString('utf8')))
            item = []
          }
        } else if (byte === comma && inItems && depth === 2) {
          keep(chunk.subarray(from, index))
          from = index + 1
        }
      }
      keep(chunk.subarray(from))
    },
    items: () => whole.splice(0),
    end: () => JSON.parse(Buffer.concat([...rest, ...item]).toString('utf8')) as unknown,
  }
}
