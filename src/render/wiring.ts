import { posix } from 'node:path'
import { ReanchorError } from '../errors.ts'
import { argoObjects } from '../gitops/argocd.ts'
import { valueAt } from '../gitops/helm.ts'
import { kustomizationFile } from '../gitops/kustomize-load.ts'
import { parsedFile } from '../gitops/manifests.ts'
import { folderOf } from '../gitops/paths.ts'
import type { Declaration, FileTree, Site, WiringPoint } from '../rotation.ts'
import { yamlText } from './yaml.ts'

/** Takes a Component of the site's folder into the kustomization of `folder`, or into the Flux Kustomization that builds it. */
export function componentPoint(
  site: Site,
  folder: string,
  component: string,
  purpose: string,
  files: FileTree,
): WiringPoint {
  const value = posix.relative(folder, `${site.path}/components/${component}`)
  const file = kustomizationFile(files, folder)
  if (file !== null) {
    return { site: site.name, file, purpose, edit: { kind: 'listItem', document: 'single', at: ['components'], value } }
  }
  const builder = fluxBuilderOf(files, folder)
  if (builder === null) {
    throw new ReanchorError({
      what: 'nothing builds this folder, so its objects cannot be patched',
      where: { file: folder },
      expected: 'a kustomization.yaml in it, or a Flux Kustomization whose spec.path is this folder',
      found: 'neither',
      todo: 'name the folder that is really built, or add a kustomization.yaml that lists its resources',
      example: 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [istio.yaml]',
    })
  }
  return {
    site: site.name,
    file: builder.file,
    purpose,
    edit: {
      kind: 'listItem',
      document: { kind: 'Kustomization', name: builder.name, namespace: builder.namespace },
      at: ['spec', 'components'],
      value,
    },
  }
}

interface FoundObject {
  readonly file: string
  readonly name: string
  readonly namespace: string | null
  readonly value: Record<string, unknown>
}

/** Objects of a kind in the tree, by API group. */
function objectsOf(files: FileTree, group: string, kind: string): readonly FoundObject[] {
  const found: FoundObject[] = []
  for (const file of files.keys()) {
    if (!/\.ya?ml$/.test(file)) continue
    // Most files of a repository hold no such object: a look at the text is far cheaper than parsing all of them.
    if (!files.get(file)?.includes(`kind: ${kind}`)) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      const object = value as {
        apiVersion?: unknown
        kind?: unknown
        metadata?: { name?: unknown; namespace?: unknown }
      } | null
      if (object?.kind !== kind || typeof object.apiVersion !== 'string' || !object.apiVersion.startsWith(`${group}/`))
        continue
      const { name, namespace } = object.metadata ?? {}
      if (typeof name !== 'string') continue
      found.push({
        file,
        name,
        namespace: typeof namespace === 'string' ? namespace : null,
        value: value as Record<string, unknown>,
      })
    }
  }
  return found
}

function fluxBuilderOf(files: FileTree, folder: string): FoundObject | null {
  const wanted = posix.normalize(folder)
  const builders = objectsOf(files, 'kustomize.toolkit.fluxcd.io', 'Kustomization').filter(object => {
    const path = (object.value.spec as { path?: unknown } | undefined)?.path
    return typeof path === 'string' && posix.normalize(path).replace(/\/$/, '') === wanted
  })
  return builders[0] ?? null
}

export interface DeliveryTarget {
  /** Where the new Application's objects go by default. */
  readonly namespace: string
  /** The cluster that the new Application goes to. */
  readonly destination: () => { readonly server: string } | { readonly name: string }
}

/** What makes Flux or Argo CD apply the site's folder, and prune nothing in it. */
export function deliveryPoints(
  declaration: Declaration,
  site: Site,
  files: FileTree,
  target: DeliveryTarget,
): readonly WiringPoint[] {
  const { delivery } = site
  if (delivery.file === null) return []
  const kind = delivery.kind === 'flux' ? 'Kustomization' : 'Application'
  const group = delivery.kind === 'flux' ? 'kustomize.toolkit.fluxcd.io' : 'argoproj.io'
  const existing = objectsOf(files, group, kind).find(
    object => object.file === delivery.file && object.name === delivery.name && object.namespace === delivery.namespace,
  )
  if (existing !== undefined) return existingDelivery(declaration, site, delivery.file, existing)
  if (files.has(delivery.file)) {
    throw new ReanchorError({
      what: `the file exists, but holds no ${kind} ${delivery.namespace}/${delivery.name}`,
      where: { file: delivery.file },
      expected: 'a file that adopt can create, or one that holds that object',
      todo: `name a new file as delivery.${delivery.kind}.file of site ${site.name}, or add the object to this one`,
    })
  }
  const points: WiringPoint[] = [
    {
      site: site.name,
      file: delivery.file,
      purpose: `${delivery.kind === 'flux' ? 'Flux' : 'Argo CD'} applies the site's folder, and prunes nothing`,
      edit: { kind: 'create', content: deliveryObject(declaration, site, target) },
    },
  ]
  const folder = folderOf(delivery.file)
  const list = kustomizationFile(files, folder)
  if (list !== null) {
    points.push({
      site: site.name,
      file: list,
      purpose: 'takes the new file in',
      edit: { kind: 'listItem', document: 'single', at: ['resources'], value: posix.basename(delivery.file) },
    })
  }
  return points
}

