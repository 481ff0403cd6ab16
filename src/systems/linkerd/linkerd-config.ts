import { isDeepStrictEqual } from 'node:util'
import { parseDocument, Scalar } from 'yaml'
import { ReanchorError } from '../../errors.ts'
import { parsedValues } from '../../gitops/helm.ts'
import { at } from '../../gitops/manifests.ts'

const object = 'ConfigMap linkerd-config'
const anchorsPath = ['identityContext', 'trustAnchorsPem'] as const

/** The anchors as `.data.global` holds them: `identityContext.trustAnchorsPem`, with a small m at the end. */
export function globalAnchors(json: string): string {
  const context = (parsed(json) as { identityContext?: { trustAnchorsPem?: unknown } | null }).identityContext
  const found = context?.trustAnchorsPem
  if (typeof found === 'string' && found.trim() !== '') return found
  throw new ReanchorError({
    what: 'linkerd-config holds no trust anchors',
    where: { object, field: 'data.global identityContext.trustAnchorsPem' },
    expected: 'the PEM of at least one certificate',
    found: found === undefined ? 'no such key' : 'an empty value',
    todo: 'check that identity is enabled; for 2.9 and later choose flow trust-roots',
  })
}

/** Which key of the ConfigMap's data holds the anchors: JSON up to 2.8, and Helm's values as YAML from 2.9 on. */
export function anchorsKey(data: unknown): 'global' | 'values' {
  return at(data, 'global') === undefined && typeof at(data, 'values') === 'string' ? 'values' : 'global'
}

/** The anchors of linkerd-config, in whichever form it has them. */
export function configAnchors(data: unknown): string {
  const key = anchorsKey(data)
  const text = at(data, key)
  if (key === 'global') return globalAnchors(typeof text === 'string' ? text : '')
  const values = parsedValues(typeof text === 'string' ? text : '')
  // 2.9 nests its values in `global`, 2.10 took it out.
  const found = at(values, 'global', 'identityTrustAnchorsPEM') ?? at(values, 'identityTrustAnchorsPEM')
  if (typeof found === 'string' && found.trim() !== '') return found
  throw new ReanchorError({
    what: 'linkerd-config holds no trust anchors',
    where: { object, field: 'data.values identityTrustAnchorsPEM' },
    expected: 'the PEM of at least one certificate',
    found: found === undefined ? 'no such key' : 'an empty value',
    todo: 'check that identity is enabled',
  })
}

/**
 * The same JSON with other anchors. Only that one string changes: `kubectl edit` of a person keeps the rest as well, and so stay key
 * order, spaces and Go's own escapes (CLI installs write it compact, Helm installs with indentation).
 */
export function withGlobalAnchors(json: string, anchors: string): string {
  const before = parsed(json)
  globalAnchors(json)
  const [start, end] = stringAt(json, anchorsPath)
  const after = json.slice(0, start) + JSON.stringify(anchors) + json.slice(end)
  const wanted = structuredClone(before) as { identityContext: { trustAnchorsPem: string } }
  wanted.identityContext.trustAnchorsPem = anchors
  if (!isDeepStrictEqual(parsed(after), wanted))
    throw new Error('another key of linkerd-config changed with the anchors')
  return after
}

/** Helm values of `.data.values` with other anchors. Readers of 2.10 and later take a legacy `global` map too, so it is kept where it is. */
export function withValuesAnchors(yaml: string, anchors: string): string {
  const document = parseDocument(yaml)
  const legacy = document.hasIn(['global', 'identityTrustAnchorsPEM'])
  const value = new Scalar(anchors)
  value.type = Scalar.BLOCK_LITERAL
  document.setIn(legacy ? ['global', 'identityTrustAnchorsPEM'] : ['identityTrustAnchorsPEM'], value)
  return document.toString({ lineWidth: 0 })
}

function parsed(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Said below: the error of JSON.parse quotes the text.
  }
  throw new ReanchorError({
    what: 'data.global is no JSON object',
    where: { object, field: 'data.global' },
    expected: 'the JSON that linkerd install up to 2.8 writes, as one string',
    todo: 'a broken escape of a newline is the usual cause: each must stand as \\n, once',
  })
}

/** Start and end of the string token at a path. JSON.parse has accepted the text before. */
function stringAt(json: string, path: readonly string[]): readonly [number, number] {
  let at = 0
  const blanks = () => {
    while (/\s/.test(json[at] ?? '')) at++
  }
  const string = (): string => {
    const from = at++
    while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1
    at++
    return JSON.parse(json.slice(from, at)) as string
  }
  /** Steps over one value; the place of the wanted one where it is inside. */
  const value = (left: readonly string[] | null): readonly [number, number] | null => {
    blanks()
    const first = json[at]
    if (first === '"') {
      const from = at
      string()
      return left?.length === 0 ? [from, at] : null
    }
    if (first !== '{' && first !== '[') {
      while (at < json.length && !/[,\]}\s]/.test(json[at] ?? '')) at++
      return null
    }
    at++
    let found: readonly [number, number] | null = null
    for (;;) {
      blanks()
      if (json[at] === '}' || json[at] === ']') break
      if (json[at] === ',') {
        at++
        continue
      }
      let deeper: readonly string[] | null = null
      if (first === '{') {
        const key = string()
        blanks()
        at++
        deeper = left !== null && left[0] === key ? left.slice(1) : null
      }
      // Of a repeated key the last one counts, as for Go and for JSON.parse.
      found = value(deeper) ?? found
    }
    at++
    return found
  }
  const found = value(path)
  if (found === null) throw new Error('no string at the path')
  return found
}
