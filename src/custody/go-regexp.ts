import { ReanchorError, type Where } from '../errors.ts'

const posixClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  upper: 'A-Z',
  space: '\\t\\n\\v\\f\\r ',
  word: '\\w',
  xdigit: '0-9A-Fa-f',
}

/**
 * A regular expression in Go's syntax (https://github.com/google/re2/wiki/Syntax), which sops uses, as JavaScript's.
 * Covers what path rules are written with; throws for the rest rather than matching something else.
 */
export function goRegExp(source: string, where: Where): RegExp {
  const lead = /^\(\?([ims]+)\)/.exec(source)
  const body = source
    .slice(lead?.[0].length ?? 0)
    .replaceAll('(?P<', '(?<')
    .replaceAll(/\[:([a-z]+):\]/g, (whole, name: string) => posixClasses[name] ?? whole)
    .replaceAll(/\\(.)/g, escaped)
  try {
    if (/\(\?<?[=!]|\\[1-9]/.test(body)) throw new SyntaxError('look-around and back-references are not in Go syntax')
    // `u` makes JavaScript refuse escapes that it does not know, instead of taking them for a letter.
    return new RegExp(body, `u${lead?.[1] ?? ''}`)
  } catch (error) {
    throw new ReanchorError({
      what: 'the regular expression cannot be read',
      where,
      expected: 'a regular expression as sops reads it (Go syntax)',
      found: source.length > 200 ? `${source.slice(0, 200)}…` : source,
      todo: 'correct it, or name the recipients in rotation.yaml under spec.custody.sops.age',
      example: '^trust/.*\\.yaml$',
      cause: error,
    })
  }
}

function escaped(whole: string, letter: string): string {
  if (letter === 'A') return '^'
  if (letter === 'z') return '$'
  // Go allows a backslash before any punctuation; JavaScript with `u` only before the syntax characters.
  return /[-_~@%&,:;<>"'`#=! ]/.test(letter) ? `\\x${letter.charCodeAt(0).toString(16).padStart(2, '0')}` : whole
}
