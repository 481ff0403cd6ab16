/** How literal text stands in a Go template, which controllers render public values as. */

/** A template that renders to the text: what would be taken for an action is written as one that gives itself. */
export function literalTemplate(text: string): string {
  return text.replaceAll('{{', '{{"{{"}}')
}

/** What such a template renders to; null where it has other actions. */
export function renderedTemplate(text: string): string | null {
  const pieces = text.split('{{"{{"}}')
  return pieces.some(piece => piece.includes('{{')) ? null : pieces.join('{{')
}
