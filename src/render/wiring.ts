import { posix } from 'node:path'
import { ReanchorError } from '../errors.ts'
import { folderOf } from '../gitops/paths.ts'
import { parsedFile } from '../gitops/manifests.ts'
import type { Declaration, DeliveryChoice, FileTree, ReloadTarget, Site, WiringPoint } from '../rotation.ts'
import { workloadsKey } from '../systems/istio/phases.ts'
import { yamlText } from './yaml.ts'

const kustomizationNames = ['kustomization.yaml', 'kustomization.yml', 'Kustomization']

/** The kustomization file of a folder, or null where the deliverer would make one up from all files. */
export function kustomizationFile(files: FileTree, folder: string): string | null {
  return kustomizationNames.map(name => posix.join(folder, name)).find(path => files.has(path)) ?? null
}

/**
 * Every place in the user's own files that `adopt` wires, once: after it, a phase changes nothing outside its site folders.
 * Pure: `files` is the base branch as it is.
 */
export function wiringOf(declaration: Declaration, site: Site, files: FileTree): readonly WiringPoint[] {
  const points: WiringPoint[] = [...deliveryPoints(declaration, site, files)]
  const controlPlane = declaration.istio.controlPlane[site.name]
  if (controlPlane !== undefined) {
    if (declaration.istio.install === 'sail') {
      points.push(componentPoint(site, controlPlane.path, 'istiod', "lets the site's folder set istiod's flags and restart token", files))
    }
    if (declaration.istio.install === 'helmRelease') points.push(...helmReleasePoints(site, controlPlane, files))
    if (declaration.istio.install === 'helmValues' || declaration.istio.install === 'argoApplication') {
      points.push(...applicationPoints(site, controlPlane, files))
    }
  }
  for (const target of declaration.reload.filter(each => each.site === site.name)) points.push(reloadPoint(site, target, files))
  return points
}

function reloadPoint(site: Site, target: ReloadTarget, files: FileTree): WiringPoint {
  return componentPoint(site, target.path, workloadsKey(target.batch), 'lets the site’s folder restart these workloads', files)
}

/** Takes a Component of the site's folder into the kustomization of `folder`, or into the Flux Kustomization that builds it. */
function componentPoint(site: Site, folder: string, component: string, purpose: string, files: FileTree): WiringPoint {
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
export function objectsOf(files: FileTree, group: string, kind: string): readonly FoundObject[] {
  const found: FoundObject[] = []
  for (const file of files.keys()) {
    if (!/\.ya?ml$/.test(file)) continue
    // Most files of a repository hold no such object: a look at the text is far cheaper than parsing all of them.
    if (!files.get(file)?.includes(`kind: ${kind}`)) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      const object = value as { apiVersion?: unknown; kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } } | null
      if (object?.kind !== kind || typeof object.apiVersion !== 'string' || !object.apiVersion.startsWith(`${group}/`)) continue
      const { name, namespace } = object.metadata ?? {}
      if (typeof name !== 'string') continue
      found.push({ file, name, namespace: typeof namespace === 'string' ? namespace : null, value: value as Record<string, unknown> })
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

function deliveryPoints(declaration: Declaration, site: Site, files: FileTree): readonly WiringPoint[] {
  const { delivery } = site
  if (delivery.file === null) return []
  const kind = delivery.kind === 'flux' ? 'Kustomization' : 'Application'
  const group = delivery.kind === 'flux' ? 'kustomize.toolkit.fluxcd.io' : 'argoproj.io'
  const existing = objectsOf(files, group, kind).find(
    object => object.file === delivery.file && object.name === delivery.name && object.namespace === delivery.namespace,
  )
  if (existing !== undefined) return existingDelivery(site, delivery, delivery.file)
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
      edit: { kind: 'create', content: deliveryObject(declaration, site) },
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
function existingDelivery(site: Site, delivery: DeliveryChoice, file: string): readonly WiringPoint[] {
  if (delivery.kind === 'argocd') {
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
  if (site.custody === null || site.custody.kind === 'sops') {
    points.push(point('Flux unseals with this key', ['spec', 'decryption'], decryption(delivery.decryptionSecret)))
  }
  return points
}

function decryption(secret: string): unknown {
  return { provider: 'sops', secretRef: { name: secret } }
}

/** The object that makes Flux or Argo CD apply the site's folder. */
function deliveryObject(declaration: Declaration, site: Site): string {
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
      destination: { server: 'https://kubernetes.default.svc', namespace: declaration.istio.namespace },
      syncPolicy: { automated: { prune: false, selfHeal: true }, syncOptions: ['ServerSideApply=true'] },
    },
  })
}

/** Inline values win over valuesFrom, so the keys that reanchor manages move out of them. */
function helmReleasePoints(
  site: Site,
  controlPlane: { readonly file: string; readonly name: string },
  files: FileTree,
): readonly WiringPoint[] {
  const release = objectsOf(files, 'helm.toolkit.fluxcd.io', 'HelmRelease').find(
    object => object.file === controlPlane.file && object.name === controlPlane.name,
  )
  if (release === undefined) {
    throw new ReanchorError({
      what: `no HelmRelease ${controlPlane.name} in this file`,
      where: { file: controlPlane.file },
      expected: 'the HelmRelease that installs istiod',
      todo: 'correct istio.controlPlane of this site in rotation.yaml',
    })
  }
  const document = { kind: 'HelmRelease', name: release.name, namespace: release.namespace }
  const points: WiringPoint[] = managedPaths
    .filter(at => valueAt(release.value, ['spec', 'values', ...at]) !== undefined)
    .map(at => ({
      site: site.name,
      file: release.file,
      purpose: 'inline values win over valuesFrom, so this key moves into the site’s folder',
      edit: { kind: 'remove', document, at: ['spec', 'values', ...at] },
    }))
  points.push({
    site: site.name,
    file: release.file,
    purpose: "lets the site's folder set istiod's flags and restart token",
    edit: {
      kind: 'listItem',
      document,
      at: ['spec', 'valuesFrom'],
      value: { kind: 'ConfigMap', name: 'reanchor-istiod-values' },
    },
  })
  return points
}

/** Chart values that reanchor's steps set. */
export const managedPaths: readonly (readonly string[])[] = [
  ['pilot', 'env', 'ISTIO_MULTIROOT_MESH'],
  ['meshConfig', 'defaultConfig', 'proxyMetadata', 'PROXY_CONFIG_XDS_AGENT'],
  ['pilot', 'podAnnotations', 'reanchor.dev/trust'],
]

function valueAt(value: unknown, path: readonly string[]): unknown {
  let at: unknown = value
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return undefined
    at = (at as Record<string, unknown>)[key]
  }
  return at
}

