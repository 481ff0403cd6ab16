import { visible } from '../escape.ts'

/** A piece of HTML that needs no escaping any more. Only `html` and `markup` make it. */
export interface Markup {
  readonly markup: string
}

export type Value = Markup | string | number | readonly Value[]

/** HTML in which every value is text, unless it was made by `html` itself: nobody has to think of escaping. */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  let text = parts[0] ?? ''
  for (const [index, value] of values.entries()) text += textOf(value) + (parts[index + 1] ?? '')
  return { markup: text }
}

export const nothing: Markup = { markup: '' }

/** A constant of our own, such as a style sheet. Never anything from elsewhere. */
export function constant(text: string): Markup {
  return { markup: text }
}

function textOf(value: Value): string {
  if (typeof value === 'string') return escaped(value)
  if (typeof value === 'number') return String(value)
  return 'markup' in value ? value.markup : value.map(textOf).join('')
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** For text and for attributes in quotes. Characters that hide or reorder show as escapes. */
function escaped(text: string): string {
  return visible(text).replace(/[&<>"']/g, char => entities[char] ?? char)
}

/** Our own sentences have `code` in backticks. */
export function sentence(text: string): Markup {
  return html`${text.split('`').map((part, index) => (index % 2 === 0 ? part : html`<code>${part}</code>`))}`
}