/** A deliverer that is there already: pruning is switched off before ownership of anything moves. */
function existingDelivery(
  declaration: Declaration,
  site: Site,
  file: string,
  existing: FoundObject,
): readonly WiringPoint[] {
  const { delivery } = site
  if (delivery.kind === 'argocd') {
    const automated = valueAt(existing.value, ['spec', 'syncPolicy', 'automated'])
    // Without automatic sync nothing is pruned either; a key below would switch it on.
    if (automated === undefined || automated === null) return []
    const document = { kind: 'Application', name: delivery.name, namespace: delivery.namespace }
    return [
      {
        site: site.name,
        file,
        purpose: 'Argo CD prunes nothing here',
        edit: { kind: 'set', document, at: ['spec', 'syncPolicy', 'automated', 'prune'], value: false },
      },
    ]
  }
  const document = { kind: 'Kustomization', name: delivery.name, namespace: delivery.namespace }
  const point = (purpose: string, at: readonly string[], value: unknown): WiringPoint => ({
    site: site.name,
    file,
    purpose,
    edit: { kind: 'set', document, at, value },
  })
  const points = [point('Flux prunes nothing here', ['spec', 'prune'], false)]
  if ((site.custody ?? declaration.custody).kind === 'sops') {
    points.push(point('Flux unseals with this key', ['spec', 'decryption'], decryption(delivery.decryptionSecret)))
  }
  return points
}

function decryption(secret: string): unknown {
  return { provider: 'sops', secretRef: { name: secret } }
}

/** kstatus knows nothing of `Synced`: without this a SealedSecret that does not open counts as ready (fluxcd.io, CEL health checks library). */
const sealedHealth = [
  {
    apiVersion: 'bitnami.com/v1alpha1',
    kind: 'SealedSecret',
    failed: "status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'False')",
    current: "status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'True')",
  },
]

/** The object that makes Flux or Argo CD apply the site's folder. */
function deliveryObject(declaration: Declaration, site: Site, target: DeliveryTarget): string {
  const { delivery } = site
  if (delivery.kind === 'flux') {
    const { source } = delivery
    const custody = site.custody ?? declaration.custody
    return yamlText({
      apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
      kind: 'Kustomization',
      metadata: { name: delivery.name, namespace: delivery.namespace },
      spec: {
        interval: '10m',
        retryInterval: '1m',
        timeout: '3m',
        path: `./${site.path}`,
        // A Secret that left the folder by mistake must stay in the cluster.
        prune: false,
        wait: true,
        sourceRef: {
          kind: 'GitRepository',
          name: source.name,
          ...(source.namespace === delivery.namespace ? {} : { namespace: source.namespace }),
        },
        ...(custody.kind === 'sops' ? { decryption: decryption(delivery.decryptionSecret) } : {}),
        ...(custody.kind === 'sealedSecrets' ? { healthCheckExprs: sealedHealth } : {}),
      },
    })
  }
  if (delivery.repoURL === null) {
    throw new ReanchorError({
      what: 'the new Application needs the address of this repository',
      where: { field: `spec.sites[${site.name}].delivery.argocd.repoURL` },
      todo: 'add repoURL, as your other Applications have it',
    })
  }
  return yamlText({
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'Application',
    metadata: { name: delivery.name, namespace: delivery.namespace },
    spec: {
      project: delivery.project,
      source: { repoURL: delivery.repoURL, targetRevision: site.base ?? declaration.base, path: site.path },
      destination: { ...target.destination(), namespace: target.namespace },
      syncPolicy: {
        automated: { prune: false, selfHeal: true },
        // An automatic sync that failed is not tried again for the same commit.
        retry: { limit: 5 },
        syncOptions: ['ServerSideApply=true'],
      },
    },
  })
}

/**
 * The cluster that the site's other Applications go to: an Argo CD that serves several clusters tells them apart by this. `carrier` is the
 * Application that installs the system, where there is one; `folders` are those that the wiring is in.
 */
export function destinationBeside(
  files: FileTree,
  carrier: { readonly file: string; readonly name: string } | null,
  folders: readonly (string | undefined)[],
): ReturnType<DeliveryTarget['destination']> {
  const { applications } = argoObjects(files)
  const beside =
    applications.find(each => carrier !== null && each.file === carrier.file && each.name === carrier.name) ??
    applications.find(({ sources }) => sources.some(({ path }) => path !== null && folders.includes(path)))
  const { server, name } = beside?.destination ?? { server: null, name: null }
  if (server === null && name !== null) return { name }
  return { server: server ?? 'https://kubernetes.default.svc' }
}
