import { ClusterError, type KubernetesObject } from './cluster.ts'

type Shape = (value: unknown) => boolean

/** The metadata that `KubernetesObject` promises, and what each field of it is; everything else is read as of unknown shape. */
const metadataFields: readonly (readonly [name: string, expected: string, is: Shape])[] = [
  ['name', 'a name', value => typeof value === 'string' && value !== ''],
  ...(['namespace', 'uid', 'creationTimestamp', 'deletionTimestamp'] as const).map(
    name => [name, 'text', optional(isText)] as const,
  ),
  ['generation', 'a number', optional(value => typeof value === 'number')],
  ['labels', 'a map of texts', optional(isTextMap)],
  ['annotations', 'a map of texts', optional(isTextMap)],
  [
    'ownerReferences',
    'a list of owners',
    optional(listOf(owner => isText(owner.kind) && isText(owner.name) && optional(isText)(owner.uid))),
  ],
  [
    'managedFields',
    'a list of managers',
    optional(
      listOf(entry => ['manager', 'operation', 'subresource', 'time'].every(name => optional(isText)(entry[name]))),
    ),
  ],
]

/**
 * Takes an object of an answer for what it says it is, or throws `malformed`: whatever looks at objects relies on their metadata. The server writes these
 * fields itself, so a wrong one is another server's, or no whole answer; what cannot be read opens no gate.
 */
export function objectOf(value: unknown, asked: string): KubernetesObject {
  const metadata = isMap(value) ? value.metadata : undefined
  if (!isMap(metadata)) throw new ClusterError('malformed', asked, 'an object without metadata')
  for (const [name, expected, is] of metadataFields) {
    const found = metadata[name]
    if (is(found)) continue
    const shown = (JSON.stringify(found) ?? 'nothing').slice(0, 60)
    throw new ClusterError('malformed', asked, `an object whose metadata.${name} is not ${expected}, but ${shown}`)
  }
  return value as KubernetesObject
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function isTextMap(value: unknown): boolean {
  return isMap(value) && Object.values(value).every(isText)
}

function optional(is: Shape): Shape {
  return value => value === undefined || is(value)
}

function listOf(is: (item: Readonly<Record<string, unknown>>) => boolean): Shape {
  return value => Array.isArray(value) && value.every(item => isMap(item) && is(item))
}
