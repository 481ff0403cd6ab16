import { join } from 'node:path'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest } from './objects.ts'
import { until } from './server.ts'

const definition = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' } as const

/** Applies CustomResourceDefinitions of the shared data by their file names, and bare ones, and waits until they are served. */
export async function applyKinds(
  plane: Pick<ControlPlane, 'objects'>,
  files: readonly string[],
  bare: readonly Manifest[] = [],
): Promise<void> {
  const { objects } = plane
  const folder = join(process.env.REANCHOR_DATA ?? '../shared/data', 'crds')
  for (const file of files) await objects.applyFile(join(folder, `${file}.yaml`))
  for (const manifest of bare) await objects.apply(manifest)
  await until('every kind is served', async () => {
    const known = await objects.list(definition.apiVersion, definition.kind)
    return known.every(isEstablished)
  })
}

function isEstablished(manifest: Manifest): boolean {
  const status = manifest.status as { readonly conditions?: readonly { type: string; status: string }[] } | undefined
  return (status?.conditions ?? []).some(({ type, status }) => type === 'Established' && status === 'True')
}

/** A kind that takes anything: for what a controller insists on watching, and where the shared data has a form that API servers serve no longer. */
export function bareKind(
  group: string,
  kind: string,
  plural: string,
  how: { readonly version?: string; readonly scope?: 'Namespaced' | 'Cluster'; readonly status?: false } = {},
): Manifest {
  const subresources = how.status === false ? {} : { subresources: { status: {} } }
  const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } }
  return {
    ...definition,
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: how.scope ?? 'Namespaced',
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: how.version ?? 'v1', served: true, storage: true, schema, ...subresources }],
    },
  }
}
