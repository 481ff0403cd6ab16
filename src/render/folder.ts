import type { Custody } from '../custody/custody.ts'
import { type TrustHeader, type TrustPlace, trustHeader, trustText } from '../report/trust-txt.ts'
import type { FileTree } from '../rotation.ts'
import { yamlText } from './yaml.ts'

export interface Manifest {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Record<string, string>
    readonly annotations?: Record<string, string>
  }
  readonly type?: string
  readonly data?: Record<string, string>
}

export interface FolderObject {
  readonly manifest: Manifest
  /** Where it goes in the site's folder, and which values of its `data` custody seals; none: it is written as it is. */
  readonly file: { readonly path: string; readonly privateKeys: readonly string[] }
}

export interface FolderRendering {
  readonly header: TrustHeader
  readonly objects: readonly FolderObject[]
  /** Files that the kustomization does not list: Components, PEM files for reading, values. */
  readonly others: FileTree
  /** What trust.txt tells. */
  readonly places: readonly TrustPlace[]
  readonly custody: Custody
  /** The folder that the files will have in the repository: custody looks its rules up by destination. */
  readonly path: string
  readonly delivery: 'flux' | 'argocd'
}

/** One step's files of one site, relative to the site's folder: what reviewers see and the deliverer applies, byte for byte. */
export async function renderFolder(rendering: FolderRendering): Promise<FileTree> {
  const files = new Map<string, string>(rendering.others)
  const resources: string[] = []
  const generated: string[] = []
  // Argo CD decrypts nothing itself: KSOPS does, as a generator of the kustomization.
  const ksops = rendering.custody.kind === 'sops' && rendering.delivery === 'argocd'
  for (const { manifest, file } of rendering.objects) {
    const text = file.privateKeys.length > 0 ? await sealed(manifest, file, rendering) : yamlText(manifest)
    files.set(file.path, text)
    if (file.path.startsWith('components/')) continue
    if (ksops && file.privateKeys.length > 0) generated.push(file.path)
    else resources.push(file.path)
  }
  if (generated.length > 0) files.set('ksops.yaml', yamlText(ksopsGenerator(generated)))
  files.set(
    'kustomization.yaml',
    yamlText({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      ...(resources.length > 0 || generated.length === 0 ? { resources: resources.sort() } : {}),
      ...(generated.length > 0 ? { generators: ['ksops.yaml'] } : {}),
    }),
  )
  files.set('trust.txt', trustText({ header: trustHeader(rendering.header), places: rendering.places }))
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)))
}

export interface ComponentPatch {
  readonly path: string
  readonly target: { readonly group?: string; readonly kind: string; readonly name?: string }
}

/** A Component's kustomization, by its path. A patch always has a target: one without it breaks the owner's build where nothing matches. */
export function componentFile(component: string, patches: readonly ComponentPatch[]): readonly [string, string] {
  return [
    `components/${component}/kustomization.yaml`,
    yamlText({ apiVersion: 'kustomize.config.k8s.io/v1alpha1', kind: 'Component', patches }),
  ]
}

/** viaduct-ai/kustomize-sops, README, "Argo CD Integration": run as an exec plugin that Argo CD's repo server has in its path. */
function ksopsGenerator(files: readonly string[]): unknown {
  return {
    apiVersion: 'viaduct.ai/v1',
    kind: 'ksops',
    metadata: {
      name: 'reanchor',
      annotations: { 'config.kubernetes.io/function': 'exec:\n  path: ksops\n' },
    },
    files: [...files].sort().map(file => `./${file}`),
  }
}

async function sealed(
  manifest: Manifest,
  file: FolderObject['file'],
  { custody, path }: FolderRendering,
): Promise<string> {
  const { metadata } = manifest
  return custody.seal(
    {
      name: metadata.name,
      namespace: metadata.namespace ?? 'default',
      type: manifest.type ?? 'Opaque',
      labels: metadata.labels ?? {},
      annotations: metadata.annotations ?? {},
      data: Object.fromEntries(
        Object.entries(manifest.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
      ),
      privateKeys: file.privateKeys,
    },
    `${path}/${file.path}`,
  )
}