/** Argo CD: a chart in this repository takes one more values file; a chart elsewhere takes this repository as a second source. */
function applicationPoints(
  site: Site,
  controlPlane: { readonly file: string; readonly name: string },
  files: FileTree,
): readonly WiringPoint[] {
  const application = objectsOf(files, 'argoproj.io', 'Application').find(
    object => object.file === controlPlane.file && object.name === controlPlane.name,
  )
  if (application === undefined) {
    throw new ReanchorError({
      what: `no Application ${controlPlane.name} in this file`,
      where: { file: controlPlane.file },
      expected: 'the Argo CD Application that installs istiod',
      todo: 'correct istio.controlPlane of this site in rotation.yaml',
    })
  }
  const document = { kind: 'Application', name: application.name, namespace: application.namespace }
  const spec = application.value.spec as { source?: { path?: unknown; chart?: unknown }; sources?: unknown } | undefined
  const values = `${site.path}/istiod-values.yaml`
  const path = spec?.source?.path
  const purpose = "lets the site's folder set istiod's flags and restart token"
  if (typeof path === 'string') {
    return [
      {
        site: site.name,
        file: application.file,
        purpose,
        edit: { kind: 'listItem', document, at: ['spec', 'source', 'helm', 'valueFiles'], value: posix.relative(path, values) },
      },
    ]
  }
  return multiSourcePoints(site, application, document, values, purpose)
}

function multiSourcePoints(
  site: Site,
  application: FoundObject,
  document: { readonly kind: string; readonly name: string; readonly namespace: string | null },
  values: string,
  purpose: string,
): readonly WiringPoint[] {
  const spec = application.value.spec as { source?: Record<string, unknown>; sources?: readonly Record<string, unknown>[] } | undefined
  const repoURL = site.delivery.kind === 'argocd' ? site.delivery.repoURL : null
  const chart = spec?.source ?? spec?.sources?.find(source => source.chart !== undefined)
  if (repoURL === null || chart === undefined) {
    throw new ReanchorError({
      what: 'the Application’s chart lies elsewhere, so it needs this repository as a second source',
      where: { file: application.file, object: `Application ${application.name}` },
      expected: 'delivery.argocd.repoURL of this site, and a source with a chart',
      todo: 'add repoURL to the site in rotation.yaml',
    })
  }
  const helm = (chart.helm ?? {}) as { readonly valueFiles?: readonly string[] }
  const withFile = { ...chart, helm: { ...helm, valueFiles: [...(helm.valueFiles ?? []), `$reanchor/${values}`] } }
  const others = (spec?.sources ?? []).filter(source => source !== chart)
  const sources = [withFile, ...others, { repoURL, targetRevision: site.base ?? 'HEAD', ref: 'reanchor' }]
  const points: WiringPoint[] = [
    { site: site.name, file: application.file, purpose, edit: { kind: 'set', document, at: ['spec', 'sources'], value: sources } },
  ]
  if (spec?.source !== undefined) {
    points.push({
      site: site.name,
      file: application.file,
      purpose: 'Argo CD ignores `source` once there is `sources`',
      edit: { kind: 'remove', document, at: ['spec', 'source'] },
    })
  }
  return points
}
