import { isDeepStrictEqual } from 'node:util'
import { Document, parse, visit } from 'yaml'

/**
 * YAML text of `value`, with a final newline, that every reader of Kubernetes takes for the same value.
 *
 * Two strings that the writer leaves plain are read as something else elsewhere: `0o17` is an integer for YAML 1.2 readers, and a
 * block whose first character is a tab is refused by go-yaml. Both are quoted, and the text is read back before it is used.
 */
export function yamlText(value: unknown, options: { readonly comment?: string } = {}): string {
  // Most files of a step are those of the step before: kustomizations, components, patches.
  const key = `${options.comment ?? ''}\0${JSON.stringify(value)}`
  const known = written.get(key)
  if (known !== undefined) return known
  const text = newText(value, options)
  if (key.length < 4096) {
    if (written.size >= 500) written.clear()
    written.set(key, text)
  }
  return text
}

const written = new Map<string, string>()

function newText(value: unknown, options: { readonly comment?: string }): string {
  const document = new Document(value, { version: '1.1', aliasDuplicateObjects: false })
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'string' && (/^[-+]?0o[0-7]+$/.test(node.value) || node.value.startsWith('\t'))) {
        node.type = 'QUOTE_DOUBLE'
      }
    },
  })
  if (options.comment !== undefined) document.commentBefore = options.comment
  const text = document.toString({ lineWidth: 0, indentSeq: true, directives: false })
  if (!isDeepStrictEqual(parse(text, { version: '1.1' }), JSON.parse(JSON.stringify(value)))) {
    throw new Error('the YAML writer did not keep a value; this is a defect of reanchor')
  }
  return text
}
