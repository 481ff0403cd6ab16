import { at, groupOf, type ManifestObject, type Plain, textAt } from './manifests.ts'

/** A patch target that cannot be evaluated. */
export class SelectorError extends Error {}

/** An object with the names that it had before prefixes and namespaces changed them; the first is the original. */
export interface Selectable {
  readonly object: ManifestObject
  readonly former: readonly { readonly name: string; readonly namespace: string }[]
}

/** Kustomize's patch target: every field given must match, each as a regular expression for the whole value. */
export function targetMatcher(
  target: Plain,
  effectiveNamespace: (object: ManifestObject) => string,
): (candidate: Selectable) => boolean {
  const group = pattern(target, 'group')
  const version = pattern(target, 'version')
  const kind = pattern(target, 'kind')
  const name = pattern(target, 'name')
  const namespace = pattern(target, 'namespace')
  const labels = labelMatcher(textAt(target, 'labelSelector') ?? '')
  const annotations = labelMatcher(textAt(target, 'annotationSelector') ?? '')
  return ({ object, former }) => {
    const original = former[0]
    const versionText = object.apiVersion.slice(object.apiVersion.indexOf('/') + 1)
    return (
      group(groupOf(object.apiVersion)) &&
      version(versionText) &&
      kind(object.kind) &&
      (name(object.metadata.name) || (original !== undefined && name(original.name))) &&
      (namespace(effectiveNamespace(object)) || (original !== undefined && namespace(original.namespace))) &&
      labels(object.metadata.labels ?? {}) &&
      annotations(object.metadata.annotations ?? {})
    )
  }
}

function pattern(target: Plain, field: string): (value: string) => boolean {
  const text = textAt(target, field)
  if (text === null) return () => true
  // Kustomize's engine is linear in time, this one is not: nested repetition could run for ever.
  if (text.length > 1000 || /[+*}]\)*[+*{]|\([^()]*[+*}][^()]*\)[+*{]/.test(text)) {
    throw new SelectorError(`target.${field}: the pattern ${JSON.stringify(text.slice(0, 80))} repeats a repetition`)
  }
  try {
    const expression = new RegExp(`^(?:${text})$`)
    return value => expression.test(value)
  } catch {
    throw new SelectorError(`target.${field}: ${JSON.stringify(text)} is not a regular expression`)
  }
}

type Labels = Readonly<Record<string, string>>

/** Kubernetes' label selector syntax: `a=b,c!=d,e in (x,y),f notin (z),g,!h`. */
export function labelMatcher(selector: string): (labels: Labels) => boolean {
  if (selector.trim() === '') return () => true
  const requirements = selector.split(/,(?![^(]*\))/).map(requirement)
  return labels => requirements.every(holds => holds(labels))
}

function requirement(text: string): (labels: Labels) => boolean {
  const set = /^\s*([^\s!=(),]+)\s+(in|notin)\s+\(([^()]*)\)\s*$/.exec(text)
  if (set !== null) {
    const key = set[1] ?? ''
    const values = (set[3] ?? '').split(',').map(value => value.trim())
    if (set[2] === 'in') return labels => labels[key] !== undefined && values.includes(labels[key])
    return labels => labels[key] === undefined || !values.includes(labels[key])
  }
  const equality = /^\s*([^\s!=(),]+)\s*(==|=|!=)\s*([^\s!=(),]*)\s*$/.exec(text)
  if (equality !== null) {
    const key = equality[1] ?? ''
    if (equality[2] === '!=') return labels => labels[key] !== equality[3]
    return labels => labels[key] === equality[3]
  }
  const existence = /^\s*(!?)\s*([^\s!=(),]+)\s*$/.exec(text)
  if (existence === null) throw new SelectorError(`cannot read the selector ${JSON.stringify(text)}`)
  const key = existence[2] ?? ''
  return labels => (at(labels, key) === undefined) === (existence[1] === '!')
}
