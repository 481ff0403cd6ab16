/** What people do to files by hand. */

export type Files = Readonly<Record<string, string>>

/** Puts one certificate in the place of another wherever it stands: PEM at any indent or as a JSON string, and base64 of a bundle. */
export function exchanged(files: Files, from: string, to: string): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([path, text]) => [path, exchangedIn(text, from, to)]))
}

function exchangedIn(text: string, from: string, to: string): string {
  const base64 = text.replace(/^(\s*[\w.-]+: )([A-Za-z0-9+/]{60,}={0,2})$/gm, (line, key: string, value: string) => {
    const decoded = Buffer.from(value, 'base64').toString('latin1')
    if (!decoded.includes(from.trimEnd())) return line
    return `${key}${Buffer.from(decoded.replaceAll(from.trimEnd(), to.trimEnd()), 'latin1').toString('base64')}`
  })
  const json = base64.replaceAll(from.trimEnd().replaceAll('\n', '\\n'), to.trimEnd().replaceAll('\n', '\\n'))
  const indents = new Set(
    [...json.matchAll(/^([ \t]*)-----BEGIN CERTIFICATE-----$/gm)].map(([, indent = '']) => indent),
  )
  return [...indents].reduce((all, indent) => all.replaceAll(indented(from, indent), indented(to, indent)), json)
}

function indented(pem: string, indent: string): string {
  return pem
    .trimEnd()
    .split('\n')
    .map(line => `${indent}${line}`)
    .join('\n')
}

export function without(files: Files, path: string): Record<string, string> {
  return Object.fromEntries(Object.entries(files).filter(([other]) => other !== path))
}
